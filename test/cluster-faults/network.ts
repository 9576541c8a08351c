/**
 * Hosts that are network namespaces on one bridge, for tests: each has an address,
 * can be cut off from others in one or both directions, and can lose packets. All
 * names begin with `pst-`; everything is removed with the network.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface Host {
  readonly name: string;
  readonly address: string;
  /** What stands before a command that runs on it. */
  readonly exec: readonly string[];
}

export class TestNetwork {
  readonly #tag: string;
  readonly #hosts = new Map<string, Host>();

  /** @param tag  Two letters or digits: tells networks of one machine apart. */
  constructor(tag: string) {
    this.#tag = tag;
  }

  /** @throws {Error} where namespaces cannot be made: not root, or not Linux */
  async open(names: readonly string[]): Promise<void> {
    const bridge = this.#namespace('br');
    await run('ip', ['netns', 'add', bridge]);
    await this.#in(bridge, 'ip', 'link', 'add', 'br0', 'type', 'bridge');
    await this.#in(bridge, 'ip', 'link', 'set', 'br0', 'up');
    for (const [index, name] of names.entries()) {
      const space = this.#namespace(name);
      const address = `10.211.77.${index + 10}`;
      const [inner, outer] = [`pst-${this.#tag}i${index}`, `pst-${this.#tag}o${index}`];
      await run('ip', ['netns', 'add', space]);
      await this.#in(bridge, 'ip', 'link', 'add', outer, 'type', 'veth', 'peer', 'name', inner);
      await this.#in(bridge, 'ip', 'link', 'set', inner, 'netns', space);
      await this.#in(bridge, 'ip', 'link', 'set', outer, 'master', 'br0');
      await this.#in(bridge, 'ip', 'link', 'set', outer, 'up');
      await this.#in(space, 'ip', 'link', 'set', 'lo', 'up');
      await this.#in(space, 'ip', 'addr', 'add', `${address}/24`, 'dev', inner);
      await this.#in(space, 'ip', 'link', 'set', inner, 'up');
      await this.#in(
        space,
        'nft',
        'add table inet pst; add chain inet pst in { type filter hook input priority 0; }; add chain inet pst out { type filter hook output priority 0; }',
      );
      this.#hosts.set(name, { name, address, exec: ['nsenter', `--net=/run/netns/${space}`] });
    }
  }

  host(name: string): Host {
    const host = this.#hosts.get(name);
    if (host === undefined) throw new Error(`there is no host ${name}`);
    return host;
  }

  /** Nothing passes between `name` and `others` any more: in what comes (`in`), in what goes (`out`), or both. */
  async cut(name: string, others: readonly string[], direction: 'in' | 'out' | 'both'): Promise<void> {
    const addresses = others.map((other) => this.host(other).address).join(', ');
    const space = this.#namespace(name);
    if (direction !== 'out')
      await this.#in(space, 'nft', `add rule inet pst in ip saddr { ${addresses} } drop`);
    if (direction !== 'in')
      await this.#in(space, 'nft', `add rule inet pst out ip daddr { ${addresses} } drop`);
  }

  /** So many of a hundred packets between `name` and everybody are lost, each way. */
  async lose(name: string, percent: number): Promise<void> {
    const space = this.#namespace(name);
    for (const chain of ['in', 'out'])
      await this.#in(
        space,
        'nft',
        `add rule inet pst ${chain} meta oifname != "lo" numgen random mod 100 < ${percent} drop`,
      );
  }

  async heal(): Promise<void> {
    for (const name of this.#hosts.keys())
      await this.#in(this.#namespace(name), 'nft', 'flush chain inet pst in; flush chain inet pst out');
  }

  /** Ends what still runs on the hosts, and the hosts. */
  async close(): Promise<void> {
    for (const name of [...this.#hosts.keys(), 'br']) {
      const space = this.#namespace(name);
      const pids = await run('ip', ['netns', 'pids', space]).catch(() => ({ stdout: '' }));
      for (const pid of pids.stdout.split('\n').filter(Boolean)) {
        try {
          process.kill(Number(pid), 'SIGKILL');
        } catch {
          // gone meanwhile
        }
      }
      await run('ip', ['netns', 'del', space]).catch(() => {});
    }
    this.#hosts.clear();
  }

  #namespace(name: string): string {
    return `pst-${this.#tag}-${name}`;
  }

  async #in(space: string, ...command: string[]): Promise<string> {
    const { stdout } = await run('ip', ['netns', 'exec', space, ...command]);
    return stdout;
  }
}
