/**
 * The accounts one backend has open: fence, journal, requests in turn; the order
 * of `backend/store/open-store.ts` and `open-journal.ts`, with the decisions of
 * `cluster-protocol/fence.ts` and `acting.ts`.
 */
import { Fault, isFault } from '../../base/fault.ts';
import type { Right } from '../../cluster-protocol/acting.ts';
import {
  journalName,
  journalsToRemove,
  journalToReplay,
  judgeFence,
  mustListAgain,
} from '../../cluster-protocol/fence.ts';
import type { Leaving } from '../../cluster-protocol/holdings.ts';
import { Violation } from './checker.ts';
import type { SimBackend } from './sim-backend.ts';
import type { Inode } from './sim-storage.ts';

export interface Request {
  readonly id: string;
  readonly kind: 'append' | 'read';
  readonly address: string;
}

export type Answer =
  | {
      readonly kind: 'done';
      /** Of a read: what is there. */
      readonly records: readonly string[] | undefined;
      readonly epoch: number;
      readonly sentMs: number;
      /** False: by somebody who had lost the account while its clock stood. */
      readonly held: boolean;
    }
  | { readonly kind: 'not-owner'; readonly owner: string; readonly epoch: number }
  | { readonly kind: 'failed' };

interface Waiting {
  readonly request: Request;
  readonly reply: (answer: Answer) => void;
}

interface OpenAccount {
  readonly right: Right;
  readonly inode: Inode;
  readonly records: string[];
}

const leaveDeadlineMs = 1500;
const notOwner = new Fault('not-owner', 'a greater epoch is recorded');

export class SimAccounts {
  readonly #backend: SimBackend;
  readonly #open = new Map<string, OpenAccount>();
  readonly #queues = new Map<string, Waiting[]>();
  /** Accounts something is being done for. */
  readonly #busy = new Set<string>();
  #leaving: { readonly leaving: Leaving; readonly done: () => void } | undefined;

  constructor(backend: SimBackend) {
    this.#backend = backend;
  }

  ask(request: Request, reply: (answer: Answer) => void): void {
    const { acting, process } = this.#backend;
    const { address } = request;
    if (acting === undefined) return;
    const ownership = acting.owns(address, process.clockMs);
    if (!ownership.ok) {
      reply({ kind: 'not-owner', owner: ownership.owner, epoch: ownership.epoch });
      return;
    }
    if (acting.holdings.leaving()?.has(address) === true)
      throw new Violation(`no new work for what leaves: ${process.incarnation} takes some for ${address}`);
    let queue = this.#queues.get(address);
    if (queue === undefined) {
      queue = [];
      this.#queues.set(address, queue);
    }
    queue.push({ request, reply });
    this.#pump(address);
  }

