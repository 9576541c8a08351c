/**
 * A play: several sessions of one account do what a seed says, alone or at the
 * same moment, while the owner is lost now and then. After every scene at least
 * one order of the commands has to explain all answers.
 */
import { type RandomSource, randomSource } from '../support/random.ts';
import {
  type Action,
  combined,
  contentsOf,
  describe,
  emptyAccount,
  flagsIn,
  type ModelState,
  nameOf,
  possible,
} from './mailbox-model.ts';
import { readAccount } from './reread.ts';
import { type Cached, changedOf, resyncWords } from './resync.ts';
import { type Line, nextLine, textOf } from './script.ts';
import { type ClientView, type Entry, ModelSession, outcomeOf, Violation, type Wire } from './session.ts';

/** Where a play is given. */
export interface Stage {
  connect(): Promise<Wire>;
  /** A delivery, as a gateway brings it. @returns its UID, 0 where that cannot be seen, `undefined`: not settled */
  deliver(message: string, key: string): Promise<number | undefined>;
  /** A message another program puts into INBOX, and its UID when it is seen; absent where nobody else can. */
  foreign?(message: string, id: string): Promise<number | undefined>;
  /** The owner dies now; resolves when another one answers. */
  restart(): Promise<void>;
}

export interface PlayOptions {
  readonly seed: number;
  /** Which scenes are given, by number; each has randomness of its own, so that some may be left out. */
  readonly scenes: readonly number[];
  readonly sessions: number;
  /** One scene in so many loses the owner; 0: none. */
  readonly restartEvery: number;
}

export interface PlayReport {
  readonly commands: number;
  readonly restarts: number;
  /** What went wrong, and the dialogue up to there. */
  readonly finding: { readonly reason: string; readonly script: readonly string[] } | undefined;
}

const candidatesMax = 64;
const scriptLinesMax = 400;

export async function play(stage: Stage, options: PlayOptions): Promise<PlayReport> {
  const one = new Play(stage, options);
  try {
    await one.run();
  } catch (error) {
    const reason = error instanceof Violation ? error.message : String((error as Error).stack ?? error);
    return { ...one.counts, finding: { reason, script: one.script } };
  } finally {
    one.end();
  }
  return { ...one.counts, finding: undefined };
}

/** What one actor of a scene did and was told. `outcome` undefined: never answered. */
interface Deed {
  readonly action: Action;
  readonly outcome: string | undefined;
}

class Play {
  readonly script: string[] = [];
  readonly counts = { commands: 0, restarts: 0 };
  readonly #stage: Stage;
  readonly #options: PlayOptions;
  #sessions: ModelSession[] = [];
  #connected = 0;
  /** What the account may be. */
  #states: readonly ModelState[] = [emptyAccount];
  /** UIDVALIDITY by folder key, and all ever seen by name. */
  readonly #validities = new Map<string, number>();
  readonly #validityUsed = new Map<string, string>();
  /** What a client that comes again has of a folder, by its key. */
  readonly #cached = new Map<string, Cached>();
  /** Flags that were told with a modification sequence: by folder, UID and sequence. */
  readonly #flagsAt = new Map<string, string>();
  #scene = 0;
  #dying = false;

  constructor(stage: Stage, options: PlayOptions) {
    this.#stage = stage;
    this.#options = options;
  }

