/**
 * The one error class. What matters about an error here is whose fault it is:
 * that one fact selects the reply a client sees and the level it is logged at.
 */

/**
 * - `client`: the other end of a client connection sent something it may not.
 * - `peer`: a member, a scanner, the registry or the storage did not do its part.
 * - `operator`: the configuration or the machine needs the admin's hand.
 * - `bug`: we are wrong.
 */
export type Whose = 'client' | 'peer' | 'operator' | 'bug';

/** Every code there is. A new one is added here, with whose fault it is. */
export const faultCodes = {
  // what clients send
  'line-too-long': 'client',
  'bare-newline': 'client',
  'nul-byte': 'client',
  'bad-syntax': 'client',
  'literal-too-big': 'client',
  'command-too-big': 'client',
  'too-many-errors': 'client',
  'deadline-passed': 'client',
  'bad-name': 'client',
  'bad-credentials': 'client',
  'no-such-account': 'client',
  'no-such-domain': 'client',
  'no-such-folder': 'client',
  'already-exists': 'client',
  'over-quota': 'client',
  'message-too-big': 'client',
  'limit-reached': 'client',
  'not-allowed': 'client',
  gone: 'client',
  // other members, scanners, registry, storage
  'not-owner': 'peer',
  'lease-lost': 'peer',
  'no-owner': 'peer',
  busy: 'peer',
  unavailable: 'peer',
  'peer-protocol': 'peer',
  'no-space': 'peer',
  'storage-failed': 'peer',
  'storage-damaged': 'peer',
  'scanner-failed': 'peer',
  'registry-failed': 'peer',
  'issuer-failed': 'peer',
  // the admin
  'bad-config': 'operator',
  'bad-argument': 'operator',
  'port-taken': 'operator',
  'cannot-write': 'operator',
  'wrong-root': 'operator',
  'not-running': 'operator',
  'already-running': 'operator',
  // ours
  bug: 'bug',
} as const satisfies Record<string, Whose>;

export type FaultCode = keyof typeof faultCodes;

export class Fault extends Error {
  readonly code: FaultCode;
  /** For logs only: never shown to a client. */
  readonly detail: Readonly<Record<string, unknown>>;

  /** @param message  One line that may be shown to whoever is at fault; names the place and the remedy. */
  constructor(
    code: FaultCode,
    message: string,
    options: { cause?: unknown; detail?: Record<string, unknown> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'Fault';
    this.code = code;
    this.detail = options.detail ?? {};
  }

  get whose(): Whose {
    return faultCodes[this.code];
  }

  /** The fault in `error`, or `error` wrapped: whatever is thrown and not ours is a bug until shown otherwise. */
  static from(error: unknown, code: FaultCode = 'bug'): Fault {
    if (error instanceof Fault) return error;
    const message = error instanceof Error ? error.message : String(error);
    return new Fault(code, message, { cause: error });
  }
}

/** Is `error` a fault with this code? */
export function isFault(error: unknown, code?: FaultCode): error is Fault {
  return error instanceof Fault && (code === undefined || error.code === code);
}

/** The system error code (`ENOSPC`, `ENOENT` ...) of an error from Node, or `''`. */
export function errnoOf(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : '';
}
