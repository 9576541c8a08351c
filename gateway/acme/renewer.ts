/**
 * Gets certificates and renews them (RFC 8555), at one gateway of the cluster at a
 * time: whoever holds the renewer's key in the registry. What it gets goes into the
 * registry, from where every gateway takes it; answers to challenges too. A failure
 * changes nothing that is shown, and is tried again later and later.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Agent } from 'node:https';
import * as acme from 'acme-client';
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import { type Registry, registryKey } from '../../cluster-protocol/registry.ts';
import { type AcmeState, encodeIssued } from './acme-state.ts';

const lookEveryMs = 60_000;
const renewerLeaseMs = 30_000;
const challengeLeaseMs = 10 * 60_000;
/** A change in the registry reaches every gateway within a second; before that nobody may ask. */
const spreadMs = 1500;
const retryFirstMs = 60_000;
const retryMaxMs = 12 * 60 * 60_000;
const orderMsMax = 5 * 60_000;

export interface RenewerOptions {
  readonly registry: Registry;
  readonly state: AcmeState;
  readonly log: Log;
  /** This gateway. */
  readonly member: string;
  /** The authority's directory. */
  readonly directoryUrl: string;
  /** PEM file of a CA the authority's own certificate is from; empty: those of Node. */
  readonly caFile: string;
  readonly email: string;
  /** Names of each certificate. */
  readonly certificates: readonly (readonly string[])[];
  readonly renewBeforeMs: number;
  readonly lookMs?: number;
  readonly retryMs?: number;
}

/** Looks at once and then every minute. */
export function startRenewer(options: RenewerOptions): { close(): Promise<void> } {
  const renewer = new Renewer(options);
  renewer.look();
  return { close: () => renewer.close() };
}

/** Is there a certificate for these names that needs no renewing yet? */
export function isGood(
  names: readonly string[],
  issued: ReturnType<AcmeState['issued']>,
  renewBeforeMs: number,
  nowMs: number,
): boolean {
  const found = issued.find((one) => one.names.join() === names.join());
  if (found === undefined) return false;
  const { validFromDate, validToDate } = new X509Certificate(found.cert);
  const lifeMs = validToDate.getTime() - validFromDate.getTime();
  // Certificates of a few days are renewed with a third of their life left.
  return validToDate.getTime() - nowMs > Math.min(renewBeforeMs, lifeMs / 3);
}

class Renewer {
  readonly #options: RenewerOptions;
  readonly #end = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #lease: string | undefined;
  readonly #retryAt = new Map<string, { atMs: number; waitMs: number }>();

  constructor(options: RenewerOptions) {
    this.#options = options;
  }

