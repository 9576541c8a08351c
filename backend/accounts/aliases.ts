/**
 * Aliases: a name of its own that stands for accounts. Its record lies under
 * `<root>/aliases/`, is fenced like an account, and is read and written by the
 * owner of its shard alone: there is no central table to outgrow. An alias leads to
 * accounts, never to another alias, so no chain of them can be a circle.
 */
import { createHash, randomBytes } from 'node:crypto';
import path from 'node:path';
import { errnoOf, Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { type Address, addressParts, canonicalDomain, type Epoch } from '../../cluster-protocol/ids.ts';
import { aliasTargetsMax } from '../../cluster-protocol/link.ts';
import { takeFence } from '../store/fence.ts';
import {
  listDirectory,
  readWhole,
  renameFile,
  replaceDurably,
  storageFault,
  syncDirectory,
} from '../store/files.ts';
import { Lane } from '../store/lane.ts';
import type { Guard } from '../store/store.ts';
import { accountDirectory, exists, makeDirectoriesDurably } from './account-files.ts';

const knownMax = 50_000;
const listCountMax = 1000;
const fileName = 'alias.json';

export interface Alias {
  readonly address: Address;
  /** Canonical, at least one. */
  readonly targets: readonly Address[];
}

export interface AliasesOptions {
  /** The storage root. */
  readonly root: string;
  readonly log: Log;
  guardFor(address: Address): Guard;
  owns(address: Address): boolean;
}

interface Known {
  readonly epoch: Epoch;
  readonly targets: Promise<readonly Address[]>;
}

export class Aliases {
  readonly #options: AliasesOptions;
  /** Names asked about lately, those that are no alias too. True at the epoch they were read at: only the owner writes. */
  readonly #known = new Map<Address, Known>();
  readonly #changes = new Map<Address, Lane>();

  constructor(options: AliasesOptions) {
    this.#options = options;
  }

  /** Empty: it is no alias. @throws {Fault} `not-owner`, `lease-lost`, `storage-failed`, `storage-damaged` */
  async targets(address: Address): Promise<readonly Address[]> {
    const guard = this.#guard(address);
    let known = this.#known.get(address);
    if (known?.epoch !== guard.epoch) {
      known = { epoch: guard.epoch, targets: this.#read(address) };
      this.#known.delete(address);
      this.#known.set(address, known);
      if (this.#known.size > knownMax) this.#known.delete(this.#known.keys().next().value!);
    }
    try {
      return await known.targets;
    } catch (error) {
      if (this.#known.get(address) === known) this.#known.delete(address);
      throw error;
    } finally {
      guard.assert();
    }
  }

  /**
   * Adds a target to an alias, which is made if there is none.
   * @throws {Fault} `already-exists` when the name is an account; `limit-reached`, `no-space`, `storage-failed`, …
   */
  add(address: Address, target: Address): Promise<Alias> {
    return this.#change(address, async (before) => {
      if (await exists(path.join(accountDirectory(this.#options.root, address), 'account.json')))
        throw new Fault('already-exists', `${address} is an account; an alias needs a name of its own`);
      if (before.includes(target)) throw new Fault('already-exists', `${address} leads to ${target} already`);
      if (before.length >= aliasTargetsMax)
        throw new Fault('limit-reached', `an alias leads to ${aliasTargetsMax} accounts at most`);
      return [...before, target];
    });
  }

  /** @param target  Absent: all, and the alias is gone. @throws {Fault} `no-such-account` */
  remove(address: Address, target?: Address): Promise<Alias> {
    return this.#change(address, async (before) => {
      if (before.length === 0) throw new Fault('no-such-account', `${address} is no alias`);
      if (target === undefined) return [];
      if (!before.includes(target))
        throw new Fault('no-such-account', `${address} does not lead to ${target}`);
      return before.filter((one) => one !== target);
    });
  }

  /** Aliases of a domain whose shard this backend owns, sorted, after `after`. */
  async list(domain: string, after: string | undefined, countMax: number): Promise<readonly Alias[]> {
    const top = path.join(this.#options.root, 'aliases', canonicalDomain(domain));
    const names: Address[] = [];
    for (const fan of await namesIn(top))
      for (const local of await namesIn(path.join(top, fan))) {
        const address = `${local}@${canonicalDomain(domain)}`;
        if ((after === undefined || address > after) && this.#options.owns(address)) names.push(address);
      }
    const page: Alias[] = [];
    for (const address of names.sort()) {
      if (page.length >= Math.min(countMax, listCountMax)) break;
      const targets = await this.targets(address);
      if (targets.length > 0) page.push({ address, targets });
    }
    return page;
  }

  async #change(
    address: Address,
    next: (before: readonly Address[]) => Promise<readonly Address[]>,
  ): Promise<Alias> {
    const lane = this.#changes.get(address) ?? new Lane();
    this.#changes.set(address, lane);
    try {
      return await lane.run(async () => {
        const guard = this.#guard(address);
        const targets = await next(await this.#read(address));
        const directory = aliasDirectory(this.#options.root, address);
        try {
          await makeDirectoriesDurably(this.#options.root, path.relative(this.#options.root, directory));
          await takeFence(directory, guard, this.#options.log);
          if (targets.length > 0)
            await replaceDurably(
              path.join(directory, fileName),
              `${JSON.stringify({ format: 1, address, targets }, undefined, 2)}\n`,
            );
          else await this.#moveAside(address, directory);
        } catch (error) {
          throw storageFault(error, 'alias-write');
        } finally {
          this.#known.delete(address);
        }
        guard.assert();
        this.#options.log.info({ alias: address, targets }, 'alias changed');
        return { address, targets };
      });
    } finally {
      if (lane.idle && this.#changes.get(address) === lane) this.#changes.delete(address);
    }
  }

  /** Never deleted, as accounts are not. */
  async #moveAside(address: Address, directory: string): Promise<void> {
    const { root } = this.#options;
    const { local, domain } = addressParts(address);
    await makeDirectoriesDurably(root, path.join('removed', domain));
    const aside = path.join(root, 'removed', domain, `${local} alias ${randomBytes(8).toString('hex')}`);
    await renameFile(directory, aside);
    await syncDirectory(path.dirname(aside));
    await syncDirectory(path.dirname(directory));
  }

  async #read(address: Address): Promise<readonly Address[]> {
    const { root } = this.#options;
    const file = path.join(aliasDirectory(root, address), fileName);
    let text: string | undefined;
    try {
      text = (await readWhole(file))?.toString();
      // A root that is not there has no aliases either: nobody is told so (DESIGN section 2, invariant 7).
      if (text === undefined && !(await exists(path.join(root, 'cluster.json'))))
        throw new Fault('storage-failed', 'the storage root is not there', { detail: { root } });
    } catch (error) {
      throw storageFault(error, 'alias-read');
    }
    if (text === undefined) return [];
    const targets = targetsIn(text);
    if (targets === undefined)
      throw new Fault('storage-damaged', 'the alias file is not readable', { detail: { file } });
    return targets;
  }

  #guard(address: Address): Guard {
    if (!this.#options.owns(address)) throw new Fault('not-owner', 'another backend owns this name');
    const guard = this.#options.guardFor(address);
    guard.assert();
    return guard;
  }
}

/** Is the name an alias, whoever owns it? For those who make an account. */
export function isAliasName(root: string, address: Address): Promise<boolean> {
  return exists(path.join(aliasDirectory(root, address), fileName));
}

function aliasDirectory(root: string, address: Address): string {
  // Throws for what is not canonical: nothing else becomes a path.
  accountDirectory(root, address);
  const { local, domain } = addressParts(address);
  const fan = createHash('sha256').update(local).digest('hex').slice(0, 2);
  return path.join(root, 'aliases', domain, fan, local);
}

function targetsIn(text: string): readonly Address[] | undefined {
  try {
    const { format, targets } = JSON.parse(text) as { format?: unknown; targets?: unknown };
    const good =
      format === 1 &&
      Array.isArray(targets) &&
      targets.length > 0 &&
      targets.length <= aliasTargetsMax &&
      targets.every((target) => typeof target === 'string');
    return good ? (targets as Address[]) : undefined;
  } catch {
    return undefined;
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await listDirectory(directory);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw storageFault(error, 'alias-list');
  }
}
