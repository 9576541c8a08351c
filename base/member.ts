/**
 * How a member process is started and stopped by its supervisor: arguments in,
 * a few words over the IPC channel, an exit code out.
 */
import { flushCompileCache } from 'node:module';
import { parseArgs } from 'node:util';
import { Fault } from './fault.ts';

export interface MemberStart {
  /** `gateway-1`, `backend-1` */
  readonly id: string;
  /** Absolute data directory of the machine. */
  readonly data: string;
  /** Configuration file, absolute; empty for none. */
  readonly config: string;
  /** 1-based number among the members of this role on this machine. */
  readonly number: number;
  /** Listening sockets of an earlier process that the supervisor hands over. */
  readonly listeners: number;
}

/** Words from a member to its supervisor. */
export type MemberWord =
  /** It waits for what is not its own (registry, storage): it is not to be ended for being slow. Said again and again. */
  | { readonly word: 'waiting' }
  /** Comes with the bare socket: see `listening-sockets.ts`. */
  | { readonly word: 'listening'; readonly name: string }
  | {
      readonly word: 'ready';
      readonly addresses: Readonly<Record<string, readonly string[]>>;
      /** Names of the sockets it listens on; none for members that hand none over. */
      readonly listeners?: readonly string[];
    }
  /** Could not start; `line` names place and remedy. The member exits with code 78 (EX_CONFIG) right after. */
  | { readonly word: 'cannot-start'; readonly line: string }
  /** What a reload has changed, by setting; `error` when all stays as it was. */
  | {
      readonly word: 'reloaded';
      readonly live: readonly string[];
      readonly atRestart: readonly string[];
      readonly error?: string;
    };

/** Words from the supervisor to a member. SIGTERM means the same as `drain`. */
export type SupervisorWord =
  | { readonly word: 'drain' }
  | { readonly word: 'reload' }
  /** Comes with the bare socket. */
  | { readonly word: 'listener'; readonly name: string };

/** Exit code of a member that must not be restarted: its configuration is wrong. */
export const exitBadConfig = 78;

export function memberStartFromArgs(args = process.argv.slice(2)): MemberStart {
  const { values } = parseArgs({
    args,
    options: {
      id: { type: 'string', default: '' },
      data: { type: 'string', default: '' },
      config: { type: 'string', default: '' },
      number: { type: 'string', default: '1' },
      listeners: { type: 'string', default: '0' },
    },
  });
  return {
    ...{ id: values.id, data: values.data, config: values.config },
    number: Number(values.number),
    listeners: Number(values.listeners),
  };
}

/** Tells the supervisor, when there is one. Resolves when the word has left this process. */
export function tellSupervisor(word: MemberWord): Promise<void> {
  const said = new Promise<void>((resolve) => {
    if (process.send === undefined) resolve();
    else process.send(word, undefined, {}, () => resolve());
  });
  // A member that is killed never writes its compiled modules: do it once all are loaded, for the next start.
  if (word.word === 'ready') flushCompileCache();
  return said;
}

/** How long the words about a failed start may take to leave: sockets that are handed over stand before them. */
const lastWordMs = 2000;

/** Ends a member that could not start; `line` is for the admin when it is the admin's to mend. */
export function endFailedStart(line: string | undefined): void {
  const end = (): never => process.exit(line === undefined ? 1 : exitBadConfig);
  if (line === undefined || process.send === undefined) return void setTimeout(end, 0);
  void tellSupervisor({ word: 'cannot-start', line }).then(end);
  setTimeout(end, lastWordMs);
}

/**
 * Calls `drain` once, when this process is to stop: SIGTERM, the `drain` word, or
 * the loss of a supervisor that had forked us (nobody would revoke our lease or
 * start us again). Ctrl-C reaches every process of the terminal, members too: with
 * a supervisor it is ignored here, because the supervisor stops gateways before
 * backends. Call it first thing, before anything that can take time.
 *
 * @param drain  Stops taking work, finishes what runs, lets go. When it settles the
 *     process exits: 0, or 1 if it threw.
 * @param reason `SIGTERM`, `drain`, `supervisor-gone` or `SIGINT` (only without a supervisor).
 */
export function onDrain(drain: (reason: string) => void | Promise<void>): void {
  let begun = false;
  const begin = (reason: string): void => {
    if (begun) return;
    begun = true;
    Promise.resolve()
      .then(() => drain(reason))
      .then(
        () => process.exit(0),
        () => process.exit(1),
      );
  };
  const supervised = process.send !== undefined;
  process.on('SIGTERM', () => begin('SIGTERM'));
  process.on('SIGINT', () => {
    if (!supervised) begin('SIGINT');
  });
  if (!supervised) return;
  process.on('message', (word: SupervisorWord) => {
    if (word?.word === 'drain') begin('drain');
  });
  process.on('disconnect', () => begin('supervisor-gone'));
}

/**
 * Calls `reload` when the configuration file is to be read again, and tells the supervisor what came of it.
 * @param reload  Leaves everything as it is when it throws.
 */
export function onReload(
  reload: () => Promise<{ readonly live: readonly string[]; readonly atRestart: readonly string[] }>,
): void {
  process.on('message', (word: SupervisorWord) => {
    if (word?.word !== 'reload') return;
    reload().then(
      ({ live, atRestart }) => tellSupervisor({ word: 'reloaded', live, atRestart }),
      (error: unknown) =>
        tellSupervisor({ word: 'reloaded', live: [], atRestart: [], error: Fault.from(error).message }),
    );
  });
}
