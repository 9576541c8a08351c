/** How this machine asks for certificates: when it joins, and to renew them while it runs. */
import { createPrivateKey, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeDurably } from '../base/durable-file.ts';
import { Fault } from '../base/fault.ts';
import { keyToPem, newKey } from '../certs/authority.ts';
import type { CertFiles } from '../certs/files.ts';
import { edgeLeaf, writeLeaf } from '../certs/leaf.ts';
import {
  type CertificateAnswer,
  checkAnswer,
  encodeKey,
  type RequestBody,
  signRequest,
} from '../certs/request.ts';
import type { MachineIdentity } from '../cluster-protocol/machines.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';

const answerWithinMs = 30_000;
const lookEveryMs = 200;

export interface AskOptions {
  readonly registry: Registry;
  readonly files: CertFiles;
  readonly identity: MachineIdentity;
  /** For the certificate clients see. */
  readonly hostname: string;
  /** `pinOf` the CA. */
  readonly pin: string;
  /** Absent: the certificate the machine has now is what it asks with. */
  readonly token?: { readonly id: string; readonly key: import('node:crypto').KeyObject };
}

/**
 * Asks, waits for the answer, and puts the new keys and certificates in place.
 * @throws {Fault} `not-allowed`: refused. `unavailable`: nobody answered. `peer-protocol`, `registry-failed`
 */
export async function askForCertificates(options: AskOptions): Promise<void> {
  const { registry, files, identity, token } = options;
  const machineKey = newKey().privateKey;
  const edgeKey = newKey().privateKey;
  const edge = edgeLeaf(files, options.hostname);
  const body: RequestBody = {
    cluster: identity.cluster,
    machine: identity.machine,
    machineId: identity.id,
    machineKey: encodeKey(machineKey),
    edgeKey: encodeKey(edgeKey),
    edgeNames: edge.names,
    ...(token === undefined ? {} : { token: token.id }),
  };
  const present =
    token === undefined
      ? {
          key: createPrivateKey(await readFile(files.machineKey)),
          certificate: firstPem(await readFile(files.machine, 'utf8')),
        }
      : { key: token.key, certificate: undefined };
  const request = signRequest(body, machineKey, present.key, present.certificate);
  const answer = await answerTo(registry, request);
  if ('refused' in answer) throw new Fault('not-allowed', answer.refused);
  checkAnswer(answer, options.pin, body);
  await writeDurably(files.authority, answer.ca);
  await writeLeaf(edge, keyToPem(edgeKey), answer.edge + answer.ca);
  await writeLeaf(
    { certificate: files.machine, key: files.machineKey },
    keyToPem(machineKey),
    answer.machine + answer.ca,
  );
}

async function answerTo(registry: Registry, request: string): Promise<CertificateAnswer> {
  const id = randomBytes(16).toString('hex');
  const lease = await registry.grantLease(2 * answerWithinMs);
  try {
    await registry.transact([], [{ put: registryKey.certificateRequest(id), value: request, lease }]);
    for (const end = performance.now() + answerWithinMs; performance.now() < end; await sleep(lookEveryMs)) {
      const entry = await registry.get(registryKey.certificateAnswer(id));
      if (entry !== undefined) return JSON.parse(entry.value) as CertificateAnswer;
    }
  } finally {
    await registry.revokeLease(lease).catch(() => {});
  }
  throw new Fault(
    'unavailable',
    'no machine that has the key of the CA has answered; start one ("postern cluster machines" names them) and try again',
  );
}

function firstPem(chain: string): string {
  return /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----\n?/.exec(chain)?.[0] ?? chain;
}
