/**
 * A play: one small cluster and what befalls it, as readable text. Plays are
 * drawn from a seed by the thousand; one that breaks an invariant is shrunk and
 * kept, and is a test from then on. Chance that remains (delays, losses) comes
 * from the play's own seed, so that a play always runs the same way.
 */
import { randomFrom } from './random.ts';

/** Places in the work of a process at which a play can strike. */
export const points = [
  'registered',
  'elected',
  'grant-sent',
  'grant-answered',
  'leave-begun',
  'left',
  'release-sent',
  'opening',
  'fence-read',
  'fence-written',
  'journals-listed',
  'journal-written',
  'append-sent',
  'append-durable',
] as const;
export type Point = (typeof points)[number];

const hows = ['leader', 'quorum', 'full', 'compact'] as const;

export type Act =
  /** The process stands still: SIGSTOP, a long collection, a stalled event loop. */
  | { readonly at: number; readonly do: 'pause'; readonly who: string; readonly ms: number }
  /** The process dies; its supervisor revokes the lease. */
  | { readonly at: number; readonly do: 'crash'; readonly who: string }
  /** The whole machine is gone: nobody revokes anything. */
  | { readonly at: number; readonly do: 'vanish'; readonly who: string }
  /** Nothing arrives that is sent from one to the other. */
  | {
      readonly at: number;
      readonly do: 'cut';
      readonly from: string;
      readonly to: string;
      readonly ms: number;
    }
  /** Three in ten messages from and to it are lost. */
  | { readonly at: number; readonly do: 'lossy'; readonly who: string; readonly ms: number }
  /** What it watches reaches it later by a third of this, answers to it by up to 0.9 s. */
  | { readonly at: number; readonly do: 'lag'; readonly who: string; readonly ms: number }
  /**
   * `leader`, `quorum`: no answers, and every lease starts again after it; `full`: nothing can be written; `compact`:
   * whoever watches from behind has to list again.
   */
  | {
      readonly at: number;
      readonly do: 'registry';
      readonly how: (typeof hows)[number];
      readonly ms: number;
    }
  /** What an admin asks for, written into the registry. `once`: this start of the member only. */
  | { readonly at: number; readonly do: 'drain' | 'drain-once' | 'undrain'; readonly who: string }
  | { readonly at: number; readonly do: 'pin'; readonly account: number; readonly who: string }
  | { readonly at: number; readonly do: 'unpin'; readonly account: number }
  | { readonly at: number; readonly do: 'move'; readonly shard: number; readonly who: string }
  | { readonly at: number; readonly do: 'unmove'; readonly shard: number }
  /** The next time `who` (`*`: anybody) comes to `point`, it is paused (`ms` > 0), or dies. */
  | {
      readonly at: number;
      readonly do: 'strike';
      readonly who: string;
      readonly point: Point;
      readonly ms: number;
    };

export interface Play {
  readonly seed: number;
  readonly backends: number;
  readonly gateways: number;
  readonly shards: number;
  readonly accounts: number;
  /** How long things go wrong, milliseconds of true time; then the cluster is left alone. */
  readonly faultyMs: number;
  /** Of a thousand messages: so many are lost, doubled and late. */
  readonly noise: number;
  /**
   * Does a process's monotonic clock stand while it is paused (a suspended machine)? Then no lease can help, and
   * only what the fence promises is asked for.
   */
  readonly clocks: 'run' | 'stop';
  readonly acts: readonly Act[];
}

