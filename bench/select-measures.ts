/**
 * SELECT of a folder of 100,000 messages: after the index was lost, after a
 * start with the index on disk, and again in a session that had it before.
 */
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { runProgram } from './peers.ts';
import { type Bench, dovecot, first, load, type Measure, numberIn, postern, type Side } from './sides.ts';

const box = 'm100k';
const messages = 100_000;
const messageBytes = 1024;

/** Seeded as files, as another program would have left them; the first SELECT takes them in. */
async function fill(bench: Bench): Promise<void> {
  const seed = path.join(import.meta.dirname, 'load', 'maildir-seed.mjs');
  const ours = first(postern(bench));
  const theirs = first(dovecot(bench));
  for (const side of [ours, theirs]) await load(bench, 'create', side, { BOX: box });
  const seeds = [
    [await bench.postern.maildirOf(ours.user, box)],
    [path.join(bench.peers.mailRoot, 'u1', `.${box}`), ...(await idsOfMail())],
  ];
  for (const [directory, ...owner] of seeds)
    await runProgram(process.execPath, [seed, directory!, String(messages), String(messageBytes), ...owner]);
  for (const side of [ours, theirs]) await select(bench, side, 1, 'max_ms');
}

async function idsOfMail(): Promise<string[]> {
  const ids = await Promise.all(['-u', '-g'].map((which) => runProgram('id', [which, 'mail'])));
  return ids.map(({ stdout }) => stdout.trim());
}

async function select(bench: Bench, side: Side, count: number, key: string): Promise<number> {
  const line = await load(bench, 'select', side, { BOX: box, COUNT: String(count), EXTRA: '--timeout 600' });
  return numberIn(line, key);
}

/** Dovecot's index files of the folder; what it keeps in memory ends with each session. */
async function loseDovecotIndex(bench: Bench): Promise<void> {
  const directory = path.join(bench.peers.mailRoot, 'u1', `.${box}`);
  for (const name of await readdir(directory))
    if (name.startsWith('dovecot.index')) await rm(path.join(directory, name));
}

const measure = (
  how: string,
  mark: Measure['mark'],
  ours: (bench: Bench) => Promise<number>,
  theirs: (bench: Bench) => Promise<number>,
): Measure => ({
  work: `SELECT of 100,000 messages, ${how}`,
  unit: 'ms',
  peer: 'Dovecot',
  ...(mark === undefined ? {} : { mark }),
  peers: ['dovecot'],
  prepare: fill,
  ours,
  theirs,
});

const ourSelect = (bench: Bench, count: number, key: string): Promise<number> =>
  select(bench, first(postern(bench)), count, key);
const theirSelect = (bench: Bench, count: number, key: string): Promise<number> =>
  select(bench, first(dovecot(bench)), count, key);

export const selectMeasures: readonly Measure[] = [
  measure(
    'no index',
    { atMostTimes: 0.5 },
    async (bench) => {
      const directory = await bench.postern.maildirOf(first(postern(bench)).user, box);
      await bench.postern.restart(() => rm(path.join(directory, 'postern-index'), { force: true }));
      return ourSelect(bench, 1, 'max_ms');
    },
    async (bench) => {
      await loseDovecotIndex(bench);
      return theirSelect(bench, 1, 'max_ms');
    },
  ),
  measure(
    'index cold',
    { atMost: 5 },
    async (bench) => {
      await bench.postern.restart();
      return ourSelect(bench, 1, 'max_ms');
    },
    (bench) => theirSelect(bench, 1, 'max_ms'),
  ),
  measure(
    'warm',
    { atMost: 0.2 },
    (bench) => ourSelect(bench, 200, 'p50_ms'),
    (bench) => theirSelect(bench, 200, 'p50_ms'),
  ),
];
