/**
 * Kills backends under IMAP sessions that change their mailboxes without a pause,
 * and holds what is there in the end against what was answered: every change
 * that got its OK was made once, and sessions go on as if nothing had been.
 */
import type { Cluster, TestAccount } from '../support/cluster.ts';
import { waitFor } from '../support/process.ts';
import { type RandomSource, randomSource } from '../support/random.ts';
import { Client } from './client.ts';

export interface ResumeReport {
  readonly seed: number;
  readonly kills: number;
  readonly commands: number;
  /** Answers by their first word, or `NO [UNAVAILABLE]`. */
  readonly answers: Readonly<Record<string, number>>;
  /** Connections that closed. */
  readonly closed: number;
  /** Messages or mailboxes that are not there although their command got OK. */
  readonly missing: number;
  /** There more often than commands got OK. */
  readonly doubled: number;
  /** Longest time from a command to its answer, ms. */
  readonly longestMs: number;
  readonly wrong: readonly string[];
}

const killEveryMs = [150, 900] as const;

/** @param cluster  With two backends and plaintext logins; it is used up by this. */
export async function resumeRounds(
  cluster: Cluster,
  options: {
    readonly kills: number;
    readonly lanes: number;
    readonly seed: number;
    say?(line: string): void;
  },
): Promise<ResumeReport> {
  const random = randomSource(options.seed);
  const accounts: TestAccount[] = [];
  for (let count = 0; count < Math.ceil(options.lanes / 2); count++)
    accounts.push(await cluster.addAccount(`rounds${count}@postern.test`));
  const lanes = await Promise.all(
    Array.from({ length: options.lanes }, (_, number) =>
      Lane.begin(cluster, accounts[number >> 1]!, number, randomSource(options.seed + number + 1)),
    ),
  );
  const idle = await Promise.all(accounts.map((account) => idling(cluster, account)));
  const running = lanes.map((lane) => lane.run());
  for (let kill = 1; kill <= options.kills; kill++) {
    await new Promise((resolve) => setTimeout(resolve, random.between(...killEveryMs)));
    // Where nothing was answered since the last kill, another one shows nothing; a machine may need long to start two.
    const before = lanes.reduce((sum, lane) => sum + lane.commands, 0);
    await waitFor(
      'a command',
      () => lanes.reduce((sum, lane) => sum + lane.commands, 0) > before,
      30_000,
    ).catch(() => {});
    const victims =
      random.between(1, 6) === 1 ? ['backend-1', 'backend-2'] : [`backend-${random.between(1, 2)}`];
    // One that is not up again yet cannot be killed.
    for (const victim of victims) await cluster.kill(victim).catch(() => {});
    if (kill % 10 === 0)
      options.say?.(`${kill} kills, ${lanes.reduce((sum, lane) => sum + lane.commands, 0)} commands`);
  }
  for (const lane of lanes) lane.stop();
  await Promise.all(running);
  const wrong: string[] = [];
  for (const client of idle) {
    client.write('DONE\r\n');
    await client.readTo(/^idler OK .*\r\n/m).catch((error: Error) => wrong.push(`IDLE: ${error.message}`));
    client.close();
  }
  for (const lane of lanes) await lane.compare();
  const sum = (of: (lane: Lane) => number): number => lanes.reduce((total, lane) => total + of(lane), 0);
  const answers: Record<string, number> = {};
  for (const lane of lanes)
    for (const [word, count] of Object.entries(lane.answers)) answers[word] = (answers[word] ?? 0) + count;
  wrong.push(...lanes.flatMap((lane) => lane.wrong));
  return {
    seed: options.seed,
    kills: options.kills,
    commands: sum((lane) => lane.commands),
    answers,
    closed: sum((lane) => lane.closed),
    missing: sum((lane) => lane.missing),
    doubled: sum((lane) => lane.doubled),
    longestMs: Math.round(Math.max(...lanes.map((lane) => lane.longestMs))),
    wrong: wrong.slice(0, 20),
  };
}

async function idling(cluster: Cluster, account: TestAccount): Promise<Client> {
  const client = await Client.imap(cluster, account);
  await client.ask('SELECT INBOX');
  client.write('idler IDLE\r\n');
  await client.readTo(/^\+ .*\r\n/m);
  return client;
}

interface Message {
  readonly uid: string;
  readonly subject: string;
}

/** One session, alone in its mailboxes, and what has to be in them. */
class Lane {
  commands = 0;
  closed = 0;
  missing = 0;
  doubled = 0;
  longestMs = 0;
  readonly answers: Record<string, number> = {};
  readonly wrong: string[] = [];
  readonly #cluster: Cluster;
  readonly #account: TestAccount;
  readonly #number: number;
  readonly #random: RandomSource;
  #client: Client;
  #here: Message[] = [];
  readonly #there: string[] = [];
  readonly #folders = new Set<string>();
  /** Their commands were not answered: they may be there or not. */
  readonly #open = new Set<string>();
  #count = 0;
  #stopped = false;

  private constructor(
    cluster: Cluster,
    account: TestAccount,
    number: number,
    random: RandomSource,
    client: Client,
  ) {
    this.#cluster = cluster;
    this.#account = account;
    this.#number = number;
    this.#random = random;
    this.#client = client;
  }

  static async begin(
    cluster: Cluster,
    account: TestAccount,
    number: number,
    random: RandomSource,
  ): Promise<Lane> {
    const client = await Client.imap(cluster, account);
    const lane = new Lane(cluster, account, number, random, client);
    await client.ask(`CREATE Lane${number}`);
    await client.ask(`CREATE Box${number}`);
    if (number % 2 === 0) await client.ask('ENABLE QRESYNC');
    await client.ask(`SELECT Lane${number}`);
    return lane;
  }

