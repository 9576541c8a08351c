/**
 * Runs a play: things go wrong for a while, the cluster is then left alone and
 * has to come to rest. The invariants of DESIGN section 2 are checked at every
 * step of it.
 */
import { shardOf } from '../../cluster-protocol/ids.ts';
import { registryKey } from '../../cluster-protocol/registry.ts';
import { wishesFrom, wishKey } from '../../cluster-protocol/wishes.ts';
import { Checker, Violation } from './checker.ts';
import { Network } from './network.ts';
import { type Act, drawPlay, type Play } from './play.ts';
import { randomFrom } from './random.ts';
import { SimBackend } from './sim-backend.ts';
import { SimGateway } from './sim-gateway.ts';
import { callDeadlineMs, SimProcess, type World } from './sim-process.ts';
import { type Batch, SimRegistry } from './sim-registry.ts';
import { SimStorage } from './sim-storage.ts';
import { Timeline } from './timeline.ts';

/** Left alone, a cluster has to serve everything again within this. */
const restWithinMs = 30_000;
const restLookMs = 300;
/** A play takes about a thousand. */
const stepsMax = 40_000;

export interface ScheduleResult {
  readonly steps: number;
  /** The first invariant that broke, with what was seen; `undefined` when all held. */
  readonly violation: string | undefined;
}

export function runSchedule(seed: number): ScheduleResult {
  return runPlay(drawPlay(seed));
}

export function runPlay(play: Play, tell?: (line: string) => void): ScheduleResult {
  const stage = new Stage(play, tell);
  try {
    stage.run();
    return { steps: stage.steps, violation: undefined };
  } catch (error) {
    const what = error instanceof Violation ? error.message : `nothing throws: ${error}`;
    const violation = `at ${Math.round(stage.timeline.nowMs)} ms: ${what}`;
    tell?.(`broken ${violation}`);
    return { steps: stage.steps, violation };
  }
}

class Stage {
  readonly timeline = new Timeline();
  steps = 0;
  readonly #play: Play;
  readonly #world: World;
  readonly #backends = new Set<SimBackend>();
  readonly #gateways = new Set<SimGateway>();
  /** Who is drained, and which start of it (`''`: any). Judged here, not by the product's own reading of the wish. */
  #drained: { readonly node: string; readonly incarnation: string } | undefined;

