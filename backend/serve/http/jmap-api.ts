/** A JMAP request (RFC 8620 3.3): its form, its limits, one method call after the other. */
import { Fault } from '../../../base/fault.ts';
import type { Log } from '../../../base/log.ts';
import { factsOf } from '../answers.ts';
import type { Arguments } from './jmap-arguments.ts';
import { JmapRequestError, MethodError } from './jmap-errors.ts';
import { jmapLimits } from './jmap-limits.ts';
import { capability, type JmapContext, methodOf } from './jmap-methods.ts';
import { type Invocation, resolveReferences } from './result-references.ts';

interface JmapRequest {
  readonly using: ReadonlySet<string>;
  readonly calls: readonly Invocation[];
  readonly createdIds: unknown;
}

/** @throws {JmapRequestError} the request as a whole cannot be answered. */
export function parseRequest(body: Buffer): JmapRequest {
  let raw: unknown;
  try {
    raw = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw new JmapRequestError('notJSON', 'the request is not JSON');
  }
  const notRequest = (why: string): JmapRequestError => new JmapRequestError('notRequest', why);
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) throw notRequest('not an object');
  const { using, methodCalls, createdIds } = raw as Record<string, unknown>;
  if (!Array.isArray(using) || using.some((name) => typeof name !== 'string')) {
    throw notRequest('`using` is not an array of texts');
  }
  if (!Array.isArray(methodCalls)) throw notRequest('`methodCalls` is not an array');
  if (methodCalls.length > jmapLimits.maxCallsInRequest) {
    throw new JmapRequestError('limit', 'too many method calls', 'maxCallsInRequest');
  }
  const known: readonly string[] = Object.values(capability);
  if (using.some((name) => !known.includes(name as string))) {
    throw new JmapRequestError('unknownCapability', 'a capability in `using` is not known here');
  }
  for (const call of methodCalls as unknown[]) if (!isInvocation(call)) throw notRequest('not a method call');
  return { using: new Set(using as string[]), calls: methodCalls as Invocation[], createdIds };
}

function isInvocation(call: unknown): boolean {
  if (!Array.isArray(call) || call.length !== 3) return false;
  const [name, args, id] = call as unknown[];
  return (
    typeof name === 'string' &&
    typeof args === 'object' &&
    args !== null &&
    !Array.isArray(args) &&
    typeof id === 'string' &&
    id.length <= 255
  );
}

/** @returns the response object (RFC 8620 3.4). @throws {Fault} `lease-lost`, `not-owner`: nothing may be answered. */
export async function answerRequest(
  request: JmapRequest,
  context: JmapContext,
  sessionState: string,
  log: Log,
): Promise<Arguments> {
  const answers: Invocation[] = [];
  for (const [name, args, id] of request.calls) {
    try {
      const run = methodOf(name, request.using);
      answers.push([name, await run(resolveReferences(args, answers), context), id]);
    } catch (error) {
      answers.push(['error', methodErrorOf(error, name, log), id]);
    }
  }
  const response = { methodResponses: answers, sessionState };
  return request.createdIds === undefined ? response : { ...response, createdIds: request.createdIds };
}

function methodErrorOf(error: unknown, name: string, log: Log): Arguments {
  if (error instanceof MethodError) return { type: error.type, description: error.message };
  if (error instanceof Fault && (error.code === 'lease-lost' || error.code === 'not-owner')) throw error;
  log.warn({ method: name.slice(0, 50), ...factsOf(error) }, 'jmap method failed');
  return { type: 'serverFail', description: 'the server failed; try again later' };
}