  async run(): Promise<void> {
    for (const scene of this.#options.scenes) {
      this.#scene = scene;
      const random = randomSource(this.#options.seed * 100_003 + scene);
      this.#note(`-- scene ${scene}`);
      await this.#fillCast();
      const { restartEvery } = this.#options;
      await this.#give(random, restartEvery > 0 && random.between(1, restartEvery) === 1);
    }
    await this.#fillCast();
    for (const session of this.#sessions) await this.#lookAround(session);
  }

  end(): void {
    for (const session of this.#sessions) session.destroy();
  }

  readonly #note = (line: string): void => {
    this.script.push(line);
    if (this.script.length > scriptLinesMax) this.script.splice(0, scriptLinesMax / 4);
  };

  async #fillCast(): Promise<void> {
    this.#sessions = this.#sessions.filter((session) => !session.ended);
    while (this.#sessions.length < this.#options.sessions) {
      const wire = await this.#stage.connect();
      const session = new ModelSession(`s${++this.#connected}`, wire, this.#note, this.#heard);
      this.#sessions.push(session);
      const kind = (this.#connected + this.#options.seed) % 4;
      if (kind < 2) await session.enable('qresync');
      else if (kind === 2) await session.enable('condstore');
    }
  }

  /** One sequence of a message means one set of flags, whoever is told. */
  readonly #heard = (view: ClientView, uid: number, modseq: number, flags: string | undefined): void => {
    if (flags === undefined) return;
    const place = `${view.folder} ${uid} ${modseq}`;
    const before = this.#flagsAt.get(place);
    if (before !== undefined && before !== flags)
      throw new Violation(`UID ${uid} at MODSEQ ${modseq} had ${before}, now ${flags}`);
    this.#flagsAt.set(place, flags);
  };

  async #give(random: RandomSource, dying: boolean): Promise<void> {
    const actors = random.between(0, 9) < 6 ? 1 : random.between(2, Math.min(3, this.#sessions.length));
    const cast = [...this.#sessions].sort(() => random.next() - 0.5).slice(0, actors);
    const lines = cast.map((session) => ({
      session,
      line: nextLine(random, session, this.#states[0]!, this.#scene),
    }));
    const done: Promise<Deed | undefined>[] = [];
    if (random.between(0, 9) === 0) done.push(this.#delivery(random));
    else if (!dying && this.#stage.foreign !== undefined && random.between(0, 19) === 0) {
      done.push(this.#foreign(random));
    }
    const alone = lines.length + done.length === 1;
    done.push(...lines.map(({ session, line }) => this.#speak(session, line, alone)));
    if (dying) {
      await turns(random.between(0, 12));
      this.#note('-- the owner dies');
      this.#dying = true;
      const restarted = this.#stage.restart();
      const deeds = await Promise.all(done);
      await restarted;
      this.#dying = false;
      await this.#afterRestart(deeds.filter((deed) => deed !== undefined).flatMap(parts));
      return;
    }
    const deeds = (await Promise.all(done)).filter((deed) => deed !== undefined).flatMap(parts);
    if (deeds.length > 0) this.#explain(deeds);
    for (const { session } of lines) await this.#learn(session);
    if (random.between(0, 2) === 0)
      await this.#lookAround(this.#sessions[random.between(0, this.#sessions.length - 1)]!);
  }

  async #delivery(random: RandomSource): Promise<Deed> {
    const id = `d${this.#scene}-${random.between(0, 999)}`;
    this.counts.commands++;
    const uid = await this.#stage.deliver(textOf(id), `${id}-${this.#options.seed}`);
    this.#note(`delivery ${id} got ${uid}`);
    const outcome = uid === undefined ? undefined : uid === 0 ? '*' : `OK ${uid}`;
    return { action: { kind: 'append', name: 'INBOX', flags: [], id }, outcome };
  }

  async #foreign(random: RandomSource): Promise<Deed> {
    const id = `f${this.#scene}-${random.between(0, 999)}`;
    const uid = await this.#stage.foreign!(textOf(id), id);
    this.#note(`another program brought ${id}: ${uid}`);
    const outcome = uid === undefined ? undefined : `OK ${uid}`;
    return { action: { kind: 'append', name: 'INBOX', flags: [], id }, outcome };
  }

  async #speak(session: ModelSession, line: Line, alone: boolean): Promise<Deed | undefined> {
    this.counts.commands++;
    switch (line.kind) {
      case 'select':
        await this.#select(session, line.name, line.readOnly, alone);
        return undefined;
      case 'idle':
        await session.idle();
        return undefined;
      case 'done':
        await session.done();
        return undefined;
      case 'noop':
        await session.run('NOOP');
        return undefined;
      case 'conditional':
        return alone ? this.#conditional(session, line.uid, line.flag) : undefined;
      case 'saved':
        if (alone) await this.#saved(session, line);
        return undefined;
      case 'act': {
        const answer = await session.run(line.command, line.expunges, silentChange(line));
        if (line.leaves && /^OK/.test(answer.completion)) {
          this.#remember(session.view);
          session.view = undefined;
        }
        // What was read while others wrote may be of before, between or after.
        const reads = ['fetch', 'search', 'status', 'store'].includes(line.action.kind);
        const outcome = outcomeOf(line.action.kind, answer);
        if (/^BAD|SERVERBUG/.test(answer.completion))
          throw new Violation(`${session.name}: ${answer.completion}`);
        // Refused because the owner is going: then nothing was done, which reading it all again will show.
        if (/^NO \[UNAVAILABLE\]/.test(answer.completion) && this.#dying) return undefined;
        if (outcome === 'BYE') return { action: line.action, outcome: this.#dying ? undefined : 'BYE' };
        return { action: line.action, outcome: reads && !alone ? '*' : outcome };
      }
    }
  }

  /** Is a folder deleted in every state? */
  #isGone(key: string): boolean {
    return this.#states.every((state) => nameOf(state, key) === undefined);
  }

  async #select(session: ModelSession, name: string, readOnly: boolean, alone: boolean): Promise<void> {
    this.#remember(session.view);
    session.view = undefined;
    const cached = alone && session.enabled === 'qresync' ? this.#cachedOf(name) : undefined;
    const words = cached === undefined ? '' : resyncWords(cached, this.#scene);
    const answer = await session.run(`${readOnly ? 'EXAMINE' : 'SELECT'} ${name}${words}`);
    const known = this.#states.filter((state) => state.has(name));
    if (answer.completion.startsWith('NO')) {
      if (alone && !this.#dying && known.length === this.#states.length)
        throw new Violation(`${session.name}: ${name} exists: ${answer.completion}`);
      return;
    }
    if (!answer.completion.startsWith('OK')) return;
    if (alone && known.length === 0) throw new Violation(`${session.name}: there is no ${name}`);
    // Others may rename and create at this moment: which folder it is, is only known alone.
    const keys = new Set(known.map((state) => state.get(name)!.key));
    if (!alone || keys.size !== 1) {
      await session.run('UNSELECT');
      return;
    }
    const text = answer.lines.join('\n');
    const count = Number(/^\* (\d+) EXISTS/m.exec(text)?.[1]);
    const [folder] = keys as Set<string>;
    const uidValidity = Number(/UIDVALIDITY (\d+)/.exec(text)?.[1]);
    this.#checkValidity(folder!, name, uidValidity);
    const next = Number(/UIDNEXT (\d+)/.exec(text)?.[1]);
    this.#keep((state) => {
      const one = state.get(name);
      return one !== undefined && one.messages.length === count && one.uidNext === next;
    }, `${session.name}: ${name} has ${count} messages, UIDNEXT ${next}`);
    const modseq = Number(/HIGHESTMODSEQ (\d+)/.exec(text)?.[1]);
    const told = this.#cached.get(folder!)?.modseq ?? 0;
    if (modseq < told) throw new Violation(`HIGHESTMODSEQ of ${name} was ${told}, now ${modseq}`);
    const resynced = cached !== undefined && cached.uidValidity === uidValidity;
    const entries = resynced ? changedOf(cached, answer.lines) : [];
    if (entries.length > count)
      throw new Violation(`${session.name}: ${count} exist, but ${entries.length} are left`);
    // A client that named what it has asks for what is new by itself.
    while (entries.length < count) entries.push({ uid: 0, flags: undefined });
    session.view = { folder: folder!, readOnly, modseq, uidValidity, entries };
    if (!resynced) return;
    await this.#learn(session);
    if (!session.ended) this.#sees(session, folder!, entries, 'after QRESYNC');
  }

  /** What a client that was here knows of the folder of this name, when it is clear which one that is. */
  #cachedOf(name: string): Cached | undefined {
    const keys = new Set(this.#states.map((state) => state.get(name)?.key));
    const [key] = keys;
    return keys.size === 1 && key !== undefined ? this.#cached.get(key) : undefined;
  }

  /** Keeps what a client has of the folder it leaves, as one that goes offline. */
  #remember(view: ClientView | undefined): void {
    if (view === undefined || view.entries.some((entry) => entry.uid <= 0 || entry.flags === undefined))
      return;
    const { folder, modseq, uidValidity } = view;
    const entries = view.entries.map(({ uid, flags }) => ({ uid, flags }));
    this.#cached.set(folder, { modseq, uidValidity, entries });
  }

  /** STORE with UNCHANGEDSINCE, alone: what nobody changed is changed, what was changed is told. */
  async #conditional(session: ModelSession, uid: number, flag: string): Promise<Deed | undefined> {
    const { folder } = session.view!;
    const before = await session.run(`UID FETCH ${uid} (FLAGS MODSEQ)`);
    const modseq = Number(
      new RegExp(`UID ${uid} .*MODSEQ \\((\\d+)\\)`).exec(before.lines.join('\n'))?.[1] ?? 0,
    );
    if (modseq === 0) return undefined;
    const action: Action = { kind: 'store', folder, uids: [uid], byUid: true, how: 'add', flags: [flag] };
    const store = await session.run(`UID STORE ${uid} (UNCHANGEDSINCE ${modseq}) +FLAGS (${flag})`);
    if (store.completion === 'BYE' || this.#dying) return { action, outcome: undefined };
    if (!/^OK (?!\[MODIFIED)/.test(store.completion))
      throw new Violation(`${session.name}: unchanged since ${modseq}, but ${store.completion}`);
    const older = await session.run(`UID STORE ${uid} (UNCHANGEDSINCE ${modseq - 1}) -FLAGS (${flag})`);
    if (older.completion !== 'BYE' && !older.completion.startsWith(`OK [MODIFIED ${uid}]`))
      throw new Violation(`${session.name}: changed at ${modseq}, but ${older.completion}`);
    return { action, outcome: 'OK' };
  }

  /** SEARCHRES, alone: `$` is what was found. */
  async #saved(session: ModelSession, { uids, key }: Line & { kind: 'saved' }): Promise<void> {
    const { folder } = session.view!;
    await session.run(`UID SEARCH RETURN (SAVE) ${key.words}`, true);
    const fetched = await session.run('UID FETCH $ (UID BODY.PEEK[HEADER.FIELDS (X-Id)])');
    if (this.#dying || session.ended || this.#isGone(folder)) return;
    const told = outcomeOf('fetch', fetched);
    this.#keep((state) => {
      const name = nameOf(state, folder);
      const found = state.get(name ?? '')?.messages.filter((one) => uids.includes(one.uid) && key.holds(one));
      return told === `OK ${(found ?? []).map((one) => `${one.uid}=${one.id}`).join()}`;
    }, `${session.name}: $ of ${key.words} is ${told}`);
  }

  /** The folder has just these messages with just these flags. */
  #sees(session: ModelSession, key: string, entries: readonly Entry[], when: string): void {
    const seen = entries.map((entry) => `${entry.uid}${entry.flags}`).join(' ');
    this.#keep((state) => {
      const name = nameOf(state, key);
      if (name === undefined) return false;
      return contentsOf(state.get(name)!).replace(/=[^(]*/g, '') === seen;
    }, `${session.name} sees ${when} ${seen}`);
  }

  #checkValidity(folder: string, name: string, validity: number): void {
    const before = this.#validities.get(folder);
    if (before !== undefined && before !== validity)
      throw new Violation(`UIDVALIDITY of ${name} was ${before}, now ${validity}`);
    this.#validities.set(folder, validity);
    const used = this.#validityUsed.get(`${name} ${validity}`);
    if (used !== undefined && used !== folder)
      throw new Violation(`UIDVALIDITY ${validity} of ${name} was that of another folder of this name`);
    this.#validityUsed.set(`${name} ${validity}`, folder);
  }

  /** Asks for UIDs and flags of messages the client has only heard the number of. */
  async #learn(session: ModelSession): Promise<void> {
    const { view } = session;
    if (view === undefined || session.ended || session.idling !== undefined) return;
    const first = view.entries.findIndex((entry) => entry.uid === 0);
    if (first < 0) return;
    const items = session.enabled === 'nothing' ? 'UID FLAGS' : 'FLAGS UID MODSEQ';
    await session.run(`FETCH ${first + 1}:${view.entries.length} (${items})`, false);
    for (const entry of view.entries) if (entry.uid === 0) entry.uid = -1;
  }