  stop(): void {
    this.#stopped = true;
  }

  async run(): Promise<void> {
    while (!this.#stopped && this.closed === 0) {
      try {
        await this.#step();
      } catch (error) {
        if (!this.#client.closed) this.wrong.push(`lane ${this.#number}: ${(error as Error).message}`);
        this.closed++;
      }
    }
  }

  async #step(): Promise<void> {
    const one = this.#here[this.#random.between(0, Math.max(0, this.#here.length - 1))];
    switch (one === undefined ? 0 : this.#random.between(0, 6)) {
      case 0:
      case 1:
        return this.#append(this.#random.between(1, 3));
      case 2:
        if (await this.#ask(`UID COPY ${one!.uid} Box${this.#number}`, one!.subject))
          this.#there.push(one!.subject);
        return;
      case 3:
        if (await this.#ask(`UID MOVE ${one!.uid} Box${this.#number}`, one!.subject)) {
          this.#here = this.#here.filter((message) => message !== one);
          this.#there.push(one!.subject);
        }
        return;
      case 4:
        await this.#ask(`UID STORE ${one!.uid} +FLAGS (\\Deleted)`, one!.subject);
        if (await this.#ask(`UID EXPUNGE ${one!.uid}`, one!.subject))
          this.#here = this.#here.filter((message) => message !== one);
        return;
      case 5:
        return this.#folder();
      case 6:
        await this.#ask('FETCH 1:* (FLAGS BODY.PEEK[])', '');
    }
  }

  /** Messages in as many commands, sent at once. */
  async #append(count: number): Promise<void> {
    const sent: { tag: string; subject: string }[] = [];
    let bytes = '';
    for (let index = 0; index < count; index++) {
      const subject = `${this.#number}-${++this.#count}`;
      const text = `Subject: ${subject}\r\n\r\n${'x'.repeat(this.#random.between(1, 3000))}\r\n`;
      sent.push({ tag: `a${this.#count}`, subject });
      this.#open.add(subject);
      bytes += `a${this.#count} APPEND Lane${this.#number} {${text.length}+}\r\n${text}\r\n`;
    }
    const atMs = performance.now();
    this.#client.write(bytes);
    for (const { tag, subject } of sent) {
      const text = await this.#client.readTo(new RegExp(`^${tag} .*\\r\\n`, 'm'), 40_000);
      const answer = this.#note(text, tag, atMs, 'APPEND');
      const uid = /\[APPENDUID \d+ (\d+)\]/.exec(text)?.[1];
      if (answer === 'OK' && uid !== undefined) this.#here.push({ uid, subject });
      this.#open.delete(subject);
    }
  }

  async #folder(): Promise<void> {
    const name = `F${this.#number}-${++this.#count}`;
    if (await this.#ask(`CREATE ${name}`, name)) this.#folders.add(name);
    if (await this.#ask(`RENAME ${name} ${name}b`, `${name}b`)) {
      this.#folders.delete(name);
      this.#folders.add(`${name}b`);
    }
    if (this.#random.between(0, 1) === 0 && (await this.#ask(`DELETE ${name}b`, `${name}b`)))
      this.#folders.delete(`${name}b`);
  }

  async #ask(command: string, about: string): Promise<boolean> {
    const tag = `b${++this.#count}`;
    if (about !== '') this.#open.add(about);
    const atMs = performance.now();
    this.#client.write(`${tag} ${command}\r\n`);
    const text = await this.#client.readTo(new RegExp(`^${tag} .*\\r\\n`, 'm'), 40_000);
    this.#open.delete(about);
    return this.#note(text, tag, atMs, command) === 'OK';
  }

  #note(text: string, tag: string, atMs: number, command: string): string {
    this.commands++;
    this.longestMs = Math.max(this.longestMs, performance.now() - atMs);
    const line = new RegExp(`^${tag} (.*)\\r\\n`, 'm').exec(text)![1]!;
    const word = /^NO \[UNAVAILABLE\]/.exec(line)?.[0] ?? /^\w+/.exec(line)![0];
    this.answers[word] = (this.answers[word] ?? 0) + 1;
    if (word !== 'OK' && word !== 'NO [UNAVAILABLE]') this.wrong.push(`${command}: ${line}`);
    return word;
  }

  /** Looks with another session. */
  async compare(): Promise<void> {
    this.#client.close();
    const client = await waitFor('a login', () =>
      Client.imap(this.#cluster, this.#account).catch(() => undefined),
    );
    const list = await client.ask('LIST "" F*');
    const folders = [...list.matchAll(/^\* LIST .* "?([^" ]+)"?\r$/gm)]
      .map((found) => found[1]!)
      .filter((name) => name.startsWith(`F${this.#number}-`));
    this.#hold('mailbox', [...this.#folders], folders);
    for (const [mailbox, wanted] of [
      [`Lane${this.#number}`, this.#here.map((message) => message.subject)],
      [`Box${this.#number}`, this.#there],
    ] as const) {
      await client.ask(`EXAMINE ${mailbox}`);
      const text = await client.ask('FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]');
      this.#hold(
        mailbox,
        wanted,
        [...text.matchAll(/^Subject: (.*)\r$/gm)].map((found) => found[1]!),
      );
    }
    client.close();
  }

  #hold(what: string, wanted: readonly string[], found: readonly string[]): void {
    const counts = new Map<string, number>();
    for (const name of wanted) counts.set(name, (counts.get(name) ?? 0) + 1);
    for (const name of found) counts.set(name, (counts.get(name) ?? 0) - 1);
    for (const [name, count] of counts) {
      if (count === 0 || this.#open.has(name)) continue;
      if (count > 0) this.missing += count;
      else this.doubled -= count;
      this.wrong.push(`${what}: ${name} is there ${-count} times more than it should`);
    }
  }
}
