/** Machines get certificates with a one-time token or with the certificate they have, and in no other way. */
import { createPrivateKey, generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { silentLog } from '../../base/log.ts';
import { type Authority, newKey, openAuthority } from '../../certs/authority.ts';
import { type CertFiles, certFilesOf } from '../../certs/files.ts';
import { hasGoodLeaf, machineHost, machineLeaf, machineUrn, subjectAltNames } from '../../certs/leaf.ts';
import {
  type CertificateAnswer,
  encodeKey,
  type JoinToken,
  newToken,
  pinOf,
  type RequestBody,
  readToken,
  signRequest,
} from '../../certs/request.ts';
import { type MachineIdentity, readMachineRecord } from '../../cluster-protocol/machines.ts';
import {
  type EmbeddedRegistry,
  openEmbeddedRegistry,
} from '../../cluster-protocol/registry/embedded-server.ts';
import { type Registry, registryKey } from '../../cluster-protocol/registry.ts';
import { CertificateDesk } from '../../command/certificate-desk.ts';
import { askForCertificates } from '../../command/certificate-request.ts';
import { waitFor } from '../support/process.ts';

const cluster = '7d0f8f9e-0000-4000-8000-000000000001';
const hourMs = 3_600_000;
let dir: string;
let server: EmbeddedRegistry;
let registry: Registry;
let authority: Authority;
let nowMs: number;
let end: AbortController;

beforeEach(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'desk-'));
  server = await openEmbeddedRegistry(path.join(dir, 'r.sqlite'), path.join(dir, 'r.sock'));
  registry = server.registry;
  nowMs = Date.now();
  authority = await openAuthority(certFilesOf(path.join(dir, 'certs')), cluster, nowMs);
  end = new AbortController();
  // Two machines that sign: one answer.
  for (let count = 0; count < 2; count++)
    new CertificateDesk(
      { registry, authority, cluster, lifeMs: 24 * hourMs, log: silentLog, nowMs: () => nowMs },
      end.signal,
    );
});
afterEach(async () => {
  end.abort();
  await server.close();
  await rm(dir, { recursive: true });
});

const newId = (): string => randomBytes(16).toString('hex');
const machine = (name: string): MachineIdentity => ({ cluster, machine: name, id: newId() });

async function token(signer = authority, lifeMs = hourMs): Promise<JoinToken> {
  const made = newToken(cluster, signer, nowMs + lifeMs);
  await registry.transact([], [{ put: registryKey.joinToken(made.id), value: JSON.stringify(made.record) }]);
  return readToken(made.token);
}

async function filesFor(name: string): Promise<CertFiles> {
  const directory = path.join(dir, name);
  await mkdir(directory, { recursive: true });
  return certFilesOf(directory);
}

async function join(identity: MachineIdentity, joining: JoinToken): Promise<CertFiles> {
  const files = await filesFor(identity.machine);
  const hostname = `${identity.machine}.example.org`;
  await askForCertificates({ registry, files, identity, hostname, pin: joining.pin, token: joining });
  return files;
}

/** What the desk says to a request as it stands. */
async function answerTo(request: string): Promise<CertificateAnswer> {
  const id = newId();
  await registry.transact([], [{ put: registryKey.certificateRequest(id), value: request }]);
  const entry = await waitFor('an answer', () => registry.get(registryKey.certificateAnswer(id)));
  return JSON.parse(entry.value) as CertificateAnswer;
}

