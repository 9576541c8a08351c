/** A certificate that is another one on disk: the good are taken, the bad are named and leave the old one in use. */
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { openLog } from '../../../base/log.ts';
import { type Authority, openAuthority } from '../../../certs/authority.ts';
import { certFilesOf } from '../../../certs/files.ts';
import { edgeLeaf, makeLeaf } from '../../../certs/leaf.ts';
import { Deadlines } from '../../../gateway/net/deadline.ts';
import { openTlsContexts, type TlsContexts, watchCertificate } from '../../../gateway/net/tls-contexts.ts';
import { waitFor } from '../../support/process.ts';

const dayMs = 86_400_000;
let directory = '';
let authority: Authority;
let contexts: TlsContexts;
const deadlines = new Deadlines(20);
const at = (name: string): string => path.join(directory, name);

const renew = (nowMs = Date.now()): Promise<void> =>
  makeLeaf({ ...edgeLeaf(certFilesOf(directory), 'localhost'), lifeMs: 5 * dayMs }, authority, 'test', nowMs);

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'postern-reload-'));
  authority = await openAuthority(certFilesOf(directory), 'test', Date.now() - 100 * dayMs);
});
beforeEach(async () => {
  await renew();
  contexts = await openTlsContexts({
    ...{ certificate: at('edge.pem'), key: at('edge.key'), place: 'postern.toml:3 tls.certificate' },
    ...{ minimum: 'TLSv1.2', handshakeMs: 400, deadlines },
  });
});
afterAll(async () => {
  deadlines.close();
  await rm(directory, { recursive: true, force: true });
});

const mistakes = [
  {
    name: 'has expired',
    spoil: () => renew(Date.now() - 50 * dayMs),
    says: /edge\.pem has expired \(.*\); renew it/,
  },
  { name: 'is not there', spoil: () => rm(at('edge.pem')), says: /edge\.pem is not there/ },
  { name: 'has no key', spoil: () => rm(at('edge.key')), says: /edge\.key is not there/ },
  {
    name: 'has the key of another',
    spoil: () => copyFile(at('ca.key'), at('edge.key')),
    says: /edge\.key is not the key of .*edge\.pem/,
  },
  {
    name: 'is cut off',
    spoil: async () => writeFile(at('edge.pem'), (await readFile(at('edge.pem'))).subarray(0, 300)),
    says: /edge\.pem holds no certificate/,
  },
];

describe('a certificate on disk', () => {
  test('that is another one is used from then on; the same one changes nothing', async () => {
    const before = contexts.contextFor();
    expect(await contexts.reload()).toBe(false);
    expect(contexts.contextFor()).toBe(before);
    await renew();
    expect(await contexts.reload()).toBe(true);
    expect(contexts.contextFor()).not.toBe(before);
  });

  test.each(mistakes)('that $name is refused, points, and leaves the old one', async ({ spoil, says }) => {
    const before = contexts.contextFor();
    await spoil();
    const error = await contexts.reload().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'bad-config', message: expect.stringMatching(says) });
    expect((error as Error).message).toMatch(/^postern\.toml:3 tls\.certificate: /);
    expect(contexts.contextFor()).toBe(before);
    await renew();
    expect(await contexts.reload()).toBe(true);
  });

  test('is looked at now and then; what stays bad is said once', async () => {
    const file = at('watch.log');
    const watching = watchCertificate(contexts, openLog({ member: 'test', file }), 10);
    const records = async (msg: string): Promise<number> =>
      (await readFile(file, 'utf8').catch(() => '')).split('\n').filter((line) => line.includes(msg)).length;
    const before = contexts.contextFor();
    await renew();
    await waitFor('the new one', () => contexts.contextFor() !== before);
    await waitFor('a record', async () => (await records('certificate renewed')) > 0);
    await rm(at('edge.key'));
    await waitFor('a word about it', async () => (await records('edge.key is not there')) > 0);
    const shown = contexts.contextFor();
    await renew();
    await waitFor('the one after', () => contexts.contextFor() !== shown);
    watching.close();
    expect(await records('edge.key is not there')).toBe(1);
  });
});
