/** What one HTTP client may cost. */
import { httpBodyBytesMax } from '../../cluster-protocol/link.ts';

export interface HttpLimits {
  /** Body of one request; the owner announces the same as `maxSizeRequest` (RFC 8620 2). */
  readonly bodyBytesMax: number;
  /** From the first byte of the header to the last of the body: total, not idle (CASES 60). */
  readonly bodyMs: number;
  /** Between requests; also the whole time a request's header may take. */
  readonly idleMs: number;
  /** A client that takes no byte of an answer for this long is cut off. */
  readonly stallMs: number;
  /** An answer in all. */
  readonly responseMs: number;
  readonly concurrentRequestsMax: number;
  readonly requestsPerConnectionMax: number;
  /** Streams a client may open and reset at once, and per second after that (CVE-2023-44487). */
  readonly resetBurst: number;
  readonly resetsPerSecond: number;
  readonly failedLoginsPerConnectionMax: number;
}

export const httpLimits: HttpLimits = {
  bodyBytesMax: httpBodyBytesMax,
  bodyMs: 60_000,
  idleMs: 30_000,
  stallMs: 60_000,
  responseMs: 30 * 60_000,
  concurrentRequestsMax: 32,
  requestsPerConnectionMax: 10_000,
  resetBurst: 100,
  resetsPerSecond: 10,
  failedLoginsPerConnectionMax: 5,
};
