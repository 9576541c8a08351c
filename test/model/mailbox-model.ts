/**
 * What an account is, in the fewest words: names, messages, flags, UIDs. It
 * shares no code with the product, keeps no files, and answers a change with
 * the states it may lead to. States are never changed in place, so that several
 * possible ones can be followed side by side.
 */

export interface ModelMessage {
  readonly uid: number;
  /** The X-Id field: which message this is. */
  readonly id: string;
  /** Lower case. */
  readonly flags: ReadonlySet<string>;
}

export interface ModelFolder {
  /** Which folder this is, whatever its name becomes. */
  readonly key: string;
  readonly uidNext: number;
  readonly messages: readonly ModelMessage[];
}

export type ModelState = ReadonlyMap<string, ModelFolder>;

export type How = 'set' | 'add' | 'remove';

/** What is done to the account. `folder` is the key of the folder a session has selected, `uids` what its client named there. */
export type Action =
  | {
      readonly kind: 'append';
      readonly name: string;
      readonly flags: readonly string[];
      readonly id: string;
      /** Its UID is this or a later one: some were skipped by a crash. */
      readonly uid?: number;
    }
  | {
      readonly kind: 'store';
      readonly folder: string;
      readonly uids: readonly number[];
      readonly byUid: boolean;
      readonly how: How;
      readonly flags: readonly string[];
    }
  /** `close`: CLOSE, which leaves a folder that is gone as well. */
  | {
      readonly kind: 'expunge';
      readonly folder: string;
      readonly uids: readonly number[];
      readonly close?: true;
    }
  | {
      readonly kind: 'copy' | 'move';
      readonly folder: string;
      readonly uids: readonly number[];
      readonly byUid: boolean;
      readonly target: string;
    }
  /** `seen`: the body is read without PEEK. */
  | {
      readonly kind: 'fetch';
      readonly folder: string;
      readonly uids: readonly number[];
      readonly byUid: boolean;
      readonly seen: boolean;
    }
  | { readonly kind: 'search'; readonly folder: string; readonly uids: readonly number[]; readonly key: Test }
  | { readonly kind: 'status'; readonly name: string }
  | { readonly kind: 'create'; readonly name: string; readonly key: string }
  | { readonly kind: 'delete'; readonly name: string }
  | { readonly kind: 'rename'; readonly from: string; readonly to: string; readonly key: string }
  /** Refused whatever the state is. */
  | { readonly kind: 'refused' };

/** A search key and what it means. */
export interface Test {
  readonly words: string;
  readonly holds: (message: ModelMessage) => boolean;
}

export interface Step {
  readonly state: ModelState;
  /** What the client is told, in the words of `outcomeOf` in session.ts. */
  readonly outcome: string;
}

export const emptyAccount: ModelState = new Map([['INBOX', { key: 'inbox', uidNext: 1, messages: [] }]]);

/** All that may come of an action. More than one where IMAP leaves it open. */
export function possible(state: ModelState, action: Action): readonly Step[] {
  const stay = (outcome: string): Step[] => [{ state, outcome }];
  switch (action.kind) {
    case 'refused':
      return stay('NO');
    case 'append': {
      const folder = state.get(action.name);
      if (folder === undefined) return stay('NO');
      const uid = Math.max(folder.uidNext, action.uid ?? 0);
      const message = { uid, id: action.id, flags: new Set(action.flags) };
      return [{ state: put(state, action.name, added(folder, [message])), outcome: `OK ${message.uid}` }];
    }
    case 'create':
      if (state.has(action.name)) return stay('NO');
      return [
        { state: put(state, action.name, { key: action.key, uidNext: 1, messages: [] }), outcome: 'OK' },
      ];
    case 'delete': {
      if (action.name === 'INBOX' || !state.has(action.name)) return stay('NO');
      const next = new Map(state);
      next.delete(action.name);
      return [{ state: next, outcome: 'OK' }];
    }
    case 'rename':
      return renamed(state, action);
    case 'status': {
      const folder = state.get(action.name);
      if (folder === undefined) return stay('NO');
      const unseen = folder.messages.filter((message) => !message.flags.has('\\seen')).length;
      return stay(`OK ${folder.messages.length} ${folder.uidNext} ${unseen}`);
    }
    default:
  }
  const name = nameOf(state, action.folder);
  // The selected folder was deleted: the session has to end.
  if (name === undefined) return 'close' in action ? [...stay('OK'), ...stay('BYE')] : stay('BYE');
  const folder = state.get(name)!;
  const there = folder.messages.filter((message) => action.uids.includes(message.uid));
  switch (action.kind) {
    case 'store': {
      const next = changed(folder, there, (flags) => combined(flags, action.how, action.flags));
      const missing = there.length < action.uids.length && !action.byUid;
      return [{ state: put(state, name, next), outcome: missing ? 'NO' : 'OK' }];
    }
    case 'expunge': {
      const left = folder.messages.filter(
        (message) => !(there.includes(message) && message.flags.has('\\deleted')),
      );
      return [{ state: put(state, name, { ...folder, messages: left }), outcome: 'OK' }];
    }
    case 'fetch': {
      const next = action.seen
        ? changed(folder, there, (flags) => combined(flags, 'add', ['\\seen']))
        : folder;
      const missing = there.length < action.uids.length && !action.byUid;
      const told = there.map((message) => `${message.uid}=${message.id}`).join();
      return [{ state: put(state, name, next), outcome: `${missing ? 'NO' : 'OK'} ${told}` }];
    }
    case 'search':
      return stay(`OK ${there.filter((message) => action.key.holds(message)).map((message) => message.uid)}`);
    case 'copy':
    case 'move':
      return transferred(state, name, action, there);
  }
}

