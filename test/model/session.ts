/**
 * One IMAP client of the model test. It believes what it is told and nothing
 * else: its view is made of EXISTS, EXPUNGE and FETCH answers, and an answer
 * that IMAP forbids at that point is a finding.
 */
import { flagsIn } from './mailbox-model.ts';

/** A connection that is logged in. */
export interface Wire {
  send(text: string): void;
  /** What came until `done` says how many chars of it are wanted, or the connection ended. */
  until(done: (received: string) => number): Promise<string>;
  readonly ended: boolean;
  destroy(): void;
}

export interface Entry {
  /** 0: not known yet. -1: it went before the client could ask. */
  uid: number;
  /** As `flagsIn`; `undefined`: not told yet. */
  flags: string | undefined;
  /** The last modification sequence that was told; 0: none. */
  modseq?: number;
}

export interface ClientView {
  /** Key of the folder in the model. */
  readonly folder: string;
  readonly readOnly: boolean;
  /** HIGHESTMODSEQ as SELECT told it. */
  readonly modseq: number;
  readonly uidValidity: number;
  entries: Entry[];
}

/** Hears what a client is told of a message: sequences may only grow, and stand for one set of flags. */
export type Heard = (view: ClientView, uid: number, modseq: number, flags: string | undefined) => void;

export interface Answer {
  readonly lines: readonly string[];
  /** `OK [APPENDUID 1 2] …`, or `BYE` when the connection ended before the tagged answer. */
  readonly completion: string;
}

/** Something IMAP forbids, or the model cannot explain. */
export class Violation extends Error {}

export class ModelSession {
  readonly name: string;
  readonly #wire: Wire;
  readonly #note: (line: string) => void;
  readonly #heard: Heard;
  view: ClientView | undefined;
  idling: string | undefined;
  /** It has enabled CONDSTORE, or QRESYNC: it counts by modification sequences, and expunges are told by UID. */
  enabled: 'nothing' | 'condstore' | 'qresync' = 'nothing';
  #tags = 0;

  /** @param note  Takes each line for the record of the play. */
  constructor(name: string, wire: Wire, note: (line: string) => void, heard: Heard = () => {}) {
    this.name = name;
    this.#wire = wire;
    this.#note = (line) => note(`${name} ${line}`);
    this.#heard = heard;
  }

  async enable(what: 'condstore' | 'qresync'): Promise<void> {
    await this.run(`ENABLE ${what.toUpperCase()}`);
    this.enabled = what;
  }

  get ended(): boolean {
    return this.#wire.ended;
  }

  destroy(): void {
    this.#wire.destroy();
  }

  /**
   * @param expunges  May EXPUNGE be told? Not during FETCH, STORE and SEARCH by sequence numbers (RFC 9051 7.5.1).
   * @param known  What the client knows to have happened once it is answered, as after STORE with .SILENT.
   */
  async run(command: string, expunges = true, known?: (view: ClientView) => void): Promise<Answer> {
    const tag = `t${++this.#tags}`;
    this.#note(`> ${tag} ${command.replace(/\r\n/g, '␤').slice(0, 300)}`);
    this.#wire.send(`${tag} ${command}\r\n`);
    return this.#answer(tag, expunges, known);
  }

