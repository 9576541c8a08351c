/**
 * What an admin does with the cluster, at the supervisor: wishes go into the
 * registry, where whoever is the controller finds them; questions are answered
 * from it.
 */
import { Fault } from '../base/fault.ts';
import { changeAndRecord, readHistory } from '../cluster-protocol/change-history.ts';
import { type Address, type MemberId, shardOf } from '../cluster-protocol/ids.ts';
import { decodeMoves, type MoveRecord, movesOf } from '../cluster-protocol/move-log.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';
import { pinBytesMax, pinsMax } from '../cluster-protocol/shard-map.ts';
import { shardNumber, wishKey } from '../cluster-protocol/wishes.ts';
import type { Router } from '../gateway/routing/router.ts';
import { askOwner } from './account-work.ts';
import {
  backendsOf,
  comingTo,
  heldBy,
  needBackend,
  needOtherTaker,
  needTaker,
  readFacts,
  safeToStop,
  whyThere,
} from './cluster-facts.ts';
import type { ClusterRequest } from './cluster-requests.ts';
import { upgradeCheck } from './upgrade-check.ts';

export interface ClusterWorkOptions {
  readonly registry: Registry;
  readonly router: Router;
  readonly leaseMs: number;
  /** Restarts a member of this machine, drained first. @throws {Fault} `bad-argument` when it is none. */
  restart(member: MemberId, by: string): Promise<{ readonly tookMs: number }>;
}

export async function performCluster(
  request: ClusterRequest,
  { registry, router, leaseMs, restart }: ClusterWorkOptions,
): Promise<unknown> {
  const record = (what: string, key: string, by: string, member: string | undefined) =>
    changeAndRecord(
      registry,
      {
        ...{ by, what, key },
        after: () => (member === undefined ? undefined : JSON.stringify({ member, by, atMs: Date.now() })),
      },
      Date.now(),
    );
  const facts = await readFacts(registry);
  switch (request.op) {
    case 'cluster-drain': {
      const { member, by } = request;
      needBackend(facts, member);
      needOtherTaker(facts, member);
      const value = JSON.stringify({ by, atMs: Date.now() });
      await changeAndRecord(
        registry,
        {
          ...{ by, what: `drain ${member}`, key: wishKey.drain(member) },
          // A drain that ends with the next start becomes one that stands; one that stands is left as it is.
          after: (before) => (before === undefined || before.includes('"incarnation"') ? value : before),
        },
        Date.now(),
      );
      return { member, ...leftAt(facts, member) };
    }
    case 'cluster-undrain': {
      const { member, by } = request;
      if (!facts.wishes.drains.has(member)) {
        needBackend(facts, member);
        throw new Fault('bad-argument', `${member} is not drained; see "postern cluster status"`);
      }
      await record(`undrain ${member}`, wishKey.drain(member), by, undefined);
      return { member };
    }
    case 'cluster-left':
      return { member: request.member, ...leftAt(facts, request.member) };
    case 'cluster-safe-to-stop':
      return { member: request.member, ...safeToStop(facts, request.member) };
    case 'cluster-pin': {
      const { address, member, by } = request;
      needTaker(facts, member);
      const { pins } = facts.wishes;
      const pinBytes = [...pins.keys(), address].reduce((sum, name) => sum + Buffer.byteLength(name), 0);
      if (!pins.has(address) && (pins.size >= pinsMax || pinBytes > pinBytesMax))
        throw new Fault(
          'limit-reached',
          `${pins.size} accounts are pinned, and the map holds no more; unpin one`,
        );
      // Nobody needs a pin for an account that is none, and a slip of the pen would stand for ever.
      await askOwner(router, { op: 'account-show', address });
      await record(`pin ${address} ${member}`, wishKey.pin(address), by, member);
      return { address, member };
    }
    case 'cluster-unpin': {
      const { address, by } = request;
      if (!facts.wishes.pins.has(address))
        throw new Fault(
          'bad-argument',
          `${address} is not pinned; see where it is with "postern cluster why ${address}"`,
        );
      await record(`unpin ${address}`, wishKey.pin(address), by, undefined);
      return { address };
    }
    case 'cluster-move': {
      const { by, member } = request;
      const shard = shardNumber(request.shard, facts.map?.shardCount ?? 0);
      if (member === undefined && !facts.wishes.shards.has(shard))
        throw new Fault(
          'bad-argument',
          `shard ${shard} was not moved by hand; the controller places it anyway`,
        );
      if (member !== undefined) needTaker(facts, member);
      await record(`move ${shard} ${member ?? '--balance'}`, wishKey.shard(shard), by, member);
      return { shard, member: member ?? '' };
    }
    case 'cluster-why': {
      const { address } = request;
      const [account, moves] = await Promise.all([
        // An account that nobody can be asked about has a place all the same.
        askOwner(router, { op: 'account-sessions', address }).catch((error: unknown) => ({
          unknown: Fault.from(error).message,
        })),
        readMoves(registry, facts.map === undefined ? 0 : shardOf(address, facts.map.shardCount), address),
      ]);
      return { ...whyThere(facts, address, leaseMs), ...(account as object), moves };
    }
    case 'cluster-upgrade-check':
      return upgradeCheck(facts);
    case 'cluster-history':
      return { changes: await readHistory(registry, request.countMax) };
    case 'member-restart':
      return { member: request.member, ...(await restart(request.member, request.by)) };
  }
  function leftAt(now: typeof facts, member: MemberId) {
    const { shards, pins } = heldBy(now, member);
    const isThere = backendsOf(now).some(({ id }) => id === member);
    return { shards, pins, coming: comingTo(now, member), registered: isThere };
  }
}

const movesShownMax = 10;

async function readMoves(registry: Registry, shard: number, address: Address): Promise<MoveRecord[]> {
  const entry = await registry.get(registryKey.moves);
  return movesOf(decodeMoves(entry?.value ?? ''), shard, address).slice(-movesShownMax);
}