  /** After a NOOP a session has been told everything: its view is the folder. */
  async #lookAround(session: ModelSession): Promise<void> {
    if (session.ended) return;
    if (session.idling !== undefined) await session.done();
    else await session.run('NOOP');
    const { view } = session;
    if (view === undefined || this.#isGone(view.folder)) return;
    await this.#learn(session);
    this.#sees(session, view.folder, view.entries, 'after NOOP');
  }

  #explain(deeds: readonly Deed[]): void {
    const next = new Map<string, ModelState>();
    for (const state of this.#states) {
      for (const found of followed(state, deeds)) next.set(describe(found), found);
    }
    if (next.size === 0) {
      const told = deeds.map((deed) => `${JSON.stringify(deed.action)} -> ${deed.outcome}`);
      throw new Violation(`no order explains:\n${told.join('\n')}\nbefore:\n${this.#statesText()}`);
    }
    this.#states = [...next.values()].slice(0, candidatesMax);
  }

  #keep(test: (state: ModelState) => boolean, what: string): void {
    const kept = this.#states.filter(test);
    if (kept.length === 0) throw new Violation(`${what}, but it should be:\n${this.#statesText()}`);
    this.#states = kept;
  }

  #statesText(): string {
    return this.#states.slice(0, 4).map(describe).join('\nor\n');
  }

  /** What was answered is there; what was not may be; nothing else is. */
  async #afterRestart(deeds: readonly Deed[]): Promise<void> {
    this.counts.restarts++;
    this.end();
    this.#sessions = [];
    await this.#fillCast();
    const folders = await readAccount(this.#sessions[0]!);
    // A crash may skip UIDs, and a message may have come after it: where it is now says which UID it was given.
    const settled = deeds.map((deed) => {
      if (deed.action.kind !== 'append') return deed;
      const { id, name } = deed.action;
      const uid = folders.find((folder) => folder.name === name)?.uidById.get(id);
      return uid === undefined ? deed : { ...deed, action: { ...deed.action, uid } };
    });
    if (settled.length > 0) this.#explain(settled);
    const names = folders.map((folder) => folder.name).sort();
    this.#keep(
      (state) => [...state.keys()].sort().join() === names.join(),
      `after the restart there are ${names.join()}`,
    );
    for (const { name, contents, uidNext, uidValidity } of folders) {
      this.#keep(
        (state) => contentsOf(state.get(name)!) === contents && state.get(name)!.uidNext <= uidNext,
        `after the restart ${name} (next ${uidNext}) has ${contents}`,
      );
      this.#states = this.#states.map((state) => new Map(state).set(name, { ...state.get(name)!, uidNext }));
      for (const key of new Set(this.#states.map((state) => state.get(name)!.key)))
        this.#checkValidity(key, name, uidValidity);
    }
  }
}

