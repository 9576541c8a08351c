/** Reads a whole account anew, as a client does that knows nothing. */
import { flagsIn } from './mailbox-model.ts';
import { flagWords, type ModelSession } from './session.ts';

export interface ReadFolder {
  readonly name: string;
  readonly uidNext: number;
  readonly uidValidity: number;
  /** In the words of `contentsOf`. */
  readonly contents: string;
  readonly uidById: ReadonlyMap<string, number>;
}

export async function readAccount(session: ModelSession): Promise<ReadFolder[]> {
  const list = await session.run('LIST "" *');
  const names = list.lines.flatMap((line) =>
    line.startsWith('* LIST') && !/\\no(?:select|nexistent)/i.test(line)
      ? [line.split(' ').at(-1)!.replace(/"/g, '')]
      : [],
  );
  const folders: ReadFolder[] = [];
  for (const name of names) folders.push(await readFolder(session, name));
  return folders;
}

async function readFolder(session: ModelSession, name: string): Promise<ReadFolder> {
  const selected = (await session.run(`EXAMINE ${name}`)).lines.join('\n');
  const answer = await session.run('UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (X-Id)])');
  await session.run('UNSELECT');
  const uidById = new Map<string, number>();
  const contents: string[] = [];
  for (const line of answer.lines) {
    const uid = /\bUID (\d+)/.exec(line)?.[1];
    if (uid === undefined) continue;
    const id = /X-Id: (\S+)/.exec(line)?.[1] ?? 'none';
    const flags = /\bFLAGS \(([^)]*)\)/.exec(line)?.[1] ?? 'none';
    uidById.set(id, Number(uid));
    contents.push(`${uid}=${id}${flagsIn(flags === 'none' ? [flags] : flagWords(flags))}`);
  }
  return {
    name,
    uidNext: Number(/UIDNEXT (\d+)/.exec(selected)?.[1]),
    uidValidity: Number(/UIDVALIDITY (\d+)/.exec(selected)?.[1]),
    contents: contents.join(' '),
    uidById,
  };
}