  /** Brings what is leaving to a standstill. What cannot be brought to one ends the process. */
  leave(leaving: Leaving, done: () => void): void {
    this.#leaving = { leaving, done };
    this.#backend.process.timer(leaveDeadlineMs, () => {
      if (this.#leaving?.leaving === leaving)
        this.#backend.lose('what is leaving did not come to a standstill');
    });
    this.#lookWhetherLeft();
  }

  /** What has been released must not be in use. */
  assertClosed(): void {
    const { acting, process } = this.#backend;
    for (const [address, { right }] of this.#open)
      if (acting!.holdings.epochFor(address) !== right.epoch)
        throw new Violation(`released is closed: ${process.incarnation} still has ${address} open`);
  }

  #lookWhetherLeft(): void {
    if (this.#leaving === undefined) return;
    const { leaving, done } = this.#leaving;
    for (const address of this.#busy) if (leaving.has(address)) return;
    for (const address of [...this.#open.keys()]) if (leaving.has(address)) this.#open.delete(address);
    this.#leaving = undefined;
    done();
  }

  #pump(address: string): void {
    if (this.#busy.has(address)) return;
    const next = this.#queues.get(address)?.shift();
    if (next === undefined) {
      this.#lookWhetherLeft();
      return;
    }
    this.#busy.add(address);
    const over = (answer: Answer): void => {
      next.reply(answer);
      this.#busy.delete(address);
      this.#pump(address);
    };
    const fail = (error: unknown): void => {
      if (!isFault(error)) throw error;
      this.#open.delete(address);
      over({ kind: 'failed' });
    };
    this.#opened(address, (account) => this.#serve(account, next.request, over, fail), fail);
  }

  /** Runs `work`; a right that is gone ends what it was for, nothing else. */
  #guarded(work: () => void, fail: (error: unknown) => void): void {
    try {
      work();
    } catch (error) {
      fail(error);
    }
  }

  #opened(address: string, use: (account: OpenAccount) => void, fail: (error: unknown) => void): void {
    const { process, acting } = this.#backend;
    const { storage, checker } = process.world;
    const known = this.#open.get(address);
    if (known !== undefined && known.right.epoch === acting!.holdings.epochFor(address)) {
      use(known);
      return;
    }
    this.#open.delete(address);
    this.#guarded(() => {
      const right = acting!.rightTo(address, process.clockMs);
      const { epoch } = right;
      const directory = storage.directory(address);
      const assert = (): void => right.assert(process.clockMs);
      assert();
      process.at('opening', () =>
        storage.call(
          process,
          () => ({ recorded: directory.owner, openedBefore: checker.openedAt(address) }),
          ({ recorded, openedBefore }) =>
            process.at('fence-read', () => {
              const verdict = judgeFence(recorded, epoch, process.incarnation);
              if (verdict === 'refuse') {
                this.#backend.refused(address);
                fail(notOwner);
                return;
              }
              const fenced = (): void =>
                process.at('fence-written', () =>
                  this.#guarded(() => {
                    assert();
                    this.#openJournal(address, right, verdict === 'held', openedBefore, use, fail);
                  }, fail),
                );
              if (verdict === 'held') fenced();
              else
                storage.call(
                  process,
                  () => {
                    directory.owner = { epoch, owner: process.incarnation };
                  },
                  fenced,
                );
            }),
        ),
      );
    }, fail);
  }

  #openJournal(
    address: string,
    right: Right,
    held: boolean,
    openedBefore: number,
    use: (account: OpenAccount) => void,
    fail: (error: unknown) => void,
  ): void {
    const { process } = this.#backend;
    const { storage, checker } = process.world;
    const { files } = storage.directory(address);
    const { epoch } = right;
    const name = journalName(epoch);
    const opened = (inode: Inode, records: string[]): void =>
      this.#guarded(() => {
        right.assert(process.clockMs);
        if (checker.acts(this.#backend, address, epoch, 'opens'))
          process.world.trace?.(`${process.incarnation} has ${address} open at ${epoch}: ${records.length}`);
        checker.opened(this.#backend, address, epoch, openedBefore);
        const account = { right, inode, records };
        this.#open.set(address, account);
        this.#tidy(address, right);
        use(account);
      }, fail);
    const remove = (inode: Inode, records: string[], there: readonly number[]): void =>
      process.at('journal-written', () =>
        this.#guarded(() => {
          right.assert(process.clockMs);
          const old = journalsToRemove(there, epoch);
          if (old.length === 0) opened(inode, records);
          else
            storage.call(
              process,
              () => {
                for (const one of old) files.delete(journalName(one));
              },
              () => opened(inode, records),
            );
        }, fail),
      );
    const write = (records: string[], there: readonly number[]): void =>
      this.#guarded(() => {
        right.assert(process.clockMs);
        const inode: Inode = { records: [...records] };
        storage.call(
          process,
          () => void files.set(name, inode),
          () => remove(inode, records, there),
        );
      }, fail);
    const goOnFrom = (there: readonly number[], listings: number): void =>
      process.at('journals-listed', () => {
        const from = journalToReplay(there, epoch);
        storage.call(
          process,
          () => (from === undefined ? undefined : files.get(journalName(from)))?.records.slice(),
          (records) => {
            if (mustListAgain(from, records !== undefined, listings))
              storage.call(
                process,
                () => storage.journals(address),
                (again) => goOnFrom(again, listings + 1),
              );
            else write(records ?? [], there);
          },
        );
      });
    storage.call(
      process,
      () => ({ own: held ? files.get(name) : undefined, there: storage.journals(address) }),
      ({ own, there }) => {
        if (own !== undefined) opened(own, [...own.records]);
        else goOnFrom(there, 1);
      },
    );
  }

  /** Work nobody waits for. It is not called off when the account is closed: its right has to stop it. */
  #tidy(address: string, right: Right): void {
    const { process } = this.#backend;
    process.timer(process.world.random.between(300, 1500), () =>
      this.#guarded(
        () => {
          right.assert(process.clockMs);
          process.world.checker.acts(this.#backend, address, right.epoch, 'tidies');
          this.#tidy(address, right);
        },
        (error) => {
          if (!isFault(error)) throw error;
        },
      ),
    );
  }

  #serve(
    account: OpenAccount,
    request: Request,
    over: (answer: Answer) => void,
    fail: (error: unknown) => void,
  ): void {
    const { process } = this.#backend;
    const { storage, checker, timeline } = process.world;
    const { right, inode, records } = account;
    const { id, kind, address } = request;
    const answer = (): void => {
      right.assert(process.clockMs);
      const held = checker.acts(this.#backend, address, right.epoch, 'answers for');
      if (held && kind === 'append') checker.acknowledges(address, id);
      const read = kind === 'read' ? [...records] : undefined;
      over({ kind: 'done', records: read, epoch: right.epoch, sentMs: timeline.nowMs, held });
    };
    this.#guarded(() => {
      right.assert(process.clockMs);
      if (kind === 'read' || records.includes(id)) {
        answer();
        return;
      }
      const place = records.length;
      process.at('append-sent', () => {
        storage.call(
          process,
          () => {
            inode.records[place] = id;
          },
          () =>
            process.at('append-durable', () =>
              this.#guarded(() => {
                records.push(id);
                answer();
              }, fail),
            ),
        );
      });
    }, fail);
  }
}