/** What goes wrong most in a play: faults that have to meet are drawn together more often than by chance. */
const themes = {
  anything: ['pause', 'strike', 'cut', 'registry', 'lag', 'lossy', 'vanish', 'crash', 'drain', 'pin', 'move'],
  controller: ['strike', 'strike', 'lag', 'lag', 'crash', 'registry', 'move', 'drain'],
  members: ['crash', 'crash', 'vanish', 'pause', 'strike', 'registry', 'cut'],
  network: ['cut', 'cut', 'lag', 'lossy', 'pause', 'pin', 'move'],
  admin: ['pin', 'pin', 'pin', 'move', 'drain', 'drain', 'strike', 'crash', 'lag'],
  fence: ['strike', 'strike', 'strike', 'pause', 'pause', 'move', 'lag'],
} as const;
type Kind = (typeof themes)[keyof typeof themes][number];

const pointsOf: Partial<Record<keyof typeof themes, readonly Point[]>> = {
  controller: ['elected', 'grant-sent', 'grant-answered', 'registered'],
  fence: [
    'opening',
    'fence-read',
    'fence-written',
    'journals-listed',
    'journal-written',
    'append-sent',
    'append-durable',
  ],
};

/** A play drawn from a seed. */
export function drawPlay(seed: number): Play {
  const random = randomFrom(seed);
  const whole = (from: number, to: number): number => Math.floor(random.between(from, to + 1));
  const pick = <T>(from: readonly T[]): T => from[whole(0, from.length - 1)]!;
  const theme = pick(Object.keys(themes) as (keyof typeof themes)[]);
  const backends = whole(2, 4);
  const gateways = whole(1, 2);
  const shards = whole(2, 6);
  const accounts = whole(2, 4);
  const faultyMs = whole(3500, 9000);
  const stop = theme === 'fence' && random.chance(0.6);
  const backend = (): string => `backend-${whole(1, backends)}`;
  const anybody = (): string => (random.chance(0.9) ? backend() : `gateway-${whole(1, gateways)}`);

  const drawAct = (kind: Kind): Act => {
    const at = whole(300, faultyMs);
    const ms = random.chance(theme === 'fence' ? 0.95 : 0.7) ? whole(2400, 6000) : whole(100, 2400);
    switch (kind) {
      case 'pause':
        return { at, do: 'pause', who: anybody(), ms };
      case 'strike':
        return {
          at,
          do: 'strike',
          who: random.chance(0.6) ? '*' : backend(),
          point: pick(pointsOf[theme] ?? points),
          ms: stop || random.chance(0.6) ? ms : 0,
        };
      case 'cut': {
        const ends = pick([
          [anybody(), 'registry'],
          [backend(), 'storage'],
          [backend(), `gateway-${whole(1, gateways)}`],
        ]) as [string, string];
        if (random.chance(0.5)) ends.reverse();
        return { at, do: 'cut', from: ends[0], to: ends[1], ms };
      }
      case 'registry':
        return { at, do: 'registry', how: pick(hows), ms: Math.min(ms, 4000) };
      case 'lag':
        return { at, do: 'lag', who: anybody(), ms };
      case 'lossy':
        return { at, do: 'lossy', who: anybody(), ms };
      case 'vanish':
        return { at, do: 'vanish', who: backend() };
      case 'crash':
        return { at, do: 'crash', who: anybody() };
      case 'drain':
        return { at, do: pick(['drain', 'drain-once', 'undrain', 'undrain'] as const), who: backend() };
      case 'pin':
        return random.chance(0.65)
          ? { at, do: 'pin', account: whole(1, accounts), who: backend() }
          : { at, do: 'unpin', account: whole(1, accounts) };
      case 'move':
        return random.chance(0.75)
          ? { at, do: 'move', shard: whole(0, shards - 1), who: backend() }
          : { at, do: 'unmove', shard: whole(0, shards - 1) };
    }
  };
  const acts = Array.from({ length: whole(1, 10) }, () => drawAct(pick<Kind>(themes[theme])));
  return {
    seed,
    backends,
    gateways,
    shards,
    accounts,
    faultyMs,
    noise: random.chance(0.3) ? 0 : whole(5, theme === 'network' ? 200 : 60),
    clocks: stop ? 'stop' : 'run',
    acts: acts.sort((a, b) => a.at - b.at),
  };
}

