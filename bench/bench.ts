/**
 * `npm run bench`: Postern beside the servers people run today, alternated in
 * one run, because these figures drift: what counts is the ratio. Prints a
 * table and one JSON line last; exit 1 when a mark was missed.
 *
 *   npm run bench -- --rounds 3 --only login --seconds 4
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { requireDebianPackages } from '../test/support/debian.ts';
import { type Comparison, median, ratioOf, reached, tableOf } from './figures.ts';
import { measures } from './measures.ts';
import { compiled, Peers } from './peers.ts';
import { fillBox, startPosternUnderTest } from './postern.ts';
import type { Bench, Measure } from './sides.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
    messages: { type: 'string', default: '3000' },
    idle: { type: 'string', default: '4000' },
    only: { type: 'string', default: '' },
    lines: { type: 'boolean', default: false },
    fsync: { type: 'string', default: 'always' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(
    'npm run bench -- [--rounds 3] [--seconds 4] [--messages 3000] [--idle 4000] [--only PART-OF-A-NAME|ANOTHER] [--fsync always|optimized] [--lines]',
  );
  process.exit(0);
}

const only = values.only.split('|');
const chosen = measures.filter(({ work }) => only.some((part) => work.includes(part)));
await requireDebianPackages([
  'dovecot-core',
  'dovecot-imapd',
  'dovecot-lmtpd',
  'dovecot-pop3d',
  'postfix',
  'nginx',
  'libnginx-mod-mail',
  'libnginx-mod-stream',
  'libssl-dev',
  'gcc',
]);
await compiled('mbench', ['-lssl', '-lcrypto']);

const peers = await Peers.create();
const postern = await startPosternUnderTest({ imapUsers: 120, mailboxes: 1000 });
const bench: Bench = {
  postern,
  peers,
  seconds: Number(values.seconds),
  messages: Number(values.messages),
  idleSessions: Number(values.idle),
  lines: values.lines,
};

try {
  const needed = new Set(chosen.flatMap((measure) => measure.peers));
  if (needed.has('dovecot')) await peers.up('dovecot', { FSYNC: values.fsync });
  if (needed.has('nginx')) await peers.up('nginx');
  if (needed.has('nginx-alone')) await peers.up('nginx-alone');
  if (needed.has('postfix'))
    await peers.up('postfix', { PF_TRANSPORT: 'lmtp:inet:127.0.0.1:20024', PF_INFLOW: '0' });
  if (needed.has('haraka'))
    await peers.up('haraka', { HARAKA: path.join(import.meta.dirname, '..', 'node_modules', 'Haraka') });
  await fillBox('m1k', 1000, 10_240, {
    host: '127.0.0.1',
    port: postern.ports.imap,
    user: 'u1@example.test',
  });
  if (needed.has('dovecot'))
    await fillBox('m1k', 1000, 10_240, { host: '127.0.0.1', port: 20_143, user: 'u1' });

  const comparisons: Comparison[] = [];
  const prepared = new Set<Measure['prepare']>();
  for (const measure of chosen) {
    if (measure.prepare !== undefined && !prepared.has(measure.prepare)) {
      prepared.add(measure.prepare);
      await measure.prepare(bench);
    }
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let round = 0; round < Number(values.rounds); round++) {
      const turns = [
        async () => ours.push(await measure.ours(bench)),
        async () => measure.theirs && theirs.push(await measure.theirs(bench)),
      ];
      for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn();
    }
    const comparison: Comparison = {
      work: measure.work,
      unit: measure.unit,
      peer: measure.peer,
      mark: measure.mark,
      ours,
      theirs,
    };
    comparisons.push(comparison);
    console.log(tableOf([comparison]).split('\n')[1]);
  }
  console.log(`\n${tableOf(comparisons)}\n`);
  const missed = comparisons.filter((one) => reached(one) === false).length;
  console.log(
    JSON.stringify({
      rounds: Number(values.rounds),
      missed,
      works: comparisons.map((one) => ({
        work: one.work,
        unit: one.unit,
        peer: one.peer,
        ours: median(one.ours),
        theirs: one.theirs.length > 0 ? median(one.theirs) : null,
        ratio: one.theirs.length > 0 ? Number(ratioOf(one).toFixed(3)) : null,
        mark: one.mark ?? null,
        reached: reached(one) ?? null,
      })),
    }),
  );
  if (missed > 0) process.exitCode = 1;
} finally {
  await postern.stop();
  await peers.close();
}
