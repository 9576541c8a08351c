/** What a file is, by its first bytes, as far as it matters at the edge; and names that programs run by. */

export type ContentKind = 'program' | 'zip' | 'ole' | 'archive' | 'pdf' | 'other';

const startsWith: readonly (readonly [start: string, kind: ContentKind])[] = [
  ['4d5a', 'program'], // DOS, Windows
  ['7f454c46', 'program'], // ELF
  ['feedface', 'program'], // Mach-O
  ['feedfacf', 'program'],
  ['cefaedfe', 'program'],
  ['cffaedfe', 'program'],
  ['cafebabe', 'program'], // Java class, universal Mach-O
  ['0061736d', 'program'], // WebAssembly
  ['4c0000000114020000000000c000000000000046', 'program'], // Windows shortcut
  ['4954534603', 'program'], // compiled HTML help
  ['504b0304', 'zip'],
  ['504b0506', 'zip'], // an empty one
  ['504b0708', 'zip'],
  ['d0cf11e0a1b11ae1', 'ole'], // old Office documents, installers
  ['1f8b', 'archive'], // gzip
  ['425a68', 'archive'], // bzip2
  ['fd377a585a00', 'archive'], // xz
  ['377abcaf271c', 'archive'], // 7z
  ['526172211a07', 'archive'], // rar
  ['4d534346', 'archive'], // cab
  ['25504446', 'pdf'],
];

/** @param beginning  The first bytes, 4 KiB are enough. */
export function contentKind(beginning: Buffer): ContentKind {
  const hex = beginning.toString('hex', 0, 20);
  const found = startsWith.find(([start]) => hex.startsWith(start));
  if (found !== undefined) return found[1];
  const text = beginning
    .toString('latin1', 0, 512)
    .replace(/^\xef\xbb\xbf/, '')
    .trimStart();
  if (/^#![ \t]{0,10}\/|^@echo off/i.test(text)) return 'program';
  if (/^<(?:job|package|hta:application|script)\b/i.test(text)) return 'program';
  return 'other';
}

/** Endings that Windows, macOS or a desktop runs when the file is opened. */
const programEndings = new Set(
  (
    'ade adp apk app appx bat cab chm cmd com cpl diagcab dll dmg exe hta img ins iso isp jar jnlp js jse lnk mde ' +
    'msc msi msix msp mst nsh ocx pif ps1 psd1 psm1 reg scf scr sct shb shs sys vb vbe vbs vhd vhdx vxd wsc wsf wsh xll'
  ).split(' '),
);

export function isProgramName(name: string): boolean {
  const ending = /\.([a-z0-9]{1,8})[\s.]{0,100}$/i.exec(name)?.[1];
  return ending !== undefined && programEndings.has(ending.toLowerCase());
}
