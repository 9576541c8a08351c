/**
 * How a member process is started and stopped by its supervisor: arguments in,
 * a few words over the IPC channel, an exit code out.
 */
import { parseArgs } from 'node:util';

export interface MemberStart {
  /** `gateway-1`, `backend-1` */
  readonly id: string;
  /** Absolute data directory of the machine. */
  readonly data: string;
  /** Configuration file, absolute; empty for none. */
  readonly config: string;
  /** 1-based number among the members of this role on this machine. */
  readonly number: number;
}

/** Words from a member to its supervisor. */
export type MemberWord =
  | { readonly word: 'ready'; readonly addresses: Readonly<Record<string, readonly string[]>> }
  /** Could not start; `line` names place and remedy. The member exits with code 78 (EX_CONFIG) right after. */
  | { readonly word: 'cannot-start'; readonly line: string };

/** Words from the supervisor to a member. SIGTERM means the same as `drain`. */
export type SupervisorWord = { readonly word: 'drain' };

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
    },
  });
  return { id: values.id, data: values.data, config: values.config, number: Number(values.number) };
}

/** Tells the supervisor, when there is one. */
export function tellSupervisor(word: MemberWord): void {
  process.send?.(word);
}
