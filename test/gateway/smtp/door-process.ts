/**
 * The SMTP door in a process of its own, with a chain and owners that do as
 * the test says: Haraka keeps global state and listens to process events, and
 * Jest's module sandbox is no place for that. Control by IPC messages.
 */
import net from 'node:net';
import { layoutOf } from '../../../base/layout.ts';
import { openLog } from '../../../base/log.ts';
import { defaultsOf } from '../../../base/settings.ts';
import type { DeliveryAnswer } from '../../../cluster-protocol/link.ts';
import { Deadlines } from '../../../gateway/net/deadline.ts';
import { openTlsContexts } from '../../../gateway/net/tls-contexts.ts';
import type { Chain, ChainVerdict } from '../../../gateway/plugin-host/chain.ts';
import type { Message, Question, Wire } from '../../../gateway/plugins/api.ts';
import type { Router } from '../../../gateway/routing/router.ts';
import { newSession } from '../../../gateway/session/new-session.ts';
import { type GatewaySettings, gatewaySettings } from '../../../gateway/settings.ts';
import { openSmtpDoor, type SmtpRole } from '../../../gateway/smtp/smtp-door.ts';

export interface DoorStart {
  readonly data: string;
  /** PEM files. */
  readonly cert: string;
  readonly key: string;
  readonly settings?: Partial<GatewaySettings>;
}

/** What the fake chain and owners do; the test changes it while the door runs. */
export interface DoorScript {
  /** Outcome per recipient for the next delivery; `stored` for those not named. */
  outcomes?: Record<string, DeliveryAnswer['outcome']>;
  /** ms before an owner answers. */
  deliverMs?: number;
  verdicts?: Partial<Record<Question, Partial<ChainVerdict> & { throws?: boolean }>>;
  /** The connect question waits this long for the client to speak first, and rejects then. */
  earlyTalkerMs?: number;
  /** Read the message this many times side by side in the message question. */
  readers?: number;
}

export type DoorEvent =
  | { word: 'ready'; ports: Record<SmtpRole, number> }
  | {
      word: 'delivered';
      recipients: string[];
      stored: string[];
      from: string;
      key: string;
      size: number;
      body: string;
    }
  | { word: 'settled'; key: string; recipients: string[] }
  | { word: 'asked'; question: string; value: string }
  | { word: 'stats'; heldBytes: number; sessions: number }
  | { word: 'pong' }
  | { word: 'closed' };

const say = (event: DoorEvent) => process.send?.(event);
let script: DoorScript = {};
let sessions = 0;

const accounts = new Set(['ann@example.org', 'bob@example.org', 'eve@example.org', 'postmaster@example.org']);
for (let n = 0; n < 300; n++) accounts.add(`user${n}@example.org`);

const pass: ChainVerdict = { word: 'pass', plugin: undefined };

const chain: Chain = {
  wants: (question) =>
    script.verdicts?.[question] !== undefined || (question === 'message' && script.readers !== undefined),
  async ask(question, _session, ...rest) {
    const first = rest[0] as unknown;
    if (question === 'connect' && script.earlyTalkerMs !== undefined) {
      const early = await (first as Wire).spokeFirst(script.earlyTalkerMs);
      if (early) return { word: 'reject', plugin: 'early-talker', say: 'Wait for the greeting' };
    }
    if (question === 'message') {
      const message = first as Message;
      const reads = Array.from({ length: script.readers ?? 1 }, async () => {
        let bytes = 0;
        for await (const chunk of message.stream()) bytes += (chunk as Buffer).length;
        return bytes;
      });
      const sizes = await Promise.all(reads);
      say({
        word: 'asked',
        question,
        value: JSON.stringify({ sizes, size: message.size, subject: message.header('Subject') }),
      });
    } else if (typeof first === 'string') say({ word: 'asked', question, value: first });
    const verdict = script.verdicts?.[question];
    if (verdict?.throws) throw new Error('the fake chain failed');
    return { ...pass, ...verdict } as ChainVerdict;
  },
  tell: () => {},
  close: async () => {},
};

