/**
 * The clients of a fault run, in a process of their own that runs where clients
 * are: IMAP sessions that append, read, flag and idle, and a sender of mail. Each
 * question and each answer is written down, one JSON line on stdout, with the
 * monotonic time of this machine. Orders come on stdin, a line each.
 */
import { createInterface } from 'node:readline';
import { Broken, deliver, ImapClient, Refused } from './wire-client.ts';

export interface LoadOptions {
  readonly accounts: readonly { readonly address: string; readonly password: string }[];
  readonly gateways: readonly { readonly host: string; readonly imaps: number; readonly smtp: number }[];
}

export type LoadEvent =
  | {
      readonly kind: 'ask';
      readonly atMs: number;
      readonly id: string;
      readonly op: 'append' | 'deliver' | 'read' | 'flag' | 'idle';
      readonly account: string;
      readonly gateway: number;
      readonly round: number;
      /** Of a flag: what is flagged. */
      readonly target?: string;
    }
  | {
      readonly kind: 'answer';
      readonly atMs: number;
      readonly id: string;
      /** `unknown`: the connection ended first; `no`: refused. */
      readonly result: 'done' | 'no' | 'unknown';
      readonly uid?: number;
      readonly uidValidity?: number;
      /** Of a read: what is there from the round's first UID on. */
      readonly messages?: readonly (readonly [uid: number, op: string, flags: string])[];
      readonly reason?: string;
    }
  | {
      readonly kind: 'final';
      readonly account: string;
      readonly messages: readonly (readonly [number, string])[];
    };

const options = JSON.parse(process.argv[2]!) as LoadOptions;
let round = 0;
let stopped = false;
let count = 0;
/** Per account: the greatest UID anybody has seen, and the first that reads of this round list. */
const greatest = new Map<string, number>();
const base = new Map<string, number>();
const saw = (account: string, uid: number): void =>
  void greatest.set(account, Math.max(uid, greatest.get(account) ?? 0));

const now = (): number => Number(process.hrtime.bigint() / 1000n) / 1000;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const write = (event: LoadEvent): void => void process.stdout.write(`${JSON.stringify(event)}\n`);

type Ask = Extract<LoadEvent, { kind: 'ask' }>;
type Answer = Extract<LoadEvent, { kind: 'answer' }>;

async function asked(
  facts: Pick<Ask, 'op' | 'account' | 'gateway'> & { target?: string },
  work: (id: string) => Promise<Partial<Answer>>,
): Promise<void> {
  const id = `o${++count}`;
  write({ kind: 'ask', atMs: now(), id, round, ...facts });
  try {
    const answer = await work(id);
    write({ kind: 'answer', atMs: now(), id, result: 'done', ...answer });
  } catch (error) {
    const result = error instanceof Refused ? 'no' : 'unknown';
    write({ kind: 'answer', atMs: now(), id, result, reason: (error as Error).message.slice(0, 120) });
    throw error;
  }
}

function messageOf(id: string, account: string): string {
  return [
    'From: sender@elsewhere.test',
    `To: ${account}`,
    `Subject: ${id}`,
    `Message-ID: <${id}.${process.pid}@load.postern.test>`,
    'Date: Wed, 25 Nov 2026 12:00:00 +0000',
    `X-Op: ${id}`,
    '',
    `${id} `.repeat(40),
    '',
  ].join('\r\n');
}

/** One client: one account, one gateway. */
async function client(index: number, gateway: number, account: LoadOptions['accounts'][0]): Promise<void> {
  const { host, imaps } = options.gateways[gateway]!;
  const { address } = account;
  let session: ImapClient | undefined;
  const own: { uid: number; id: string }[] = [];
  let turn = index;
  while (!stopped) {
    try {
      session ??= await ImapClient.open(host, imaps, address, account.password);
      const open = session;
      const facts = { account: address, gateway };
      switch (turn++ % 5) {
        case 0:
        case 2:
          await asked({ ...facts, op: 'append' }, async (id) => {
            const stored = await open.append(messageOf(id, address));
            saw(address, stored.uid);
            own.push({ uid: stored.uid, id });
            return stored;
          });
          break;
        case 1:
        case 3:
          await asked({ ...facts, op: 'read' }, async () => {
            const list = await open.list(base.get(address) ?? 1);
            for (const { uid } of list) saw(address, uid);
            return { messages: list.map(({ uid, op, flags }) => [uid, op, flags] as const) };
          });
          break;
        default: {
          const mine = own.shift();
          if (mine !== undefined)
            await asked({ ...facts, op: 'flag', target: mine.id }, async () => {
              await open.command(`UID STORE ${mine.uid} +FLAGS.SILENT (\\Flagged)`);
              return {};
            });
          await asked({ ...facts, op: 'idle' }, async () => {
            await open.idle(100 + Math.random() * 600);
            return {};
          });
        }
      }
    } catch (error) {
      if (!(error instanceof Refused)) {
        session?.close();
        session = undefined;
      }
      await sleep(100);
    }
    await sleep(40 + Math.random() * 160);
  }
  session?.close();
}

async function sender(): Promise<void> {
  for (let turn = 0; !stopped; turn++) {
    const { address } = options.accounts[turn % options.accounts.length]!;
    const gateway = turn % options.gateways.length;
    const { host, smtp } = options.gateways[gateway]!;
    await asked({ op: 'deliver', account: address, gateway }, async (id) => {
      await deliver(host, smtp, address, messageOf(id, address));
      return {};
    }).catch(() => sleep(100));
    await sleep(50 + Math.random() * 250);
  }
}

/** All of every account, by sessions of their own. */
async function final(): Promise<void> {
  for (const { address, password } of options.accounts) {
    for (let attempt = 1; ; attempt++) {
      const { host, imaps } = options.gateways[attempt % options.gateways.length]!;
      try {
        const session = await ImapClient.open(host, imaps, address, password);
        const list = await session.list(1);
        session.close();
        write({ kind: 'final', account: address, messages: list.map(({ uid, op }) => [uid, op] as const) });
        break;
      } catch (error) {
        if (attempt === 100 || !(error instanceof Broken || error instanceof Refused)) throw error;
        await sleep(300);
      }
    }
  }
}

const lanes = [
  ...options.accounts.flatMap((account, index) =>
    options.gateways.map((_, gateway) => client(index + gateway, gateway, account)),
  ),
  sender(),
];
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as { do: 'round'; round: number } | { do: 'stop' };
  if (order.do === 'round') {
    round = order.round;
    // What is stored from now on has a greater UID than anything seen.
    for (const [account, uid] of greatest) base.set(account, uid + 1);
    continue;
  }
  stopped = true;
  await Promise.all(lanes);
  await final();
  break;
}
process.exit(0);