  constructor(play: Play, tell: ((line: string) => void) | undefined) {
    this.#play = play;
    const { timeline } = this;
    const random = randomFrom(play.seed ^ 0x5bd1e995);
    const accounts = Array.from({ length: play.accounts }, (_, index) => `a${index + 1}@example.org`);
    const checker = new Checker(play.shards, play.clocks === 'run', accounts, this.#backends);
    const registry = new SimRegistry((batch) => this.#batch(batch));
    const storage = new SimStorage();
    checker.registry = registry;
    checker.storage = storage;
    checker.nowMs = () => timeline.nowMs;
    this.#world = {
      play,
      timeline,
      random,
      net: new Network(timeline, random, play.noise),
      registry,
      storage,
      checker,
      accounts,
      armed: [],
      lags: new Map(),
      faulty: true,
      trace: tell && ((line) => tell(`${Math.round(timeline.nowMs)} ${line}`)),
    };
  }

  run(): void {
    const { timeline } = this;
    const { random, checker, registry } = this.#world;
    const { backends, gateways, acts, faultyMs } = this.#play;
    for (let number = 1; number <= backends; number++)
      timeline.after(random.between(0, 600), () => this.#startBackend(`backend-${number}`, 1));
    for (let number = 1; number <= gateways; number++)
      timeline.after(random.between(0, 600), () => this.#startGateway(`gateway-${number}`, 1));
    for (const act of acts) timeline.at(act.at, () => this.#perform(act));
    const expire = (): void => {
      registry.expire(timeline.nowMs);
      const nextMs = Math.min(registry.nextDeadlineMs, timeline.nowMs + 500);
      // A registry looks at its leases every so often, never early.
      timeline.at(Math.max(timeline.nowMs + 20, nextMs + random.between(0, 60)), expire);
    };
    expire();
    this.#until(faultyMs);
    this.#heal();
    const endMs = faultyMs + restWithinMs;
    let unrest: string | undefined = 'it has only begun';
    for (let lookMs = faultyMs + restLookMs; unrest !== undefined && lookMs <= endMs; lookMs += restLookMs) {
      this.#until(lookMs);
      unrest = this.#unrest();
    }
    if (unrest !== undefined) throw new Violation(`goes on after faults: ${unrest}`);
    checker.atEnd();
  }

  #until(ms: number): void {
    const { checker } = this.#world;
    while (this.timeline.step(ms)) {
      if (++this.steps > stepsMax) throw new Violation('goes on for ever without getting anywhere');
      checker.oneOwner();
    }
  }

  #batch(batch: Batch): void {
    this.#world.checker.batch(batch);
    for (const backend of this.#backends) backend.batch(batch);
    for (const gateway of this.#gateways) gateway.batch(batch);
  }

  #startBackend(node: string, count: number): void {
    const { random, net, registry } = this.#world;
    const incarnation = `${node}.${count}`;
    const again = (): void =>
      this.timeline.after(random.between(5, 800), () => this.#startBackend(node, count + 1));
    const process = new SimProcess(this.#world, node, incarnation, (vanished) => {
      this.#backends.delete(backend);
      if (vanished) {
        this.timeline.after(random.between(500, 5000), again);
        return;
      }
      // The supervisor has reaped it: it takes away the lease of the record that stands there, then starts another.
      let revoked = false;
      const once = (): void => {
        if (revoked) return;
        revoked = true;
        again();
      };
      net.send(node, 'registry', () => {
        if (revoked || this.timeline.nowMs < registry.silentUntilMs) return;
        const lease = registry.entries.get(registryKey.member(node))?.lease;
        net.send('registry', node, () => {
          if (revoked) return;
          net.send(node, 'registry', () => {
            if (lease !== undefined) registry.revoke(lease);
            net.send('registry', node, once);
          });
        });
      });
      this.timeline.after(callDeadlineMs, once);
    });
    const backend: SimBackend = new SimBackend(process);
    this.#backends.add(backend);
  }

  #startGateway(node: string, count: number): void {
    const { random } = this.#world;
    const process = new SimProcess(this.#world, node, `${node}.${count}`, () => {
      this.#gateways.delete(gateway);
      this.timeline.after(random.between(5, 800), () => this.#startGateway(node, count + 1));
    });
    const gateway: SimGateway = new SimGateway(process, this.#backends);
    if (!this.#world.faulty) gateway.sinceMs = this.timeline.nowMs;
    this.#gateways.add(gateway);
  }

  #processOf(node: string): SimProcess | undefined {
    for (const member of [...this.#backends, ...this.#gateways])
      if (member.process.node === node) return member.process;
    return undefined;
  }

  #perform(act: Act): void {
    const { net, registry, armed, lags, trace, accounts } = this.#world;
    const { nowMs } = this.timeline;
    switch (act.do) {
      case 'pause':
        this.#processOf(act.who)?.pause(act.ms);
        return;
      case 'crash':
        this.#processOf(act.who)?.die('killed');
        return;
      case 'vanish':
        this.#processOf(act.who)?.die('its machine', true);
        return;
      case 'cut':
        trace?.(`${act.from} is cut off from ${act.to} for ${act.ms} ms`);
        net.cut(act.from, act.to, act.ms);
        return;
      case 'lossy':
        net.lossy(act.who, act.ms);
        return;
      case 'lag':
        lags.set(act.who, { untilMs: nowMs + act.ms, ms: act.ms / 3 });
        return;
      case 'strike':
        armed.push(act);
        return;
      case 'registry':
        trace?.(`the registry: ${act.how} ${act.ms} ms`);
        if (act.how === 'compact') registry.compact();
        else if (act.how === 'full') registry.fullUntilMs = nowMs + act.ms;
        else registry.silence(nowMs + (act.how === 'leader' ? Math.min(act.ms, 1300) : act.ms));
        return;
      case 'drain':
      case 'drain-once':
        // Never all of them.
        if (this.#drained === undefined) this.#drain(act.who, act.do === 'drain-once');
        return;
      case 'undrain':
        if (this.#drained?.node === act.who) this.#drained = undefined;
        this.#wish(wishKey.drain(act.who), undefined);
        return;
      case 'pin':
        this.#wish(wishKey.pin(accounts[act.account - 1]!), { member: act.who });
        return;
      case 'unpin':
        this.#wish(wishKey.pin(accounts[act.account - 1]!), undefined);
        return;
      case 'move':
        this.#wish(wishKey.shard(act.shard), { member: act.who });
        return;
      case 'unmove':
        this.#wish(wishKey.shard(act.shard), undefined);
    }
  }

  #drain(node: string, once: boolean): void {
    const entry = this.#world.registry.entries.get(registryKey.member(node));
    if (once && entry === undefined) return;
    const incarnation = once ? JSON.parse(entry!.value).incarnation : '';
    this.#drained = { node, incarnation };
    this.#wish(wishKey.drain(node), once ? { incarnation } : {});
  }

  /** An admin's wish, or the end of it. */
  #wish(key: string, wish: object | undefined): void {
    const { registry, trace } = this.#world;
    trace?.(`${key} ${wish === undefined ? 'is wished no more' : JSON.stringify(wish)}`);
    registry.transact(
      [],
      [
        wish === undefined
          ? { remove: key }
          : { put: key, value: JSON.stringify({ by: 'admin', atMs: 0, ...wish }) },
      ],
    );
  }

  #heal(): void {
    const { net, registry, armed, lags } = this.#world;
    const { nowMs } = this.timeline;
    this.#world.trace?.('nothing goes wrong from now on');
    this.#world.faulty = false;
    net.heal();
    armed.length = 0;
    lags.clear();
    registry.silentUntilMs = Math.min(registry.silentUntilMs, nowMs);
    registry.fullUntilMs = 0;
    for (const gateway of this.#gateways) gateway.sinceMs = nowMs;
  }

  /** What is still missing to a cluster that serves everything, evenly; `undefined` when nothing is. */
  #unrest(): string | undefined {
    const { registry, accounts, checker } = this.#world;
    const { backends, gateways, shards } = this.#play;
    if (this.#backends.size !== backends || this.#gateways.size !== gateways)
      return 'not everybody has started';
    const wishes = wishesFrom(registry.list(registryKey.wishPrefix).entries);
    const held: number[] = [];
    let sum = 0;
    for (const backend of this.#backends) {
      const { node, incarnation } = backend.process;
      let count = 0;
      for (let shard = 0; shard < shards; shard++) if (backend.mayActForShard(shard)) count++;
      sum += count;
      if (registry.entries.get(registryKey.member(node))?.lease !== backend.lease)
        return `${node} is no member`;
      const drained =
        this.#drained?.node === node &&
        (this.#drained.incarnation === '' || this.#drained.incarnation === incarnation);
      if (drained && count > 0) return `${node} is drained and holds ${count}`;
      if (drained) {
        for (const address of accounts)
          if (backend.mayActFor(address)) return `${node} is drained and holds ${address}`;
        continue;
      }
      for (const [shard, { member }] of wishes.shards)
        if (member === node && !backend.mayActForShard(shard)) return `${node} does not hold shard ${shard}`;
      for (const [address, { member }] of wishes.pins)
        if (member === node && !backend.mayActFor(address)) return `${node} does not hold ${address}`;
      held.push(count);
    }
    const isEven = wishes.shards.size > 0 || Math.max(...held) - Math.min(...held) <= 1;
    if (sum !== shards || !isEven) return `${held.join(', ')} of ${shards} shards are held`;
    for (const address of accounts) {
      const owners = [...this.#backends].filter((backend) => backend.mayActFor(address));
      if (owners.length !== 1) return `${address} has no owner`;
      // A pin that is wished no more is where its shard is, and goes when the shard has passed its epoch.
      if (!wishes.pins.has(address) && !owners[0]!.mayActForShard(shardOf(address, shards)))
        return `${address} has not come home`;
      if (![...this.#gateways].some((gateway) => gateway.answeredSince.has(address)))
        return `nobody was answered for ${address}`;
    }
    return checker.map === undefined ? 'there is no map' : undefined;
  }
}
