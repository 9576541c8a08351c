/**
 * The shared storage of a play: account directories with an `owner` file and
 * journals. A call that is under way when its process dies or is paused still
 * lands; across a cut it lands when the cut has healed, as a hard mount does it.
 * A descriptor outlives the name: a late writer writes to the file it opened.
 */
import { type FenceRecord, journalEpoch, journalToReplay } from '../../cluster-protocol/fence.ts';
import type { SimProcess } from './sim-process.ts';

export interface Inode {
  /** What is written, by place: a record written late overwrites what stands there. */
  readonly records: string[];
}

export interface Directory {
  owner: FenceRecord | undefined;
  readonly files: Map<string, Inode>;
}

export class SimStorage {
  readonly #directories = new Map<string, Directory>();

  directory(address: string): Directory {
    let found = this.#directories.get(address);
    if (found === undefined) {
      found = { owner: undefined, files: new Map() };
      this.#directories.set(address, found);
    }
    return found;
  }

  journals(address: string): number[] {
    return [...this.directory(address).files.keys()].flatMap((name) => journalEpoch(name) ?? []);
  }

  /** What the next owner will find, by the product's own choice of the journal to go on from. */
  records(address: string): readonly string[] {
    const { files } = this.directory(address);
    const epoch = journalToReplay(this.journals(address), Number.MAX_SAFE_INTEGER);
    for (const [name, inode] of files) if (journalEpoch(name) === epoch) return inode.records;
    return [];
  }

  /** One call of a process. Its effect lands even if nobody is left to hear of it. */
  call<T>(process: SimProcess, does: () => T, settle: (result: T) => void): void {
    const { timeline, net, random } = process.world;
    const sentMs = timeline.nowMs;
    const land = (): void => {
      const opensMs = net.opensAtMs(process.node, 'storage');
      if (opensMs > timeline.nowMs) {
        timeline.at(opensMs + random.between(0.1, 5), land);
        return;
      }
      // What a machine had not sent when it vanished never comes.
      if (process.vanishedMs < timeline.nowMs && process.vanishedMs - sentMs < 2) return;
      const result = does();
      const answer = (): void => {
        const backMs = net.opensAtMs('storage', process.node);
        if (backMs > timeline.nowMs) timeline.at(backMs + 1, answer);
        else process.run(() => settle(result));
      };
      timeline.after(random.between(0.1, 3), answer);
    };
    timeline.after(net.delayMs() / 2, land);
  }
}
