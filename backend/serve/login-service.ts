/** Checks a login for the gateway where no session follows at once: SMTP submission, and the steps of SCRAM. */
import { linkHeader, linkStatus } from '../../cluster-protocol/link.ts';
import { answer, factsOf, ownerHint, statusOf } from './answers.ts';
import type { Opening, Service, ServiceContext } from './service.ts';

/** `/login`: 200 or 401; 400 without credentials; 421, 503 or 500 when it could not be checked. */
export const loginService: Service = async (stream, opening, context) => {
  stream.on('error', () => {});
  const { credentials, account, headers } = opening;
  if (credentials === undefined) {
    if (headers[linkHeader.scramStart] === undefined) return answer(stream, linkStatus.badRequest);
    const { salt, iterations } = await context.accounts.scramStart(account);
    const record = `${salt.toString('base64')},${iterations}`;
    return answer(stream, linkStatus.accepted, { [linkHeader.scramSalt]: record });
  }
  const checked = await checkCredentials(opening, context, 'login');
  if (!checked.ok) return answer(stream, checked.status, checked.headers);
  const signature =
    credentials.mechanism === 'scram' ? await context.accounts.scramSignature(credentials) : undefined;
  answer(
    stream,
    linkStatus.accepted,
    signature === undefined ? {} : { [linkHeader.scramSignature]: signature },
  );
};

export type CredentialCheck =
  | { readonly ok: true }
  | { readonly ok: false; readonly status: number; readonly headers: Record<string, string> };

/**
 * Verifies the credentials of an opening and logs the login. They must name the account the stream was opened
 * for: that is the one whose ownership has been checked. Never rejects.
 */
export async function checkCredentials(
  opening: Opening,
  context: ServiceContext,
  service: string,
): Promise<CredentialCheck> {
  const { credentials, account, trace, client } = opening;
  const facts = { trace, account, service, client: client.address, tls: opening.tls };
  try {
    const good =
      credentials !== undefined &&
      credentials.user === account &&
      (await context.accounts.verify(credentials));
    if (!good) {
      context.log.info({ ...facts, outcome: 'refused' }, 'login');
      return { ok: false, status: linkStatus.refused, headers: { [linkHeader.reason]: 'credentials' } };
    }
    context.log.info({ ...facts, outcome: 'accepted' }, 'login');
    return { ok: true };
  } catch (error) {
    context.log.warn({ ...facts, outcome: 'failed', ...factsOf(error) }, 'login');
    const status = statusOf(error);
    // 404 would tell a guesser which accounts exist (CASES 69).
    const told = status === linkStatus.noSuchAccount ? linkStatus.refused : status;
    return {
      ok: false,
      status: told,
      headers: told === linkStatus.notOwner ? ownerHint(context, account) : {},
    };
  }
}
