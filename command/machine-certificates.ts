/**
 * The certificates of one machine of several: signed here where the key of the
 * CA is, asked for through the registry elsewhere, renewed while Postern runs.
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Fault } from '../base/fault.ts';
import type { Log } from '../base/log.ts';
import { type Authority, openAuthority, readIfThere } from '../certs/authority.ts';
import { certFilesOf } from '../certs/files.ts';
import { edgeLeaf, hasGoodLeaf, type LeafRequest, machineLeaf, makeLeaf } from '../certs/leaf.ts';
import { pinOf } from '../certs/request.ts';
import type { MachineIdentity } from '../cluster-protocol/machines.ts';
import type { Registry } from '../cluster-protocol/registry.ts';
import { askForCertificates } from './certificate-request.ts';
import { type Certificates, summarize } from './certificates.ts';
import { writing } from './cluster-record.ts';

const lookEveryMsMax = 3_600_000;
const lookEveryMsMin = 2000;

export interface MachineCertificatesOptions {
  readonly registry: Registry;
  readonly directory: string;
  readonly identity: MachineIdentity;
  readonly hostname: string;
  readonly lifeMs: number;
  readonly log: Log;
  nowMs(): number;
}

export interface MachineCertificates extends Certificates {
  /** The CA, where this machine has its key. */
  readonly authority: Authority | undefined;
  close(): void;
}

/** Makes or asks for what is missing or runs out. @throws {Fault} `bad-config`, `cannot-write` */
export async function openMachineCertificates(
  options: MachineCertificatesOptions,
): Promise<MachineCertificates> {
  const { directory, identity, lifeMs, nowMs, log } = options;
  const files = certFilesOf(directory);
  const leaves = new Map<string, LeafRequest>([
    ['edge', { ...edgeLeaf(files, options.hostname), lifeMs }],
    ['machine', machineLeaf(files, identity.cluster, identity.machine, identity.id, lifeMs)],
  ]);
  const authority =
    (await readIfThere(files.authorityKey)) === undefined
      ? undefined
      : await writing(directory, () => openAuthority(files, identity.cluster, nowMs()));
  const issuer = async (): Promise<X509Certificate> =>
    authority?.certificate ?? new X509Certificate(await readFile(files.authority));
  const ask = async (): Promise<void> =>
    askForCertificates({ ...options, files, pin: pinOf(await issuer()) });
  let running: Promise<unknown> = Promise.resolve();
  /** One after the other: an admin's wish and the timer's must not mix their keys. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = running.then(work, work);
    running = turn.catch(() => {});
    return turn;
  };
  const renewStale = async (): Promise<void> => {
    const stale: LeafRequest[] = [];
    for (const leaf of leaves.values())
      if (!(await hasGoodLeaf(leaf, { certificate: await issuer() }, nowMs()))) stale.push(leaf);
    if (stale.length === 0) return;
    if (authority === undefined) await ask();
    else for (const leaf of stale) await makeLeaf(leaf, authority, identity.cluster, nowMs());
    log.info({ machine: identity.machine }, 'certificates renewed');
  };
  await inTurn(() => writing(directory, renewStale)).catch((error: unknown) => {
    // Whatever is there may be good for weeks still; members say it when it is not.
    log.error({ error: Fault.from(error).message }, 'certificates not renewed');
  });
  const everyMs = Math.min(lookEveryMsMax, Math.max(lookEveryMsMin, lifeMs / 20));
  const timer = setInterval(() => {
    void inTurn(renewStale).catch((error: unknown) =>
      log.error({ error: Fault.from(error).message }, 'certificates not renewed'),
    );
  }, everyMs).unref();
  return {
    authority,
    close: () => clearInterval(timer),
    async list() {
      const all = [{ name: 'ca', file: files.authority }];
      for (const [name, leaf] of leaves) all.push({ name, file: leaf.certificate });
      return Promise.all(all.map(async ({ name, file }) => summarize(name, file, await readFile(file))));
    },
    renew: (name) =>
      inTurn(async () => {
        const wanted = [...leaves].filter(([leaf]) => name === undefined || leaf === name);
        if (authority !== undefined)
          for (const [, leaf] of wanted)
            await writing(directory, () => makeLeaf(leaf, authority, identity.cluster, nowMs()));
        else if (wanted.length > 0) await writing(directory, ask);
        return wanted.map(([leaf]) => leaf);
      }),
  };
}
