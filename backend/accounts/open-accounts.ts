/**
 * Accounts that are open now: shared by their sessions, kept a while after the
 * last one leaves, the least used closed first. An account that is being
 * closed is opened again only when it is closed.
 */
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { Address, Epoch } from '../../cluster-protocol/ids.ts';
import type { Store } from '../store/store.ts';
import { type Account, isMoving } from './accounts.ts';

/** Opens a store; `broken` is told when it must be closed. */
export type OpenStoreOf = (address: Address, broken: (fault: Fault) => void) => Promise<Store>;

/** How long sessions and requests may take to come to an end before their account is closed under them. */
const handOverMs = 1200;

class OpenAccount {
  readonly address: Address;
  readonly epoch: Epoch;
  readonly store: Store;
  users = 0;
  /** Told when nobody uses it any more. */
  unused: (() => void) | undefined;
  #ended: AbortController | undefined;
  #reason: unknown;
  #over = false;

  constructor(address: Address, epoch: Epoch, store: Store) {
    this.address = address;
    this.epoch = epoch;
    this.store = store;
  }

  /** Made when first asked for: most accounts are open for a delivery only. */
  get ended(): AbortSignal {
    this.#ended ??= new AbortController();
    if (this.#over && !this.#ended.signal.aborted) this.#ended.abort(this.#reason);
    return this.#ended.signal;
  }

  end(reason: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#reason = reason;
    this.#ended?.abort(reason);
  }
}

export class OpenAccounts {
  readonly #openStore: OpenStoreOf;
  readonly #idleMax: number;
  readonly #log: Log;
  readonly #open = new Map<Address, OpenAccount>();
  readonly #opening = new Map<Address, Promise<OpenAccount>>();
  readonly #closing = new Map<Address, Promise<void>>();
  /** Ends work that has an account alone. */
  readonly #alone = new Map<Address, AbortController>();
  /** Without sessions; the least lately used first. */
  readonly #idle = new Set<OpenAccount>();

  constructor(openStore: OpenStoreOf, idleMax: number, log: Log) {
    this.#openStore = openStore;
    this.#idleMax = idleMax;
    this.#log = log;
  }

  get count(): number {
    return this.#open.size;
  }

  /** Those that are open now. */
  opened(): readonly OpenAccount[] {
    return [...this.#open.values()];
  }

  /** The account if it is open at this epoch: takes no time. */
  current(address: Address, epoch: Epoch): Account | undefined {
    const open = this.#open.get(address);
    return open?.epoch === epoch ? this.#use(open) : undefined;
  }

  async open(address: Address, epoch: Epoch): Promise<Account> {
    for (;;) {
      const open = this.#open.get(address);
      if (open?.epoch === epoch) return this.#use(open);
      if (open) await this.#close(open, new Error('the account was granted anew'));
      const busy = this.#opening.get(address) ?? this.#closing.get(address);
      if (busy) {
        await busy.catch(() => {});
        // Not in the map although it was opened: it broke at once, or its opening failed; this caller tries itself.
        continue;
      }
      const opening = this.#start(address, epoch);
      this.#opening.set(address, opening);
      try {
        return this.#use(await opening);
      } finally {
        this.#opening.delete(address);
      }
    }
  }

  /** Ends and closes every account that `leaving` names. */
  async leave(leaving: (address: Address) => boolean, reason: unknown): Promise<void> {
    const going: Promise<void>[] = [];
    for (const [address, opening] of this.#opening) {
      if (!leaving(address)) continue;
      going.push(
        opening.then(
          (open) => this.#close(open, reason),
          () => {},
        ),
      );
    }
    for (const open of [...this.#open.values()]) {
      if (leaving(open.address)) going.push(this.#close(open, reason));
    }
    for (const [address, stop] of this.#alone) if (leaving(address)) stop.abort(reason);
    for (const [address, closing] of this.#closing) if (leaving(address)) going.push(closing);
    await Promise.all(going);
  }

  /**
   * Closes an account and keeps it closed while `work` runs; whoever opens it meanwhile waits.
   * @param reason  Why its sessions end.
   * @param work  Gets a signal that says when the account must be left.
   * @throws {Fault} `busy` while other such work runs.
   */
  async alone<T>(address: Address, reason: unknown, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    for (;;) {
      if (this.#alone.has(address)) throw new Fault('busy', 'other work on this account is under way');
      const open = this.#open.get(address);
      if (open) await this.#close(open, reason);
      const busy = this.#opening.get(address) ?? this.#closing.get(address);
      if (!busy && !this.#open.has(address)) break;
      await busy?.catch(() => {});
    }
    const stop = new AbortController();
    const working = work(stop.signal);
    const ended = working.then(
      () => {},
      () => {},
    );
    this.#alone.set(address, stop);
    this.#closing.set(
      address,
      ended.finally(() => {
        this.#closing.delete(address);
        this.#alone.delete(address);
      }),
    );
    return working;
  }

  async #start(address: Address, epoch: Epoch): Promise<OpenAccount> {
    let open: OpenAccount | undefined;
    let brokenEarly: Fault | undefined;
    const store = await this.#openStore(address, (fault) => {
      if (open) void this.#close(open, fault);
      else brokenEarly = fault;
    });
    open = new OpenAccount(address, epoch, store);
    if (brokenEarly) {
      await store.close();
      throw brokenEarly;
    }
    this.#open.set(address, open);
    return open;
  }

  #use(open: OpenAccount): Account {
    open.users++;
    this.#idle.delete(open);
    let released = false;
    return {
      address: open.address,
      store: open.store,
      get ended() {
        return open.ended;
      },
      release: () => {
        if (released) return;
        released = true;
        open.users--;
        if (open.users > 0) return;
        open.unused?.();
        this.#becomeIdle(open);
      },
    };
  }

  #becomeIdle(open: OpenAccount): void {
    if (this.#open.get(open.address) !== open) return;
    this.#idle.add(open);
    if (this.#idle.size <= this.#idleMax) return;
    const oldest = this.#idle.values().next().value!;
    void this.#close(oldest, new Error('the account was idle'));
  }

  #close(open: OpenAccount, reason: unknown): Promise<void> {
    const { address } = open;
    if (this.#open.get(address) !== open) return this.#closing.get(address) ?? Promise.resolve();
    this.#open.delete(address);
    this.#idle.delete(open);
    open.end(reason);
    const closed = isMoving(reason)
      ? untilUnused(open, handOverMs).then(() => open.store.close())
      : open.store.close();
    const closing = closed
      .catch((error: unknown) => {
        this.#log.error({ event: 'account-close-failed', account: address, err: error }, 'close failed');
      })
      .finally(() => {
        this.#closing.delete(address);
      });
    this.#closing.set(address, closing);
    return closing;
  }
}

/** Resolves when nobody uses the account, or after `withinMs`. */
async function untilUnused(open: OpenAccount, withinMs: number): Promise<void> {
  if (open.users === 0) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, withinMs);
    open.unused = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}
