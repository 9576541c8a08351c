/** What `postern cluster …` and `postern member …` ask over the admin socket: the form of each, and its check. Pure. */
import { Fault } from '../base/fault.ts';
import { canonicalAddress } from '../cluster-protocol/ids.ts';

/** `by`: who runs the command, as it says itself; the socket is open to this machine's own user only. */
export type ClusterRequest =
  | { readonly op: 'cluster-drain' | 'cluster-undrain'; readonly member: string; readonly by: string }
  /** What the member still has; a command that waits asks again and again. */
  | { readonly op: 'cluster-left' | 'cluster-safe-to-stop'; readonly member: string }
  | { readonly op: 'cluster-pin'; readonly address: string; readonly member: string; readonly by: string }
  | { readonly op: 'cluster-unpin'; readonly address: string; readonly by: string }
  /** Without `member` the shard is the controller's again. */
  | { readonly op: 'cluster-move'; readonly shard: string; readonly member?: string; readonly by: string }
  | { readonly op: 'cluster-why'; readonly address: string }
  | { readonly op: 'cluster-upgrade-check' }
  | { readonly op: 'cluster-history'; readonly countMax: number }
  /** Answered with 200 before it is done, as `account-maintain` is. */
  | { readonly op: 'member-restart'; readonly member: string; readonly by: string };

const nameBytesMax = 256;
export const historyPerPageMax = 2000;

/** @returns `undefined` when `op` is none of these. @throws {Fault} `bad-argument`, `bad-name` */
export function clusterRequest(raw: Readonly<Record<string, unknown>>): ClusterRequest | undefined {
  const text = (name: string): string => {
    const value = raw[name];
    if (typeof value !== 'string' || value === '' || Buffer.byteLength(value) > nameBytesMax)
      throw new Fault('bad-argument', `${name} is missing, empty or too long`);
    return value;
  };
  /** Goes into records and logs: no control characters. */
  const by = (): string =>
    typeof raw.by === 'string' ? raw.by.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 64) : '';
  const { op } = raw;
  switch (op) {
    case 'cluster-drain':
    case 'cluster-undrain':
    case 'member-restart':
      return { op, member: text('member'), by: by() };
    case 'cluster-left':
    case 'cluster-safe-to-stop':
      return { op, member: text('member') };
    case 'cluster-pin':
      return { op, address: canonicalAddress(text('address')), member: text('member'), by: by() };
    case 'cluster-unpin':
      return { op, address: canonicalAddress(text('address')), by: by() };
    case 'cluster-move':
      return {
        op,
        shard: text('shard'),
        by: by(),
        ...(raw.member === undefined ? {} : { member: text('member') }),
      };
    case 'cluster-why':
      return { op, address: canonicalAddress(text('address')) };
    case 'cluster-upgrade-check':
      return { op };
    case 'cluster-history': {
      const { countMax } = raw;
      if (typeof countMax !== 'number' || !Number.isSafeInteger(countMax) || countMax < 1)
        throw new Fault('bad-argument', 'countMax is not a whole number above 0');
      return { op, countMax: Math.min(countMax, historyPerPageMax) };
    }
    default:
      return undefined;
  }
}
