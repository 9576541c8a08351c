/** Works that take mail in: over SMTP, and straight over a link beside LMTP. */
import path from 'node:path';
import { Fault } from '../base/fault.ts';
import { peerPort, runLoad, runProgram } from './peers.ts';
import { withDoor } from './postern.ts';
import { type Bench, lastJson, load, type Measure, numberIn } from './sides.ts';

async function delivered(
  bench: Bench,
  side: { port: number; countCommand: string },
  size: number,
): Promise<number> {
  const done = await runLoad(
    'e2e.sh',
    ['127.0.0.1', String(side.port), '/nowhere', String(bench.messages), '20'],
    { SIZE: String(size), COUNT_CMD: side.countCommand },
  );
  const line = lastJson(done.stdout);
  if (!line || numberIn(line, 'delivered') < bench.messages) {
    throw new Fault(
      'unavailable',
      `SMTP to port ${side.port} delivered ${line?.delivered} of ${bench.messages}: ${done.stderr.slice(-300)}`,
    );
  }
  return numberIn(line, 'delivered_per_s');
}

export const smtpToMailbox = (label: string, size: number): Measure => ({
  work: `SMTP to mailbox, ${label}`,
  unit: 'messages/s',
  peer: 'Postfix > Dovecot LMTP',
  mark: { atLeastTimes: 3 },
  peers: ['dovecot', 'postfix'],
  ours: (bench) =>
    delivered(bench, { port: bench.postern.ports.smtp, countCommand: bench.postern.countCommand }, size),
  theirs: (bench) =>
    delivered(
      bench,
      { port: peerPort(2525), countCommand: `find ${bench.peers.mailRoot} -path '*/new/*' -type f | wc -l` },
      size,
    ),
});

/** A cost of a quarter over bare Haraka is the most that is allowed: four fifths of its rate. */
export const smtpAlone: Measure = {
  work: 'SMTP accepted, nothing stored',
  unit: 'messages/s',
  peer: 'bare Haraka',
  mark: { atLeastTimes: 0.8 },
  peers: ['haraka'],
  ours: (bench) =>
    withDoor('smtp-alone.ts', async ([port = 0]) => {
      const side = { host: '127.0.0.1', port, user: 'u%d' };
      // Warmed by a run of its own: the peer's process has been compiling since the first round.
      await load(bench, 'smtp4k', side);
      return numberIn(await load(bench, 'smtp4k', side), 'per_s');
    }),
  theirs: async (bench) =>
    numberIn(await load(bench, 'smtp4k', { host: '127.0.0.1', port: peerPort(2526), user: 'u%d' }), 'per_s'),
};

/** What a backend alone stores, asked as a gateway asks, beside Dovecot's LMTP. */
export const storeOverLink = (
  mailboxes: string,
  users: { readonly users: number; readonly first: number },
  lmtpMeasure: string,
): Measure => ({
  work: `store 4 KiB over a link, ${mailboxes}`,
  unit: 'messages/s',
  peer: 'Dovecot LMTP',
  mark: { atLeastTimes: 5 },
  peers: ['dovecot'],
  ours: async (bench) => {
    const done = await runProgram(process.execPath, [
      '--disable-warning=ExperimentalWarning',
      path.join(import.meta.dirname, 'deliver-load.ts'),
      bench.postern.linkSocket,
      String(bench.messages * 2),
      '20',
      '4096',
      String(users.users),
      String(users.first),
      'example.test',
    ]);
    const line = lastJson(done.stdout);
    if (!line || numberIn(line, 'errors') > 0)
      throw new Fault('unavailable', `delivery over the link failed: ${done.stdout} ${done.stderr}`);
    return numberIn(line, 'per_s');
  },
  theirs: async (bench) =>
    numberIn(await load(bench, lmtpMeasure, { host: '127.0.0.1', port: peerPort(24), user: 'u%d' }), 'per_s'),
});
