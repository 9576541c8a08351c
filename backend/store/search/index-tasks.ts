/** What is said between the thread that serves sessions and the one that keeps the indexes. */

/** `folder` names a mailbox and its UIDVALIDITY; `directory` is where an account's index lives. */
export type IndexTask =
  | { readonly kind: 'find'; readonly directory: string; readonly folder: string; readonly query: string }
  | {
      readonly kind: 'add';
      readonly directory: string;
      readonly folder: string;
      /** All messages, one behind the other. */
      readonly bytes: Uint8Array<ArrayBuffer>;
      /** Ascending; without a length: not indexed, to be looked at in every search. */
      readonly messages: readonly { readonly uid: number; readonly length: number | undefined }[];
      /** What the index knows already; when it is another UID, as after it was begun anew, nothing is added. */
      readonly after: number;
      /** Every message up to this UID is known to the index afterwards. */
      readonly through: number;
      readonly indexBytesMax: number;
    }
  /** These went. */
  | {
      readonly kind: 'drop';
      readonly directory: string;
      readonly folder: string;
      readonly uids: Uint32Array<ArrayBuffer>;
    }
  /** Only these are there, ascending. */
  | {
      readonly kind: 'keep';
      readonly directory: string;
      readonly folder: string;
      readonly uids: Uint32Array<ArrayBuffer>;
    }
  /** `whole`: what is there may be used again; else it is only let go. */
  | { readonly kind: 'close'; readonly directory: string; readonly whole: boolean };

export interface IndexAnswer {
  /** The UID up to which a folder is indexed; 0: not at all. */
  readonly through: number;
  /** Of `find`: candidates, ascending. */
  readonly uids: Uint32Array<ArrayBuffer>;
  /** There is no room for more. */
  readonly full: boolean;
  /** The index was begun anew, because there was none that could be trusted. */
  readonly begun: 'new' | 'damaged' | undefined;
}

export type IndexReply = { readonly id: number } & (
  | { readonly answer: IndexAnswer }
  | { readonly failure: string }
);
