/** What happens to a folder's files behind the answer; the journal has said all of it already. */
export interface LateWork {
  /** The files do not say all the journal does, and may not be taken at their word. */
  readonly behind: boolean;
  /** Settles when the files show what they may show, and those of expunged messages are away. */
  settled(): Promise<void>;
  /** Begins nothing more: whoever opens the folder next goes on. */
  abandon(): void;
  /** The flags of these messages changed. */
  showFlags(uids: readonly number[]): void;
  /** @param names  Of messages that were expunged, up to `modseq`. */
  purge(names: readonly string[], modseq: number): void;
}