  async idle(): Promise<void> {
    this.idling = `t${++this.#tags}`;
    this.#note(`> ${this.idling} IDLE`);
    this.#wire.send(`${this.idling} IDLE\r\n`);
    const text = await this.#wire.until((received) => {
      const at = received.search(/^\+ .*\r\n/m);
      return at < 0 ? 0 : received.indexOf('\r\n', at) + 2;
    });
    this.#take(linesOf(text.replace(/^\+ .*\r\n/m, '')), true);
  }

  async done(): Promise<Answer> {
    const tag = this.idling!;
    this.idling = undefined;
    this.#note('> DONE');
    this.#wire.send('DONE\r\n');
    return this.#answer(tag, true);
  }

  async #answer(tag: string, expunges: boolean, known?: (view: ClientView) => void): Promise<Answer> {
    const text = await this.#wire.until((received) => endOfTagged(received, tag));
    const lines = linesOf(text);
    const last = lines.at(-1) ?? '';
    const completed = last.startsWith(`${tag} `);
    if (!completed && !this.#wire.ended) throw new Violation(`no answer to ${tag}: ${text}`);
    const untagged = completed ? lines.slice(0, -1) : lines;
    if (this.view !== undefined) known?.(this.view);
    this.#take(untagged, expunges);
    const completion = completed ? last.slice(tag.length + 1) : 'BYE';
    this.#note(`< ${completion}`);
    return { lines: untagged, completion };
  }

  #take(lines: readonly string[], expunges: boolean): void {
    for (const line of lines) {
      this.#note(`< ${line.replace(/\r\n/g, '␤').slice(0, 300)}`);
      const vanished = /^\* VANISHED (\(EARLIER\) )?(\S+)$/.exec(line);
      if (vanished !== null) {
        if (this.enabled !== 'qresync') throw new Violation(`${this.name}: VANISHED without QRESYNC`);
        if (vanished[1] === undefined && this.view !== undefined) {
          this.#vanish(this.view, numbersIn(vanished[2]!), expunges);
        }
        continue;
      }
      const numbered = /^\* (\d+) (EXISTS|EXPUNGE|FETCH)/.exec(line);
      if (numbered === null) continue;
      const number = Number(numbered[1]);
      const view = this.view;
      if (view === undefined) continue; // SELECT reads its own answers
      const { entries } = view;
      if (numbered[2] === 'EXISTS') {
        if (number < entries.length)
          throw new Violation(`${this.name}: EXISTS ${number} after ${entries.length}`);
        while (entries.length < number) entries.push({ uid: 0, flags: undefined });
        continue;
      }
      const entry = entries[number - 1];
      if (entry === undefined)
        throw new Violation(`${this.name}: ${line.slice(0, 60)} but there are ${entries.length}`);
      if (numbered[2] === 'EXPUNGE') {
        if (!expunges) throw new Violation(`${this.name}: EXPUNGE where numbers may not change`);
        if (this.enabled === 'qresync') throw new Violation(`${this.name}: EXPUNGE in spite of QRESYNC`);
        entries.splice(number - 1, 1);
        continue;
      }
      const uid = Number(/\bUID (\d+)/.exec(line)?.[1] ?? 0);
      if (uid > 0 && entry.uid > 0 && uid !== entry.uid)
        throw new Violation(`${this.name}: message ${number} was UID ${entry.uid}, now ${uid}`);
      if (uid > 0) entry.uid = uid;
      const flags = /\bFLAGS \(([^)]*)\)/.exec(line)?.[1];
      if (flags !== undefined) entry.flags = flagsIn(flagWords(flags));
      const modseq = Number(/\bMODSEQ \((\d+)\)/.exec(line)?.[1] ?? 0);
      if (modseq > 0) this.#hear(view, entry, modseq, flags === undefined ? undefined : entry.flags);
    }
    const uids = this.view?.entries.map((entry) => entry.uid).filter((uid) => uid > 0) ?? [];
    if (uids.some((uid, at) => at > 0 && uid <= uids[at - 1]!))
      throw new Violation(`${this.name}: UIDs do not ascend: ${uids.join()}`);
  }

  #hear(view: ClientView, entry: Entry, modseq: number, flags: string | undefined): void {
    if (modseq < (entry.modseq ?? 0))
      throw new Violation(`${this.name}: MODSEQ of UID ${entry.uid} was ${entry.modseq}, now ${modseq}`);
    entry.modseq = modseq;
    if (entry.uid > 0) this.#heard(view, entry.uid, modseq, flags);
  }

  #vanish(view: ClientView, uids: readonly number[], expunges: boolean): void {
    if (!expunges) throw new Violation(`${this.name}: VANISHED where numbers may not change`);
    for (const uid of uids) {
      let at = view.entries.findIndex((entry) => entry.uid === uid);
      // One whose UID the client has not asked for yet; those stand at the end.
      if (at < 0) at = view.entries.findIndex((entry) => entry.uid <= 0);
      if (at < 0) throw new Violation(`${this.name}: VANISHED ${uid}, which it did not have`);
      view.entries.splice(at, 1);
    }
  }
}

/** Flags of an answer, in lower case; \Recent is of the session, not of the message. */
export function flagWords(flags: string): string[] {
  return flags
    .toLowerCase()
    .split(' ')
    .filter((word) => word !== '' && word !== '\\recent');
}

/** What a completion says, in the words of the model. */
export function outcomeOf(kind: string, answer: Answer): string {
  const { completion, lines } = answer;
  const word = completion.split(' ', 1)[0]!;
  if (word === 'BYE') return 'BYE';
  if (kind === 'fetch') {
    const found = lines.flatMap((line) => {
      const id = /X-Id: (\S+)\r\n/.exec(line);
      const uid = /\bUID (\d+)/.exec(line);
      return id && uid ? [`${uid[1]}=${id[1]}`] : [];
    });
    return `${word} ${found.join()}`;
  }
  if (word !== 'OK') return word;
  if (kind === 'append') return `OK ${/APPENDUID \d+ (\d+)/.exec(completion)?.[1]}`;
  if (kind === 'copy' || kind === 'move') {
    const code = /\[COPYUID \d+ (\S+) (\S+)\]/.exec([completion, ...lines].join('\n'));
    if (code === null) return 'OK';
    const to = numbersIn(code[2]!);
    return `OK ${numbersIn(code[1]!)
      .map((from, index) => `${from}>${to[index]}`)
      .join()}`;
  }
  if (kind === 'search') {
    const line = lines.find((one) => one.startsWith('* SEARCH'));
    return `OK ${line?.slice(9).split(' ').filter(Boolean) ?? ''}`;
  }
  if (kind === 'status') {
    const items = /\(MESSAGES (\d+) UIDNEXT (\d+) UNSEEN (\d+)\)/.exec(lines.join('\n'));
    return `OK ${items?.[1]} ${items?.[2]} ${items?.[3]}`;
  }
  return 'OK';
}

/** `1:3,7` as numbers. */
export function numbersIn(set: string): number[] {
  return set.split(',').flatMap((range) => {
    const [first, last] = range.split(':').map(Number);
    return Array.from({ length: (last ?? first!) - first! + 1 }, (_, index) => first! + index);
  });
}

/** Answer lines; literals stay in their line. */
function linesOf(text: string): string[] {
  const lines: string[] = [];
  let start = 0;
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf('\r\n', at);
    if (end < 0) break;
    const literal = /\{(\d+)\}$/.exec(text.slice(at, end));
    at = end + 2;
    if (literal !== null) at += Number(literal[1]);
    else {
      lines.push(text.slice(start, end));
      start = at;
    }
  }
  return lines;
}

function endOfTagged(received: string, tag: string): number {
  let from = 0;
  for (const line of linesOf(received)) {
    from += line.length + 2;
    if (line.startsWith(`${tag} `)) return from;
  }
  return 0;
}
