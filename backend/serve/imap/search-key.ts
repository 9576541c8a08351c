/** Search keys made into decisions: first by what the index knows, then by a message's text. */
import type { SearchKey } from '../../../mailwire/imap-search-keys.ts';
import type { Candidates } from '../../store/search/text-index.ts';
import { flagBitOf } from './flags.ts';
import { lowerBound, type MailboxView } from './mailbox-view.ts';

/** A text a message has to hold. */
export type ContentKey = TextKey | HeaderKey | SentKey;
type TextKey = { readonly key: 'body' | 'text'; readonly value: string };
type HeaderKey = { readonly key: 'header'; readonly name: string; readonly value: string };
type SentKey = { readonly key: 'before' | 'on' | 'since'; readonly sent: boolean; readonly dayMs: number };

export interface Known {
  /** By the index alone; `undefined`: the text has to be seen. */
  byFacts(sequence: number, uid: number): boolean | undefined;
  /** With the text. */
  byContent(sequence: number, uid: number, holds: (key: ContentKey) => Promise<boolean>): Promise<boolean>;
}

const dayMs = 86_400_000;
const noCandidates: ReadonlyMap<string, Candidates> = new Map();

type Decision = (sequence: number, uid: number) => boolean | undefined;

/**
 * @param saved  UIDs `$` stands for.
 * @param nowMs  For OLDER and YOUNGER.
 * @param texts  By text: the messages that may hold it. Without one, all may.
 */
export function compileKey(
  key: SearchKey,
  view: MailboxView,
  saved: readonly number[],
  nowMs: number,
  texts: ReadonlyMap<string, Candidates> = noCandidates,
): Known {
  const { folder } = view;
  const simple = (byFacts: Decision): Known => ({
    byFacts,
    byContent: async (sequence, uid) => byFacts(sequence, uid) === true,
  });
  const compiled = (inner: SearchKey) => compileKey(inner, view, saved, nowMs, texts);
  switch (key.key) {
    case 'all':
      return simple((_, uid) => folder.flagsOf(uid) !== undefined);
    case 'recent':
      return simple((_, uid) => folder.flagsOf(uid) !== undefined && view.isRecent(uid) === key.on);
    case 'flag': {
      const bit = flagBitOf(key.flag);
      if (bit === undefined) {
        const wanted = key.flag.toLowerCase();
        return simple((_, uid) => {
          const facts = folder.facts(uid);
          if (facts === undefined) return false;
          return facts.keywords.some((keyword) => keyword.toLowerCase() === wanted) === key.on;
        });
      }
      const value = key.on ? bit : 0;
      return simple((_, uid) => {
        const flags = folder.flagsOf(uid);
        return flags !== undefined && (flags & bit) === value;
      });
    }
    case 'before':
    case 'on':
    case 'since': {
      if (key.saved) {
        const test = dayTest(key);
        return simple((_, uid) => {
          const savedMs = folder.savedDateMs(uid);
          return savedMs !== undefined && test(savedMs);
        });
      }
      if (key.sent) return byText(key);
      const test = dayTest(key);
      return simple((_, uid) => {
        const facts = folder.facts(uid);
        return facts !== undefined && test(facts.internalDateMs);
      });
    }
    case 'older':
    case 'younger': {
      const edgeMs = nowMs - key.seconds * 1000;
      return simple((_, uid) => {
        const facts = folder.facts(uid);
        if (facts === undefined) return false;
        return key.key === 'older' ? facts.internalDateMs <= edgeMs : facts.internalDateMs >= edgeMs;
      });
    }
    case 'larger':
    case 'smaller':
      return simple((_, uid) => {
        const facts = folder.facts(uid);
        if (facts === undefined) return false;
        return key.key === 'larger' ? facts.size > key.size : facts.size < key.size;
      });
    case 'emailid':
      return simple((_, uid) => folder.facts(uid)?.emailId === key.id);
    case 'modseq':
      return simple((_, uid) => (folder.modseqOf(uid) ?? -1) >= key.modseq);
    case 'uid':
    case 'sequence': {
      const ranges = view.resolve(key.set, key.key === 'uid', saved, true);
      const starts = ranges.map((range) => range.from);
      return simple((sequence, uid) => {
        const at = lowerBound(starts, sequence) - 1;
        return at >= 0 && sequence <= ranges[at]!.to && folder.flagsOf(uid) !== undefined;
      });
    }
    case 'header':
    case 'body':
    case 'text':
      return byText(key, texts.get(key.value));
    case 'not': {
      const inner = compiled(key.of);
      return {
        byFacts: (sequence, uid) => {
          if (folder.flagsOf(uid) === undefined) return false;
          const answer = inner.byFacts(sequence, uid);
          return answer === undefined ? undefined : !answer;
        },
        byContent: async (sequence, uid, holds) => !(await inner.byContent(sequence, uid, holds)),
      };
    }
    case 'and':
    case 'or':
      return combined(key.of.map(compiled), key.key === 'or');
  }
}

function byText(key: ContentKey, candidates?: Candidates): Known {
  return {
    byFacts: (_, uid) =>
      candidates !== undefined && uid <= candidates.through && !candidates.has(uid) ? false : undefined,
    byContent: (_, __, holds) => holds(key),
  };
}

/** AND and OR are one thing: `settles` is the answer of one that settles all. */
function combined(parts: readonly Known[], settles: boolean): Known {
  return {
    byFacts: (sequence, uid) => {
      let open = false;
      for (const part of parts) {
        const answer = part.byFacts(sequence, uid);
        if (answer === settles) return settles;
        if (answer === undefined) open = true;
      }
      return open ? undefined : !settles;
    },
    byContent: async (sequence, uid, holds) => {
      for (const part of parts) {
        const answer = part.byFacts(sequence, uid) ?? (await part.byContent(sequence, uid, holds));
        if (answer === settles) return settles;
      }
      return !settles;
    },
  };
}

/** RFC 9051 6.4.4: dates are compared without time and zone; arrival days are days in UTC. */
export function dayTest(key: Pick<SentKey, 'key' | 'dayMs'>): (ms: number) => boolean {
  const { key: how, dayMs: day } = key;
  if (how === 'before') return (ms) => ms < day;
  if (how === 'since') return (ms) => ms >= day;
  return (ms) => ms >= day && ms < day + dayMs;
}
