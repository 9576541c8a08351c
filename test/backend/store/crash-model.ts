/**
 * What must be true of an account after its process was killed, given what the
 * process had begun and what it had acknowledged. Pure: lines and findings in,
 * complaints out.
 */
export type ChildLine =
  | { readonly ready: true }
  | {
      readonly n: number;
      readonly op: 'append';
      readonly id: number;
      readonly key: string;
      readonly flags: number;
    }
  | {
      readonly n: number;
      readonly op: 'flags';
      readonly folder: string;
      readonly ids: readonly number[];
      readonly flags: number;
    }
  | { readonly n: number; readonly op: 'copy' | 'move'; readonly ids: readonly number[] }
  | { readonly n: number; readonly op: 'expunge'; readonly folder: string; readonly ids: readonly number[] }
  | { readonly ack: number; readonly uid?: number };

export interface Found {
  readonly folder: string;
  readonly uid: number;
  readonly id: number;
  readonly flags: number;
}

/** What is known of a message in INBOX or Other. */
interface Known {
  /** Folders it may be in; '' for none. */
  places: Set<string>;
  flags: Set<number>;
}

export class CrashModel {
  readonly #messages = new Map<number, Known>();
  readonly #copies = new Map<number, number>();
  readonly #uids = new Map<string, number>();
  /** Appends that were begun and not acknowledged: the sender comes again. */
  retries: [number, string][] = [];

  /** Takes in one round: what the child said, then what is found. @returns complaints. */
  round(lines: readonly ChildLine[], found: readonly Found[]): string[] {
    const acked = new Map<number, number | undefined>();
    for (const line of lines) if ('ack' in line) acked.set(line.ack, line.uid);
    const complaints: string[] = [];
    const open: Extract<ChildLine, { op: 'copy' | 'move' }>[] = [];
    this.retries = [];
    for (const line of lines) {
      if (!('op' in line)) continue;
      const done = acked.has(line.n);
      switch (line.op) {
        case 'append': {
          const before = this.#messages.get(line.id);
          if (before && [...before.places].some((place) => place !== '')) {
            // A retry of what had been stored without an answer: it stays where it is.
            if (!done) this.retries.push([line.id, line.key]);
            break;
          }
          this.#messages.set(line.id, {
            places: new Set(done ? ['INBOX'] : ['INBOX', '']),
            flags: new Set([line.flags]),
          });
          if (!done) this.retries.push([line.id, line.key]);
          break;
        }
        case 'flags':
          for (const id of line.ids) {
            const known = this.#messages.get(id);
            if (!known) continue;
            if (done) known.flags.clear();
            known.flags.add(line.flags);
          }
          break;
        case 'expunge':
          for (const id of line.ids) {
            const known = this.#messages.get(id);
            if (done && known) known.places.clear();
            known?.places.add('');
          }
          break;
        case 'move':
          for (const id of line.ids) {
            const known = this.#messages.get(id);
            if (done && known) known.places.clear();
            known?.places.add('Other');
          }
          if (!done) open.push(line);
          break;
        case 'copy':
          if (done) for (const id of line.ids) this.#copies.set(id, (this.#copies.get(id) ?? 0) + 1);
          else open.push(line);
          break;
      }
    }
    this.#compare(found, open, complaints);
    return complaints;
  }

  #compare(
    found: readonly Found[],
    open: readonly Extract<ChildLine, { op: 'copy' | 'move' }>[],
    complaints: string[],
  ): void {
    const places = new Map<number, Found>();
    const copies = new Map<number, number>();
    for (const one of found) {
      const slot = `${one.folder} ${one.uid}`;
      const before = this.#uids.get(slot);
      if (before !== undefined && before !== one.id)
        complaints.push(`UID ${slot} was ${before}, is ${one.id}`);
      this.#uids.set(slot, one.id);
      if (one.folder === 'Copies') {
        copies.set(one.id, (copies.get(one.id) ?? 0) + 1);
        continue;
      }
      if (places.has(one.id)) complaints.push(`message ${one.id} is there twice`);
      places.set(one.id, one);
    }
    for (const [id, known] of this.#messages) {
      const here = places.get(id);
      if (!known.places.has(here?.folder ?? '')) {
        complaints.push(
          `message ${id} is in "${here?.folder ?? ''}", not in "${[...known.places].join('", "')}"`,
        );
      }
      if (here && !known.flags.has(here.flags)) {
        complaints.push(`message ${id} has flags ${here.flags}, not one of ${[...known.flags]}`);
      }
      if (here) known.flags = new Set([here.flags]);
      known.places = new Set([here?.folder ?? '']);
      if (!here && !this.retries.some(([retry]) => retry === id)) this.#messages.delete(id);
    }
    for (const id of places.keys())
      if (!this.#messages.has(id)) complaints.push(`message ${id} came from nowhere`);
    for (const line of open) {
      const there =
        line.op === 'move'
          ? line.ids.map((id) => (places.get(id)?.folder === 'Other' ? 1 : 0))
          : line.ids.map((id) => (copies.get(id) ?? 0) - (this.#copies.get(id) ?? 0));
      const all = there.every((count) => count === there[0]);
      if (!all) complaints.push(`${line.op} of ${line.ids} was done in part: ${there}`);
    }
    for (const [id, count] of this.#copies) {
      const now = copies.get(id) ?? 0;
      if (now < count) complaints.push(`copies of ${id}: ${now}, acknowledged ${count}`);
    }
    this.#copies.clear();
    for (const [id, count] of copies) this.#copies.set(id, count);
  }
}
