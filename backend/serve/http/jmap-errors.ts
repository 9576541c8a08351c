/** The two kinds of JMAP errors: of a whole request (RFC 8620 3.6.1) and of one method call (3.6.2). */

export class JmapRequestError extends Error {
  readonly type: string;
  readonly status: number;
  readonly limit: string | undefined;

  /** @param type  The last word of `urn:ietf:params:jmap:error:…`. */
  constructor(
    type: 'unknownCapability' | 'notJSON' | 'notRequest' | 'limit',
    detail: string,
    limit?: string,
    status = 400,
  ) {
    super(detail);
    this.type = `urn:ietf:params:jmap:error:${type}`;
    this.status = status;
    this.limit = limit;
  }

  /** RFC 7807. */
  problem(): Record<string, unknown> {
    const { type, status, message: detail } = this;
    return this.limit === undefined ? { type, status, detail } : { type, status, detail, limit: this.limit };
  }
}

export type MethodErrorType =
  | 'serverUnavailable'
  | 'serverFail'
  | 'unknownMethod'
  | 'invalidArguments'
  | 'invalidResultReference'
  | 'accountNotFound'
  | 'requestTooLarge'
  | 'cannotCalculateChanges'
  | 'anchorNotFound'
  | 'unsupportedSort'
  | 'unsupportedFilter';

export class MethodError extends Error {
  readonly type: MethodErrorType;

  constructor(type: MethodErrorType, description: string) {
    super(description);
    this.type = type;
  }
}

export const invalid = (description: string): MethodError => new MethodError('invalidArguments', description);
