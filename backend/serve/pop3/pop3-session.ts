/**
 * A POP3 session after login (RFC 1939 5 to 7): commands in, answers out, one
 * after the other. Nothing is removed before QUIT, and QUIT says `+OK` only when
 * the removal is on stable storage.
 */
import { type Fault, isFault } from '../../../base/fault.ts';
import { type Folder, flagBit, type OpenMessage } from '../../store/store.ts';
import type { Maildrop } from './maildrop.ts';
import { DotStuffer, TopCut } from './multi-line.ts';
import { type Pop3Command, parseCommand } from './pop3-command.ts';
import type { Pop3Output } from './pop3-output.ts';

/** Bad commands in a session before it is closed. */
export const errorsMax = 20;

/** RFC 2449: what CAPA names after login. */
export const capabilities: readonly string[] = [
  'TOP',
  'UIDL',
  'RESP-CODES',
  'AUTH-RESP-CODE',
  'PIPELINING',
  'EXPIRE NEVER',
  'UTF8 USER',
  'IMPLEMENTATION Postern',
];

/** With LOGIN-DELAY where there is one, in whole seconds (RFC 2449 6.5). */
export function capabilitiesWith(loginDelayMs: number): readonly string[] {
  return loginDelayMs === 0
    ? capabilities
    : [...capabilities, `LOGIN-DELAY ${Math.ceil(loginDelayMs / 1000)}`];
}

/** Messages up to this are read at once. */
const wholeBytesMax = 256 * 1024;
const topWindowBytes = 32 * 1024;

/** Of a session that can outlive its backend: its commands have names. */
export interface CommandNaming {
  /** Of the command that runs. */
  readonly operation: string;
  /** Its change was made by an earlier owner. */
  readonly isDone: boolean;
}

export class Pop3Session {
  readonly #folder: Folder;
  readonly #drop: Maildrop;
  readonly #output: Pop3Output;
  #errors = 0;
  retrievedCount = 0;
  deletedCount = 0;

  readonly #capabilities: readonly string[];

  readonly #naming: CommandNaming | undefined;

  constructor(
    folder: Folder,
    drop: Maildrop,
    output: Pop3Output,
    said = capabilities,
    naming?: CommandNaming,
  ) {
    this.#naming = naming;
    this.#capabilities = said;
    this.#folder = folder;
    this.#drop = drop;
    this.#output = output;
  }

  /**
   * Answers one command line. `end`: the session is over, nothing further is answered.
   * @throws {Fault} `lease-lost` or `not-owner`: the account must not be answered for any more; `gone`: no client.
   */
  async perform(line: string): Promise<'more' | 'end'> {
    let command: Pop3Command;
    try {
      command = parseCommand(line);
    } catch (error) {
      if (!isFault(error)) throw error;
      return await this.#refuse(error.message);
    }
    try {
      return await this.#answer(command);
    } catch (error) {
      if (!isFault(error) || error.code === 'lease-lost' || error.code === 'not-owner') throw error;
      if (error.code === 'gone' && command.verb !== 'RETR' && command.verb !== 'TOP') throw error;
      const goesOn = await this.#failed(error);
      // RFC 1939 6: whether the removal was successful or not, the session ends.
      return command.verb === 'QUIT' ? 'end' : goesOn;
    }
  }

