/** What a session says next: chosen by the seed from what its client knows and what the model says there is. */
import type { RandomSource } from '../support/random.ts';
import type { Action, How, ModelState, Test } from './mailbox-model.ts';
import type { ClientView, ModelSession } from './session.ts';

export type Line =
  | { readonly kind: 'select'; readonly name: string; readonly readOnly: boolean }
  | { readonly kind: 'idle' | 'done' | 'noop' }
  /** STORE with UNCHANGEDSINCE. */
  | { readonly kind: 'conditional'; readonly uid: number; readonly flag: string }
  /** SEARCH with SAVE, and FETCH of `$`. */
  | { readonly kind: 'saved'; readonly uids: readonly number[]; readonly key: Test }
  | {
      readonly kind: 'act';
      readonly command: string;
      readonly action: Action;
      /** May EXPUNGE be told before it completes? */
      readonly expunges: boolean;
      /** Nothing is selected afterwards. */
      readonly leaves?: true;
    };

const names = ['INBOX', 'A', 'B', 'C', 'A/x', 'B/y'];
const flags = ['\\seen', '\\deleted', '\\flagged', '\\answered', '\\draft', '$one', '$two', '$three'];

export function nextLine(
  random: RandomSource,
  session: ModelSession,
  state: ModelState,
  scene: number,
): Line {
  if (session.idling !== undefined) return { kind: 'done' };
  const pick = <T>(from: readonly T[]): T => from[random.between(0, from.length - 1)]!;
  const { view } = session;
  const existing = [...state.keys()];
  const id = `${session.name}-${scene}`;
  const folder = () => (random.between(0, 9) === 0 ? pick(names) : pick(existing));
  const dice = random.between(0, 99);
  if (dice < 12) return append(folder(), some(random, flags, 2), id);
  if (dice < 20 || (view === undefined && dice < 75))
    return { kind: 'select', name: pick(['INBOX', folder()]), readOnly: random.between(0, 5) === 0 };
  if (dice < 23) return { kind: 'noop' };
  if (dice < 26 && view !== undefined) return { kind: 'idle' };
  if (dice < 29) {
    const name = folder();
    return act(`STATUS ${name} (MESSAGES UIDNEXT UNSEEN)`, { kind: 'status', name });
  }
  if (dice < 32) {
    const name = pick(names);
    return act(`CREATE ${name}`, name === 'INBOX' ? { kind: 'refused' } : { kind: 'create', name, key: id });
  }
  if (dice < 34) {
    const name = pick(names);
    const own = view !== undefined && state.get(name)?.key === view.folder;
    return { ...act(`DELETE ${name}`, { kind: 'delete', name }), ...(own ? { leaves: true as const } : {}) };
  }
  if (dice < 37) {
    const from = folder();
    const to = pick(names);
    return act(`RENAME ${from} ${to}`, { kind: 'rename', from, to, key: id });
  }
  if (view === undefined || view.entries.length === 0) return append('INBOX', some(random, flags, 3), id);
  if (random.between(0, 19) === 0)
    return { kind: 'saved', uids: knownUids(view), key: someTest(random, pick) };
  if (session.enabled !== 'nothing' && !view.readOnly && random.between(0, 14) === 0) {
    const known = knownUids(view);
    if (known.length > 0) return { kind: 'conditional', uid: pick(known), flag: pick(flags) };
  }
  return inFolder(random, view, folder(), pick, session.enabled !== 'nothing');
}

function inFolder(
  random: RandomSource,
  view: ClientView,
  target: string,
  pick: <T>(from: readonly T[]) => T,
  countsModseqs: boolean,
): Line {
  const byUid = random.between(0, 1) === 0;
  const uid = byUid ? 'UID ' : '';
  const { set, uids } = someMessages(random, view, byUid);
  const { folder } = view;
  const dice = random.between(0, 99);
  if (dice < 38) {
    const how: How = pick(['set', 'add', 'add', 'add', 'remove']);
    const sign = { set: '', add: '+', remove: '-' }[how];
    const chosen = random.between(0, 2) === 0 ? ['\\deleted'] : some(random, flags, 3);
    const command = `${uid}STORE ${set} ${sign}FLAGS${pick(['', '.SILENT'])} (${chosen.join(' ')})`;
    if (view.readOnly) return act(command, { kind: 'refused' }, byUid);
    return act(command, { kind: 'store', folder, uids, byUid, how, flags: chosen }, byUid);
  }
  if (dice < 50) {
    const command = byUid ? `UID EXPUNGE ${set}` : 'EXPUNGE';
    if (view.readOnly) return act(command, { kind: 'refused' });
    return act(command, { kind: 'expunge', folder, uids: byUid ? uids : knownUids(view) });
  }
  if (dice < 66) {
    const kind = pick(['copy', 'move'] as const);
    const command = `${uid}${kind.toUpperCase()} ${set} ${target}`;
    if (kind === 'move' && view.readOnly) return act(command, { kind: 'refused' });
    return act(command, { kind, folder, uids, byUid, target });
  }
  if (dice < 82) {
    const seen = random.between(0, 2) === 0 && uids.length <= 2;
    const items = seen ? 'BODY[]' : 'BODY.PEEK[HEADER.FIELDS (X-Id)]';
    const action: Action = { kind: 'fetch', folder, uids, byUid, seen: seen && !view.readOnly };
    return act(`${uid}FETCH ${set} (UID FLAGS ${items}${countsModseqs ? ' MODSEQ' : ''})`, action, byUid);
  }
  if (dice < 96) {
    const key = someTest(random, pick);
    return act(`UID SEARCH ${key.words}`, { kind: 'search', folder, uids: knownUids(view), key });
  }
  const action: Action = view.readOnly
    ? { kind: 'expunge', folder, uids: [], close: true }
    : { kind: 'expunge', folder, uids: knownUids(view), close: true };
  return { ...act('CLOSE', action), leaves: true };
}