const had = new Set<string>();
const router: Router = {
  isLocalDomain: (domain) => domain === 'example.org',
  async recipient(_session, address) {
    if (address === 'full@example.org') return 'over-quota';
    if (address === 'away@example.org') return 'unavailable';
    return accounts.has(address) ? 'yes' : 'no-such-account';
  },
  async login(_session, credentials) {
    const { user } = credentials;
    if (user === 'away@example.org') return 'unavailable';
    const right = credentials.mechanism === 'password' && credentials.password === 'correct horse';
    return accounts.has(user) && right ? 'yes' : 'no';
  },
  scramStart: async () => 'unavailable',
  scramProof: async () => 'unavailable',
  async deliver(_session, delivery) {
    const parts: Buffer[] = [];
    for await (const chunk of delivery.body()) parts.push(chunk);
    const body = Buffer.concat(parts);
    if (body.length !== delivery.size)
      throw new Error(`size ${delivery.size} announced, ${body.length} given`);
    if (script.deliverMs) await new Promise((done) => setTimeout(done, script.deliverMs));
    const stored: string[] = [];
    const answers = delivery.recipients.map((recipient): DeliveryAnswer => {
      const id = `${delivery.deliveryKey} ${recipient}`;
      const outcome = script.outcomes?.[recipient] ?? (had.has(id) ? 'already' : 'stored');
      if (outcome === 'stored') {
        had.add(id);
        stored.push(recipient);
      }
      return { recipient, outcome };
    });
    say({
      word: 'delivered',
      recipients: [...delivery.recipients],
      stored,
      from: delivery.reversePath,
      key: delivery.deliveryKey,
      size: delivery.size,
      body: body.length < 4_000_000 ? body.toString('base64') : '',
    });
    return answers;
  },
  settle: (key, recipients) => void say({ word: 'settled', key, recipients: [...recipients] }),
  openSession: async () => ({ outcome: 'unavailable' }),
  request: async () => {
    throw new Error('not here');
  },
  backends: () => [],
  requestMember: async () => {
    throw new Error('not here');
  },
  ready: async () => {},
  close: async () => {},
};

async function run(start: DoorStart): Promise<void> {
  const settings: GatewaySettings = { ...defaultsOf(gatewaySettings), ...start.settings };
  const tls = await openTlsContexts({
    certificate: start.cert,
    key: start.key,
    place: 'test',
    minimum: 'TLSv1.2',
    handshakeMs: settings['net.greeting_timeout'],
    deadlines: new Deadlines(),
  });
  const door = await openSmtpDoor({
    settings,
    layout: layoutOf(start.data),
    chain,
    router,
    log: openLog({ member: 'gateway-1', file: `${start.data}/door.log` }),
    hostname: 'mx1.example.org',
    tls,
  });
  const ports: Partial<Record<SmtpRole, number>> = {};
  for (const role of ['mx', 'submission', 'submissions'] as const) {
    const server = net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
      sessions += 1;
      socket.once('close', () => {
        sessions -= 1;
      });
      const client = {
        address: '192.0.2.7',
        port: socket.remotePort ?? 0,
        network: '192.0.2.7',
        wideNetwork: '192.0.2.0/24',
      };
      door.accept(socket, newSession(role === 'mx' ? 'smtp' : 'submission', client, '[::]:25'), role);
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    ports[role] = (server.address() as net.AddressInfo).port;
  }
  process.on('message', (message: { word: string; script?: DoorScript }) => {
    if (message.word === 'script') script = message.script ?? {};
    if (message.word === 'stats') {
      globalThis.gc?.();
      const { heapUsed, external } = process.memoryUsage();
      say({ word: 'stats', heldBytes: heapUsed + external, sessions });
    }
    if (message.word === 'ping') say({ word: 'pong' });
    if (message.word === 'close') void door.close().then(() => say({ word: 'closed' }));
    if (message.word === 'exit') process.exit(0);
  });
  say({ word: 'ready', ports: ports as Record<SmtpRole, number> });
}

process.once('message', (start: DoorStart) => void run(start));
process.once('disconnect', () => process.exit(0));
