/**
 * Which attachments may come. Judged by what a file is, not by what it is called:
 * the first bytes tell programs, scripts, disk images and archives, and what is
 * in a zip archive is looked at within limits. What cannot be looked at (encrypted,
 * too deep, too large, broken) is never called clean: `unclear` says what it means.
 */

import { definePlugin, type MessagePart, pass, quarantine, reject, type Verdict } from './api.ts';
import { contentKind, isProgramName } from './attachment-policy/content-kind.ts';
import { listZip } from './attachment-policy/zip-listing.ts';

/** What a finding may lead to. */
const actions = ['pass', 'quarantine', 'reject'] as const;

export default definePlugin({
  name: 'attachment-policy',
  deadline: '30s',
  onFailure: 'defer',
  sideBySide: true,
  options: {
    programs: {
      kind: 'choice',
      default: 'reject',
      choices: actions,
      doc: 'Programs and scripts, by content or by name, and archives that hold one.',
    },
    macros: {
      kind: 'choice',
      default: 'quarantine',
      choices: actions,
      doc: 'Office documents with macros.',
    },
    encrypted: {
      kind: 'choice',
      default: 'quarantine',
      choices: actions,
      doc: 'Archives with a password.',
    },
    unclear: {
      kind: 'choice',
      default: 'quarantine',
      choices: actions,
      doc: 'Archives that are broken or beyond the limits.',
    },
    double_names: {
      kind: 'choice',
      default: 'quarantine',
      choices: actions,
      doc: 'Names that hide what they are: "invoice.pdf.exe", a right-to-left override.',
    },
    archive_bytes_max: { kind: 'size', default: '32MiB', doc: 'Archives up to this size are looked into.' },
    archive_depth_max: { kind: 'count', default: 3, min: 1, max: 10, doc: 'Archives within archives.' },
    archive_files_max: { kind: 'count', default: 2000, min: 1, doc: 'Files of all archives of a message.' },
    archive_ratio_max: {
      kind: 'count',
      default: 200,
      min: 2,
      doc: 'How many times its size an archive may unpack to; more is a bomb, and unclear.',
    },
  },
  start(options, { count }) {
    const limits = {
      depthMax: options.archive_depth_max,
      filesMax: options.archive_files_max,
      ratioMax: options.archive_ratio_max,
      bytesMax: options.archive_bytes_max,
    };
    const findings = async (
      part: MessagePart,
    ): Promise<
      [
        what: keyof Pick<typeof options, 'programs' | 'macros' | 'encrypted' | 'unclear' | 'double_names'>,
        why: string,
      ][]
    > => {
      const found: Awaited<ReturnType<typeof findings>> = [];
      const name = part.fileName || part.path;
      if (hidesItsKind(part.fileName)) found.push(['double_names', name]);
      if (isProgramName(part.fileName)) found.push(['programs', name]);
      const kind = contentKind(await part.bytes(4096));
      if (kind === 'program') found.push(['programs', `${name}: a program by its content`]);
      if (kind === 'ole' && /vba|macros/i.test((await part.bytes(256 * 1024)).toString('latin1')))
        found.push(['macros', name]);
      if (kind !== 'zip') return found;
      if (part.encodedBytes > options.archive_bytes_max * 1.4)
        return [...found, ['unclear', `${name}: too large`]];
      const listing = await listZip(await part.bytes(options.archive_bytes_max + 1), limits);
      if (listing.problem !== undefined) found.push(['unclear', `${name}: ${listing.problem}`]);
      if (listing.encrypted) found.push(['encrypted', name]);
      const macro = listing.names.find((inner) => /(?:^|\/)vbaProject\.bin$/i.test(inner));
      if (macro !== undefined) found.push(['macros', `${name}: ${macro}`]);
      const program =
        listing.names.find((inner) => isProgramName(inner) || hidesItsKind(inner)) ?? listing.program;
      if (program !== undefined) found.push(['programs', `${name}: ${program}`]);
      return found;
    };
    return {
      asked: {
        async message(_session, message): Promise<Verdict> {
          let worst: Verdict = pass;
          for (const part of await message.parts()) {
            if (part.type.startsWith('text/') && part.disposition !== 'attachment' && part.fileName === '')
              continue;
            for (const [what, why] of await findings(part)) {
              const log = `${what}: ${why}`.slice(0, 300);
              count(what);
              if (options[what] === 'reject') return reject('Attachment not accepted', log);
              if (options[what] === 'quarantine' && !worst.quarantine) worst = quarantine(log);
            }
          }
          return worst;
        },
      },
    };
  },
});

/** `invoice.pdf.exe`, or a name turned around by U+202E. */
export function hidesItsKind(name: string): boolean {
  if (/[\u202a-\u202e\u2066-\u2069]/.test(name)) return true;
  const harmless =
    /\.(?:pdf|docx?|xlsx?|pptx?|jpe?g|png|gif|txt|csv|zip|mp3|mp4)[\s_]{0,100}\.([a-z0-9]{2,4})$/i.exec(name);
  return harmless !== null && isProgramName(name);
}