describe('a machine that joins', () => {
  test('gets certificates for its own keys, of the CA the token pins, and is in', async () => {
    const identity = machine('m2');
    const files = await join(identity, await token());
    const own = machineLeaf(files, cluster, 'm2', identity.id, 24 * hourMs);
    expect(await hasGoodLeaf(own, authority, nowMs)).toBe(true);
    const edge = new X509Certificate(await readFile(files.edge));
    expect(edge.checkPrivateKey(createPrivateKey(await readFile(files.edgeKey)))).toBe(true);
    expect([...subjectAltNames(edge)]).toContain('m2.example.org');
    expect(pinOf(new X509Certificate(await readFile(files.authority)))).toBe(pinOf(authority.certificate));
    const entry = await registry.get(registryKey.machine('m2'));
    expect(readMachineRecord(entry!.value)).toMatchObject({ name: 'm2', id: identity.id, signer: false });
  });

  test('with a token that was used is refused', async () => {
    const once = await token();
    await join(machine('m2'), once);
    await expect(join(machine('m3'), once)).rejects.toMatchObject({
      code: 'not-allowed',
      message: expect.stringMatching(/used/),
    });
    expect(await registry.get(registryKey.machine('m3'))).toBeUndefined();
  });

  test('of two with the same token at once exactly one gets in', async () => {
    const once = await token();
    const tries = await Promise.allSettled([join(machine('m2'), once), join(machine('m3'), once)]);
    expect(tries.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  test('with an expired token is refused', async () => {
    const late = await token();
    nowMs += 2 * hourMs;
    await expect(join(machine('m2'), late)).rejects.toMatchObject({ code: 'not-allowed' });
  });

  test('with a token that somebody else than the CA has made is refused', async () => {
    const other = await openAuthority(certFilesOf(path.join(dir, 'other')), cluster, nowMs);
    await expect(join(machine('m2'), await token(other))).rejects.toMatchObject({ code: 'not-allowed' });
  });

  test('under a name that is taken is refused, and the token is good still', async () => {
    await join(machine('m2'), await token());
    const joining = await token();
    await expect(join(machine('m2'), joining)).rejects.toMatchObject({
      message: expect.stringMatching(/there is a machine m2 already/),
    });
    await join(machine('m3'), joining);
  });

  test('does not take certificates of another CA than the one the token pins', async () => {
    const joining = { ...(await token()), pin: '0'.repeat(64) };
    await expect(join(machine('m2'), joining)).rejects.toMatchObject({ code: 'peer-protocol' });
  });
});

describe('a request', () => {
  const body = (changes: Partial<RequestBody> = {}): RequestBody => ({
    cluster,
    machine: 'm2',
    machineId: newId(),
    machineKey: '',
    edgeKey: encodeKey(newKey().publicKey),
    edgeNames: ['m2.example.org'],
    ...changes,
  });

  test('that is no request is refused', async () => {
    for (const raw of ['', '{}', 'x'.repeat(40_000), JSON.stringify({ text: '{}' })])
      expect(await answerTo(raw)).toEqual({ refused: expect.stringMatching(/malformed/) });
  });

  test('for a key the asker does not have is refused', async () => {
    const joining = await token();
    const theirs = newKey();
    const asked = body({ machineKey: encodeKey(theirs.publicKey), token: joining.id });
    expect(await answerTo(signRequest(asked, newKey().privateKey, joining.key))).toEqual({
      refused: expect.stringMatching(/malformed/),
    });
  });

  test('with the name of a token, but not signed with its key, is refused', async () => {
    const joining = await token();
    const own = newKey();
    const asked = body({ machineKey: encodeKey(own.publicKey), token: joining.id });
    const forged = signRequest(asked, own.privateKey, generateKeyPairSync('ed25519').privateKey);
    expect(await answerTo(forged)).toEqual({ refused: expect.stringMatching(/token/) });
  });

  test('of another cluster, or with names that are none, is refused', async () => {
    const joining = await token();
    const own = newKey();
    const machineKey = encodeKey(own.publicKey);
    for (const changes of [
      { cluster: 'c2' },
      { machine: '../m2' },
      { edgeNames: ['a b'] },
      // What only another machine's own certificate may say.
      { edgeNames: [machineHost('m1', cluster)] },
      { edgeNames: [machineUrn(cluster, 'm1', newId())] },
    ]) {
      const asked = body({ machineKey, token: joining.id, ...changes });
      expect(await answerTo(signRequest(asked, own.privateKey, joining.key))).toHaveProperty('refused');
    }
  });
});

describe('a machine that renews', () => {
  async function renew(identity: MachineIdentity, files: CertFiles): Promise<void> {
    const pin = pinOf(authority.certificate);
    await askForCertificates({ registry, files, identity, hostname: 'm2.example.org', pin });
  }

  test('gets new keys and certificates with the ones it has', async () => {
    const identity = machine('m2');
    const files = await join(identity, await token());
    const before = await readFile(files.machine, 'utf8');
    nowMs += 20 * hourMs;
    const own = machineLeaf(files, cluster, 'm2', identity.id, 24 * hourMs);
    expect(await hasGoodLeaf(own, authority, nowMs)).toBe(false);
    await renew(identity, files);
    expect(await readFile(files.machine, 'utf8')).not.toBe(before);
    expect(await hasGoodLeaf(own, authority, nowMs)).toBe(true);
  });

  test('after it has left is refused', async () => {
    const identity = machine('m2');
    const files = await join(identity, await token());
    await registry.transact([], [{ remove: registryKey.machine('m2') }]);
    await expect(renew(identity, files)).rejects.toMatchObject({ code: 'not-allowed' });
  });

  test('for another machine than its own is refused', async () => {
    const files = await join(machine('m2'), await token());
    const other = machine('m3');
    await join(other, await token());
    await expect(renew(other, files)).rejects.toMatchObject({ code: 'not-allowed' });
  });

  test('with a certificate that has run out is refused', async () => {
    const identity = machine('m2');
    const files = await join(identity, await token());
    nowMs += 25 * hourMs;
    await expect(renew(identity, files)).rejects.toMatchObject({ code: 'not-allowed' });
  });
});