function transferred(
  state: ModelState,
  name: string,
  action: Action & { kind: 'copy' | 'move' },
  there: readonly ModelMessage[],
): Step[] {
  const target = state.get(action.target);
  if (target === undefined) return [{ state, outcome: 'NO' }];
  const missing = there.length < action.uids.length && !action.byUid;
  const refused: Step[] = missing ? [{ state, outcome: 'NO' }] : [];
  if (there.length === 0) return missing ? refused : [{ state, outcome: 'OK' }];
  const copies = there.map((message, index) => ({ ...message, uid: target.uidNext + index }));
  let next = put(state, action.target, added(target, copies));
  if (action.kind === 'move') {
    const source = next.get(name)!;
    const left = source.messages.filter((message) => !there.some((gone) => gone.uid === message.uid));
    next = put(next, name, { ...source, messages: left });
  }
  const pairs = there.map((message, index) => `${message.uid}>${copies[index]!.uid}`).join();
  return [...refused, { state: next, outcome: `OK ${pairs}` }];
}

function renamed(state: ModelState, action: Action & { kind: 'rename' }): Step[] {
  const { from, to, key } = action;
  const refused = [{ state, outcome: 'NO' }];
  if (state.has(to) || to === from) return refused;
  if (from === 'INBOX') {
    const inbox = state.get('INBOX')!;
    const moved = inbox.messages.map((message, index) => ({ ...message, uid: index + 1 }));
    const target = added({ key, uidNext: 1, messages: [] }, moved);
    return [{ state: put(put(state, to, target), 'INBOX', { ...inbox, messages: [] }), outcome: 'OK' }];
  }
  if (to.startsWith(`${from}/`)) return refused;
  const moving = [...state.keys()].filter((name) => name === from || name.startsWith(`${from}/`));
  const names = moving.map((name) => to + name.slice(from.length));
  if (moving.length === 0 || names.some((name) => state.has(name))) return refused;
  const next = new Map(state);
  for (const name of moving) next.delete(name);
  for (const [index, name] of names.entries()) next.set(name, state.get(moving[index]!)!);
  return [{ state: next, outcome: 'OK' }];
}

export function nameOf(state: ModelState, key: string): string | undefined {
  for (const [name, folder] of state) if (folder.key === key) return name;
  return undefined;
}

/** One line per folder: to compare, and to be read by people. */
export function describe(state: ModelState): string {
  return [...state]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, folder]) => `${name} (${folder.key}, next ${folder.uidNext}): ${contentsOf(folder)}`)
    .join('\n');
}

export function contentsOf(folder: ModelFolder): string {
  return folder.messages.map((one) => `${one.uid}=${one.id}${flagsIn(one.flags)}`).join(' ');
}

export function flagsIn(flags: Iterable<string>): string {
  return `(${[...flags].sort().join(' ')})`;
}

function put(state: ModelState, name: string, folder: ModelFolder): ModelState {
  return new Map(state).set(name, folder);
}

function added(folder: ModelFolder, messages: readonly ModelMessage[]): ModelFolder {
  return {
    ...folder,
    uidNext: Math.max(folder.uidNext, (messages.at(-1)?.uid ?? 0) + 1),
    messages: [...folder.messages, ...messages],
  };
}

function changed(
  folder: ModelFolder,
  which: readonly ModelMessage[],
  change: (flags: ReadonlySet<string>) => ReadonlySet<string>,
): ModelFolder {
  const messages = folder.messages.map((message) =>
    which.includes(message) ? { ...message, flags: change(message.flags) } : message,
  );
  return { ...folder, messages };
}

export function combined(
  before: ReadonlySet<string>,
  how: How,
  flags: readonly string[],
): ReadonlySet<string> {
  if (how === 'set') return new Set(flags);
  if (how === 'add') return new Set([...before, ...flags]);
  return new Set([...before].filter((flag) => !flags.includes(flag)));
}