export function textOf(id: string): string {
  return `Subject: about ${id}\r\nX-Id: ${id}\r\nFrom: ann@postern.test\r\n\r\nbody of ${id}\r\n`;
}

function act(command: string, action: Action, expunges = true): Line & { kind: 'act' } {
  return { kind: 'act', command, action, expunges };
}

function append(name: string, chosen: readonly string[], id: string): Line {
  const text = textOf(id);
  const command = `APPEND ${name} (${chosen.join(' ')}) {${text.length}+}\r\n${text}`;
  return act(command, { kind: 'append', name, flags: chosen, id });
}

function some<T>(random: RandomSource, from: readonly T[], most: number): T[] {
  const count = random.between(0, most);
  return [...new Set(Array.from({ length: count }, () => from[random.between(0, from.length - 1)]!))];
}

function knownUids(view: ClientView): number[] {
  return view.entries.map((entry) => entry.uid).filter((uid) => uid > 0);
}

/** A set in the client's words, and the messages of its view it stands for (-1: one it knows to be gone). */
function someMessages(
  random: RandomSource,
  view: ClientView,
  byUid: boolean,
): { set: string; uids: number[] } {
  const { entries } = view;
  const parts: string[] = [];
  const chosen = new Set<number>();
  for (let count = random.between(1, 3); count > 0; count--) {
    const low = random.between(0, entries.length - 1);
    const high = Math.min(entries.length - 1, low + (random.between(0, 1) ? 0 : random.between(0, 5)));
    for (let at = low; at <= high; at++) chosen.add(at);
    const name = (at: number) => (byUid ? entries[at]!.uid : at + 1);
    if (byUid && (name(low) < 1 || name(high) < 1)) return everything(view, byUid);
    if (high === entries.length - 1 && random.between(0, 3) === 0) parts.push(`${name(low)}:*`);
    else parts.push(low === high ? `${name(low)}` : `${name(high)}:${name(low)}`);
  }
  const uids = [...chosen].sort((a, b) => a - b).map((at) => entries[at]!.uid);
  return { set: parts.join(), uids: byUid ? uids.filter((uid) => uid > 0) : uids };
}

function everything(view: ClientView, byUid: boolean): { set: string; uids: number[] } {
  const uids = view.entries.map((entry) => entry.uid);
  return { set: '1:*', uids: byUid ? uids.filter((uid) => uid > 0) : uids };
}

function someTest(random: RandomSource, pick: <T>(from: readonly T[]) => T, depth = 0): Test {
  const dice = random.between(0, depth > 2 ? 4 : 7);
  if (dice < 2) {
    const flag = pick(flags.filter((one) => one.startsWith('\\')));
    return { words: flag.slice(1).toUpperCase(), holds: (message) => message.flags.has(flag) };
  }
  if (dice < 3) {
    const word = pick(['$one', '$two', '$three']);
    return { words: `UNKEYWORD ${word}`, holds: (message) => !message.flags.has(word) };
  }
  const piece = `${pick(['s', 'd', ''])}${random.between(1, 30)}`;
  if (dice < 4)
    return { words: `SUBJECT "ABOUT ${piece}"`, holds: ({ id }) => `about ${id}`.includes(`about ${piece}`) };
  if (dice < 5) return { words: `BODY "${piece}"`, holds: ({ id }) => `body of ${id}`.includes(piece) };
  const left = someTest(random, pick, depth + 1);
  if (dice < 6) return { words: `NOT ${left.words}`, holds: (message) => !left.holds(message) };
  const right = someTest(random, pick, depth + 1);
  if (dice < 7)
    return { words: `OR ${left.words} ${right.words}`, holds: (one) => left.holds(one) || right.holds(one) };
  return { words: `(${left.words} ${right.words})`, holds: (one) => left.holds(one) && right.holds(one) };
}
