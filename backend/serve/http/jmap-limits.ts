/** What a JMAP client may ask for at once; announced in the session resource (RFC 8620 2). */
import { httpBodyBytesMax } from '../../../cluster-protocol/link.ts';

export const jmapLimits = {
  maxSizeRequest: httpBodyBytesMax,
  maxConcurrentRequests: 8,
  maxCallsInRequest: 16,
  maxObjectsInGet: 500,
  /** Longest list of ids one Email/query answers. */
  queryIdsMax: 5000,
  /** Conditions and operators of one filter, and how deep they nest. */
  filterNodesMax: 100,
  filterDepthMax: 10,
  /** Text of body parts in one Email/get, all messages together. */
  bodyValueBytesMax: 8 * 1024 * 1024,
  /** One method's answer as JSON, roughly. */
  answerBytesMax: 32 * 1024 * 1024,
} as const;