export function formatPlay(play: Play): string {
  const { seed, backends, gateways, shards, accounts, faultyMs, noise, clocks } = play;
  const lines = [
    `seed ${seed}`,
    `backends ${backends}`,
    `gateways ${gateways}`,
    `shards ${shards}`,
    `accounts ${accounts}`,
    `faulty ${faultyMs} ms`,
    `noise ${noise} per mille`,
    `clocks ${clocks} in pauses`,
    ...play.acts.map(formatAct),
  ];
  return `${lines.join('\n')}\n`;
}

function formatAct(act: Act): string {
  const head = `at ${act.at} ${act.do}`;
  switch (act.do) {
    case 'pause':
    case 'lossy':
    case 'lag':
      return `${head} ${act.who} ${act.ms} ms`;
    case 'cut':
      return `${head} ${act.from} to ${act.to} ${act.ms} ms`;
    case 'registry':
      return `${head} ${act.how} ${act.ms} ms`;
    case 'pin':
      return `${head} account ${act.account} to ${act.who}`;
    case 'move':
      return `${head} shard ${act.shard} to ${act.who}`;
    case 'unpin':
      return `${head} account ${act.account}`;
    case 'unmove':
      return `${head} shard ${act.shard}`;
    case 'strike':
      return `${head} ${act.who} ${act.point} ${act.ms === 0 ? 'dies' : `pauses ${act.ms} ms`}`;
    default:
      return `${head} ${act.who}`;
  }
}

/** Reads a play; `#` begins a comment. @throws {Error} with the line that is not understood */
export function parsePlay(text: string): Play {
  const facts = new Map<string, string>();
  const acts: Act[] = [];
  for (const raw of text.split('\n')) {
    const line = raw.replace(/#.*/, '').trim();
    if (line === '') continue;
    const words = line.split(/\s+/);
    if (words[0] === 'at') acts.push(parseAct(line, words));
    else facts.set(words[0]!, words[1] ?? '');
  }
  const number = (name: string): number => {
    const value = Number(facts.get(name));
    if (!Number.isFinite(value)) throw new Error(`the play does not say "${name}"`);
    return value;
  };
  return {
    seed: number('seed'),
    backends: number('backends'),
    gateways: number('gateways'),
    shards: number('shards'),
    accounts: number('accounts'),
    faultyMs: number('faulty'),
    noise: number('noise'),
    clocks: facts.get('clocks') === 'stop' ? 'stop' : 'run',
    acts,
  };
}

function parseAct(line: string, words: readonly string[]): Act {
  const at = Number(words[1]);
  const [who = '', a = '', b = '', c = ''] = words.slice(3);
  const bad = (): never => {
    throw new Error(`the play has a line nobody understands: ${line}`);
  };
  if (!Number.isFinite(at)) return bad();
  switch (words[2]) {
    case 'pause':
    case 'lossy':
    case 'lag':
      return { at, do: words[2], who, ms: Number(a) };
    case 'cut':
      return { at, do: 'cut', from: who, to: b, ms: Number(c) };
    case 'registry':
      return { at, do: 'registry', how: hows.find((how) => how === who) ?? bad(), ms: Number(a) };
    case 'strike':
      return {
        at,
        do: 'strike',
        who,
        point: points.find((point) => point === a) ?? bad(),
        ms: b === 'dies' ? 0 : Number(c),
      };
    case 'pin':
      return { at, do: 'pin', account: Number(a), who: c };
    case 'unpin':
      return { at, do: 'unpin', account: Number(a) };
    case 'move':
      return { at, do: 'move', shard: Number(a), who: c };
    case 'unmove':
      return { at, do: 'unmove', shard: Number(a) };
    case 'crash':
    case 'vanish':
    case 'drain':
    case 'drain-once':
    case 'undrain':
      return { at, do: words[2], who };
    default:
      return bad();
  }
}