/** Reading marks each message by itself: another command may come between two of them. */
function parts(deed: Deed): Deed[] {
  const { action, outcome } = deed;
  if (action.kind !== 'fetch' || !action.seen || (outcome !== undefined && outcome !== '*')) return [deed];
  return action.uids.map((uid) => ({ outcome, action: { ...action, uids: [uid] } }));
}

/** All states that some order of the deeds leads to, with just the outcomes that were told. */
function followed(state: ModelState, deeds: readonly Deed[]): ModelState[] {
  if (deeds.length === 0) return [state];
  const found: ModelState[] = [];
  for (const [index, deed] of deeds.entries()) {
    const rest = deeds.filter((_, at) => at !== index);
    if (deed.outcome === undefined) found.push(...followed(state, rest));
    for (const step of possible(state, deed.action)) {
      if (fits(step.outcome, deed.outcome)) found.push(...followed(step.state, rest));
    }
  }
  return found;
}

/** Is an outcome one that was told? A session whose folder is deleted may be told NO before BYE. */
function fits(outcome: string, told: string | undefined): boolean {
  if (told === undefined || told === '*' || told === outcome) return true;
  return outcome === 'BYE' && told.startsWith('NO');
}

/** What a client that said .SILENT takes for granted. */
function silentChange(line: Line & { kind: 'act' }): ((view: ClientView) => void) | undefined {
  const { action } = line;
  if (action.kind !== 'store' || !line.command.includes('.SILENT')) return undefined;
  return (view) => {
    for (const entry of view.entries) {
      if (entry.flags === undefined || !action.uids.includes(entry.uid)) continue;
      const before = new Set(entry.flags.slice(1, -1).split(' ').filter(Boolean));
      entry.flags = flagsIn(combined(before, action.how, action.flags));
    }
  };
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}
