/** The methods there are, by name. */

import { emailGet, threadIdOf } from './email-get.ts';
import type { EmailIndex } from './email-index.ts';
import { emailQuery } from './email-query.ts';
import { type Arguments, idsIn, onlyKnown, textIn } from './jmap-arguments.ts';
import { MethodError } from './jmap-errors.ts';
import { jmapLimits } from './jmap-limits.ts';
import { mailboxGet, mailboxQuery } from './mailbox-methods.ts';

export const capability = {
  core: 'urn:ietf:params:jmap:core',
  mail: 'urn:ietf:params:jmap:mail',
} as const;

export interface JmapContext {
  readonly accountId: string;
  readonly index: EmailIndex;
}

interface Method {
  /** Capability a request has to name in `using`. */
  readonly needs: string;
  readonly run: (args: Arguments, context: JmapContext) => Promise<Arguments> | Arguments;
}

const methods: Readonly<Record<string, Method>> = {
  'Core/echo': { needs: capability.core, run: (args) => args },
  'Mailbox/get': { needs: capability.mail, run: onAccount(mailboxGet) },
  'Mailbox/query': { needs: capability.mail, run: onAccount(mailboxQuery) },
  'Mailbox/changes': { needs: capability.mail, run: onAccount(noChanges) },
  'Mailbox/queryChanges': { needs: capability.mail, run: onAccount(noChanges) },
  'Thread/get': { needs: capability.mail, run: onAccount(threadGet) },
  'Thread/changes': { needs: capability.mail, run: onAccount(noChanges) },
  'Email/get': { needs: capability.mail, run: onAccount(emailGet) },
  'Email/query': { needs: capability.mail, run: onAccount(emailQuery) },
  'Email/changes': { needs: capability.mail, run: onAccount(noChanges) },
  'Email/queryChanges': { needs: capability.mail, run: onAccount(noChanges) },
};

/** @throws {MethodError} `unknownMethod` */
export function methodOf(name: string, using: ReadonlySet<string>): Method['run'] {
  const method = Object.hasOwn(methods, name) ? methods[name] : undefined;
  if (method === undefined || !using.has(method.needs)) {
    throw new MethodError(
      'unknownMethod',
      'there is no such method, or `using` does not name its capability',
    );
  }
  return method.run;
}

function onAccount(run: Method['run']): Method['run'] {
  return (args, context) => {
    const accountId = textIn(args, 'accountId');
    if (accountId === undefined) throw new MethodError('invalidArguments', 'accountId is missing');
    if (accountId !== context.accountId)
      throw new MethodError('accountNotFound', 'there is no such account here');
    return run(args, context);
  };
}

/** RFC 8620 5.2: a client then fetches anew. */
function noChanges(): never {
  throw new MethodError('cannotCalculateChanges', 'changes are not kept');
}

/** RFC 8621 3.1. Every email is a thread of its own. */
async function threadGet(args: Arguments, { accountId, index }: JmapContext): Promise<Arguments> {
  onlyKnown(args, ['accountId', 'ids', 'properties']);
  const ids = idsIn(args, 'ids');
  if (ids === undefined || ids.length > jmapLimits.maxObjectsInGet) {
    throw new MethodError('requestTooLarge', 'name fewer ids');
  }
  await index.update();
  const isThread = (id: string): boolean => id.startsWith('T') && index.locate(id.slice(1)).length > 0;
  return {
    accountId,
    state: index.state,
    list: ids.filter(isThread).map((id) => ({ id: threadIdOf(id.slice(1)), emailIds: [id.slice(1)] })),
    notFound: ids.filter((id) => !isThread(id)),
  };
}
