/**
 * Judges what clients of a fault run asked and were answered. It knows nothing of
 * the product: only of messages, UIDs and times.
 *
 * - What was acknowledged is in every read that was asked later, and in the end, once.
 * - What a read showed, a read asked after its answer shows too.
 * - A flag that was acknowledged stays.
 * - A UID names one message for ever, and UIDs grow with time.
 */
import type { LoadEvent } from './load.ts';

type Ask = Extract<LoadEvent, { kind: 'ask' }>;
type Answer = Extract<LoadEvent, { kind: 'answer' }>;

interface Account {
  /** Of this round, in the order in which clients came to know of them. */
  round: number;
  known: string[];
  flagged: string[];
  /** All the time. */
  readonly acknowledged: string[];
  readonly uids: Map<number, string>;
  uidValidity: number | undefined;
  /** The greatest UID that an acknowledgement or a read has shown. */
  greatest: number;
}

interface Open {
  readonly ask: Ask;
  readonly known: number;
  readonly flagged: number;
  readonly greatest: number;
}

export class History {
  readonly violations: string[] = [];
  readonly counts: Record<string, number> = {};
  /** Per client (account and gateway): when it was last answered something that it asked after. */
  readonly lastAnswered = new Map<string, number>();
  readonly #accounts = new Map<string, Account>();
  readonly #open = new Map<string, Open>();
  readonly #asked = new Set<string>();
  finals = 0;

  take(event: LoadEvent): void {
    if (event.kind === 'ask') this.#ask(event);
    else if (event.kind === 'answer') this.#answer(event);
    else this.#final(event.account, event.messages);
  }

  get acknowledged(): number {
    let sum = 0;
    for (const account of this.#accounts.values()) sum += account.acknowledged.length;
    return sum;
  }

  #account(name: string, round: number): Account {
    let account = this.#accounts.get(name);
    if (account === undefined) {
      account = {
        round,
        known: [],
        flagged: [],
        acknowledged: [],
        uids: new Map(),
        uidValidity: undefined,
        greatest: 0,
      };
      this.#accounts.set(name, account);
    }
    if (round > account.round) Object.assign(account, { round, known: [], flagged: [] });
    return account;
  }

  #ask(ask: Ask): void {
    const account = this.#account(ask.account, ask.round);
    const { known, flagged, greatest } = account;
    if (ask.op === 'append' || ask.op === 'deliver') this.#asked.add(ask.id);
    this.#open.set(ask.id, { ask, known: known.length, flagged: flagged.length, greatest });
  }

  #answer(answer: Answer): void {
    const open = this.#open.get(answer.id);
    if (open === undefined) throw new Error(`an answer to nothing: ${answer.id}`);
    this.#open.delete(answer.id);
    const { ask } = open;
    const what = `${ask.op} ${answer.result}`;
    this.counts[what] = (this.counts[what] ?? 0) + 1;
    if (answer.result !== 'done') return;
    this.lastAnswered.set(`${ask.account} ${ask.gateway} ${ask.op}`, ask.atMs);
    const account = this.#account(ask.account, ask.round);
    const isNow = account.round === ask.round;
    if (ask.op === 'append' || ask.op === 'deliver') {
      account.acknowledged.push(ask.id);
      if (isNow) account.known.push(ask.id);
      if (answer.uid !== undefined) {
        this.#uid(account, ask.account, answer.uid, ask.id);
        if (answer.uid <= open.greatest)
          this.#broken(`UIDs grow: ${ask.id} of ${ask.account} got ${answer.uid} after ${open.greatest}`);
        account.greatest = Math.max(account.greatest, answer.uid);
      }
      if (answer.uidValidity !== undefined) {
        if ((account.uidValidity ?? answer.uidValidity) !== answer.uidValidity)
          this.#broken(
            `UIDVALIDITY of ${ask.account} went from ${account.uidValidity} to ${answer.uidValidity}`,
          );
        account.uidValidity = answer.uidValidity;
      }
    } else if (ask.op === 'flag') {
      if (isNow) account.flagged.push(ask.target!);
    } else if (ask.op === 'read') {
      this.#read(account, open, answer.messages ?? [], isNow);
    }
  }

  #read(account: Account, open: Open, messages: NonNullable<Answer['messages']>, isNow: boolean): void {
    const { ask } = open;
    const there = new Map<string, string>();
    for (const [uid, op, flags] of messages) {
      this.#uid(account, ask.account, uid, op);
      if (there.has(op)) this.#broken(`exactly once: ${op} twice in ${ask.account} (${ask.id})`);
      if (!this.#asked.has(op)) this.#broken(`nothing from nowhere: ${op} in ${ask.account}`);
      there.set(op, flags);
      account.greatest = Math.max(account.greatest, uid);
    }
    if (!isNow) return;
    for (let index = 0; index < open.known; index++) {
      const op = account.known[index]!;
      if (!there.has(op))
        this.#broken(
          `no stale read: ${ask.id} of ${ask.account} by gateway ${ask.gateway} lacks ${op}, known before`,
        );
    }
    for (let index = 0; index < open.flagged; index++) {
      const op = account.flagged[index]!;
      if (there.has(op) && !/\\Flagged/i.test(there.get(op)!))
        this.#broken(`a flag stays: ${ask.id} of ${ask.account} shows ${op} without its own`);
    }
    const known = new Set(account.known);
    for (const op of there.keys()) if (!known.has(op)) account.known.push(op);
  }

  #final(name: string, messages: readonly (readonly [uid: number, op: string])[]): void {
    this.finals++;
    const account = this.#account(name, 0);
    const there = new Set<string>();
    for (const [uid, op] of messages) {
      this.#uid(account, name, uid, op);
      if (there.has(op)) this.#broken(`exactly once: ${op} twice in ${name} in the end`);
      if (!this.#asked.has(op)) this.#broken(`nothing from nowhere: ${op} in ${name}`);
      there.add(op);
    }
    for (const op of account.acknowledged)
      if (!there.has(op)) this.#broken(`acknowledged is kept: ${op} of ${name} is gone in the end`);
  }

  #uid(account: Account, name: string, uid: number, op: string): void {
    const before = account.uids.get(uid);
    if (before !== undefined && before !== op)
      this.#broken(`a UID is one message: ${uid} of ${name} was ${before} and is ${op}`);
    account.uids.set(uid, op);
  }

  #broken(what: string): void {
    if (this.violations.length < 100) this.violations.push(what);
  }
}
