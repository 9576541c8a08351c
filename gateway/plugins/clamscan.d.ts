/** What `clamav.ts` uses of the npm package clamscan, which comes without types. */
declare module 'clamscan' {
  export default class NodeClam {
    init(options: Record<string, unknown>): Promise<NodeClam>;
    _initSocket(label?: string): Promise<import('node:net').Socket>;
    scanStream(
      stream: import('node:stream').Readable,
    ): Promise<{ isInfected: boolean | null; viruses: string[]; resultString?: string }>;
  }
}