  async #answer(command: Pop3Command): Promise<'more' | 'end'> {
    const { verb } = command;
    const drop = this.#drop;
    const output = this.#output;
    if ('number' in command && command.number !== undefined && !drop.has(command.number)) {
      return await this.#refuse('no such message');
    }
    switch (verb) {
      case 'STAT':
        await output.add(`+OK ${drop.count} ${drop.bytes}\r\n`);
        return 'more';
      case 'NOOP':
        await output.add('+OK\r\n');
        return 'more';
      case 'RSET':
        drop.reset();
        await output.add(`+OK ${drop.count} messages\r\n`);
        return 'more';
      case 'CAPA':
        await output.add(`+OK\r\n${this.#capabilities.join('\r\n')}\r\n.\r\n`);
        return 'more';
      case 'LIST':
        await this.#table(command.number, (number) => String(drop.size(number)));
        return 'more';
      case 'UIDL':
        await this.#table(command.number, (number) => drop.uniqueId(number));
        return 'more';
      case 'DELE':
        drop.delete(command.number);
        await output.add('+OK\r\n');
        return 'more';
      case 'RETR':
        await this.#send(command.number, undefined);
        drop.retrieved(command.number);
        this.retrievedCount += 1;
        return 'more';
      case 'TOP':
        await this.#send(command.number, command.lines);
        return 'more';
      case 'QUIT':
        await this.#quit();
        return 'end';
    }
  }

  /** LIST and UIDL: one message, or all that are not marked. */
  async #table(number: number | undefined, value: (number: number) => string): Promise<void> {
    const drop = this.#drop;
    if (number !== undefined) return await this.#output.add(`+OK ${number} ${value(number)}\r\n`);
    await this.#output.add(`+OK ${drop.count} messages\r\n`);
    let piece = '';
    for (let each = 1; each <= drop.last; each += 1) {
      if (!drop.has(each)) continue;
      piece += `${each} ${value(each)}\r\n`;
      if (piece.length > 16_384) {
        await this.#output.add(piece);
        piece = '';
      }
    }
    await this.#output.add(`${piece}.\r\n`);
  }

  async #send(number: number, lines: number | undefined): Promise<void> {
    const message = await this.#folder.open(this.#drop.uid(number));
    try {
      await this.#output.add(`+OK ${message.size} octets\r\n`);
      await this.#sendOpen(message, lines);
    } finally {
      await message.close();
    }
  }

  async #sendOpen(message: OpenMessage, lines: number | undefined): Promise<void> {
    const stuffer = new DotStuffer();
    const cut = lines === undefined ? undefined : new TopCut(lines);
    const whole = cut === undefined && message.size <= wholeBytesMax;
    try {
      const chunks = whole
        ? [await message.read(0, message.size)]
        : cut === undefined
          ? (message.stream(0, message.size) as AsyncIterable<Buffer>)
          : windows(message);
      for await (const chunk of chunks) {
        await this.#output.add(stuffer.push(cut === undefined ? chunk : cut.push(chunk)));
        if (cut?.done === true) break;
      }
    } catch (error) {
      // `+OK` is out: there is no way left to say that the rest is missing but to break off.
      throw new HalfSent('a message broke off', { cause: error });
    }
    await this.#output.add(stuffer.end());
  }

  /** RFC 1939 6: the UPDATE state. */
  async #quit(): Promise<void> {
    const seen = this.#drop.keptAndReadUids();
    if (seen.length > 0) {
      await this.#folder.changeFlags(seen, { how: 'add', flags: flagBit.seen, keywords: [] });
    }
    const uids = this.#drop.deletedUids();
    // Done by an owner that went before its answer came to the client.
    const done = this.#naming?.isDone === true;
    if (uids.length > 0 && !done)
      this.deletedCount = (await this.#folder.expunge(uids, false, this.#naming?.operation)).length;
    await this.#output.add('+OK bye\r\n');
  }

  get tooManyErrors(): boolean {
    return this.#errors > errorsMax;
  }

  async #refuse(words: string): Promise<'more' | 'end'> {
    this.#errors += 1;
    if (this.tooManyErrors) {
      await this.#output.add('-ERR too many errors\r\n');
      return 'end';
    }
    await this.#output.add(`-ERR ${words}\r\n`);
    return 'more';
  }

  async #failed(fault: Fault): Promise<'more' | 'end'> {
    if (fault.code === 'gone') return await this.#refuse('the message is gone');
    await this.#output.add('-ERR [SYS/TEMP] try again later\r\n'); // RFC 3206 4
    return 'more';
  }
}

/** A message in pieces that are read only when asked for: TOP needs the first of them. */
async function* windows(message: OpenMessage): AsyncGenerator<Buffer> {
  for (let at = 0; at < message.size; at += topWindowBytes) {
    yield await message.read(at, Math.min(message.size, at + topWindowBytes));
  }
}

/** A message that broke off after its `+OK`. */
export class HalfSent extends Error {}