  look(): void {
    void this.#look()
      .catch((error: unknown) =>
        this.#options.log.warn({ error: Fault.from(error).message }, 'certificates cannot be looked at'),
      )
      .finally(() => {
        if (this.#end.signal.aborted) return;
        this.#timer = setTimeout(() => this.look(), this.#options.lookMs ?? lookEveryMs);
        this.#timer.unref();
      });
  }

  async close(): Promise<void> {
    this.#end.abort();
    clearTimeout(this.#timer);
    if (this.#lease !== undefined) await this.#options.registry.revokeLease(this.#lease).catch(() => {});
  }

  async #look(): Promise<void> {
    const { certificates, state, renewBeforeMs } = this.#options;
    const due = certificates.filter((names) => !isGood(names, state.issued(), renewBeforeMs, Date.now()));
    if (due.length === 0 || !(await this.#holds())) return;
    // Another gateway may have renewed since this one saw the state last.
    for (const names of due) {
      if (this.#end.signal.aborted) return;
      if (!isGood(names, state.issued(), renewBeforeMs, Date.now())) await this.#renew(names);
    }
  }

  /** Is this gateway the one that renews? Takes the place when it is free. */
  async #holds(): Promise<boolean> {
    const { registry, member } = this.#options;
    if (this.#lease !== undefined) {
      const held = await registry.renewLease(this.#lease).then(
        () => true,
        () => false,
      );
      if (held) return true;
      this.#lease = undefined;
    }
    const lease = await registry.grantLease(renewerLeaseMs);
    const { done } = await registry.transact(
      [{ key: registryKey.acmeRenewer, is: 'absent' }],
      [{ put: registryKey.acmeRenewer, value: member, lease }],
    );
    if (!done) await registry.revokeLease(lease);
    else this.#lease = lease;
    return done;
  }

  async #renew(names: readonly string[]): Promise<void> {
    const { log, registry, retryMs = retryFirstMs } = this.#options;
    const key = names.join();
    const retry = this.#retryAt.get(key);
    if (retry !== undefined && performance.now() < retry.atMs) return;
    // The place must be kept while an order takes its time.
    const keeping = setInterval(
      () => void registry.renewLease(this.#lease!).catch(() => {}),
      renewerLeaseMs / 3,
    );
    try {
      const { cert, privateKey } = await this.#order(names);
      await registry.transact(
        [],
        [
          {
            put: `${registryKey.acmeCertificatePrefix}${names[0]}`,
            value: encodeIssued({ names, cert, key: privateKey }),
          },
        ],
      );
      this.#retryAt.delete(key);
      const { validTo } = new X509Certificate(cert);
      log.info({ names, until: validTo }, 'certificate issued');
    } catch (error) {
      const waitMs = Math.min(retryMaxMs, (retry?.waitMs ?? retryMs / 2) * 2);
      this.#retryAt.set(key, { atMs: performance.now() + waitMs, waitMs });
      log.error(
        { names, error: (error as Error).message.slice(0, 500), againInMs: waitMs },
        'no certificate was issued; do the names lead to listen.http on port 80?',
      );
    } finally {
      clearInterval(keeping);
    }
  }

  async #order(names: readonly string[]): Promise<{ cert: string; privateKey: string }> {
    const { registry, directoryUrl, email, caFile } = this.#options;
    if (caFile !== '') acme.axios.defaults.httpsAgent = new Agent({ ca: await readFile(caFile) });
    const client = new acme.Client({ directoryUrl, accountKey: await this.#accountKey() });
    const [privateKey, csr] = await acme.crypto.createCsr(
      { commonName: names[0]!, altNames: [...names] },
      await acme.crypto.createPrivateEcdsaKey('P-256'),
    );
    const lease = await registry.grantLease(challengeLeaseMs);
    try {
      const cert = await within(
        orderMsMax,
        client.auto({
          csr,
          ...(email === '' ? {} : { email }),
          termsOfServiceAgreed: true,
          skipChallengeVerification: true,
          challengePriority: ['http-01'],
          challengeCreateFn: async (_authorization, challenge, keyAuthorization) => {
            const put = registryKey.acmeChallenge(challenge.token);
            await registry.transact([], [{ put, value: keyAuthorization, lease }]);
            await new Promise((resolve) => setTimeout(resolve, spreadMs));
          },
          challengeRemoveFn: async () => {},
        }),
      );
      return { cert, privateKey: privateKey.toString() };
    } finally {
      await registry.revokeLease(lease).catch(() => {});
    }
  }

  /** The cluster's account at the authority. */
  async #accountKey(): Promise<Buffer> {
    const { registry } = this.#options;
    const key = registryKey.acmeAccount;
    if ((await registry.get(key)) === undefined) {
      const made = await acme.crypto.createPrivateEcdsaKey('P-256');
      await registry.transact([{ key, is: 'absent' }], [{ put: key, value: made.toString() }]);
    }
    const entry = await registry.get(key);
    if (entry === undefined)
      throw new Fault('registry-failed', 'the registry lost the key of the ACME account');
    return Buffer.from(entry.value);
  }
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, fail) => {
    timer = setTimeout(() => fail(new Fault('deadline-passed', 'the authority took too long')), ms);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
