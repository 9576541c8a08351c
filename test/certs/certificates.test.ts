/** The CA and its leaves as others judge them: Node's X509, the openssl program, and TLS handshakes. */
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { openAuthority } from '../../certs/authority.ts';
import { certFilesOf } from '../../certs/files.ts';
import { edgeLeaf, ensureLeaf, memberHost, memberLeaf, subjectAltNames } from '../../certs/leaf.ts';

const dayMs = 86_400_000;
const clusterId = '7d0f8f9e-0000-4000-8000-000000000001';
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'postern-certs-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function makeAll(nowMs = Date.now(), hostname = 'mx1.example.org') {
  const files = certFilesOf(path.join(directory, 'certs'));
  const authority = await openAuthority(files, clusterId, nowMs);
  const edge = edgeLeaf(files, hostname);
  const member = memberLeaf(files, 'backend-1', clusterId);
  const made = [
    await ensureLeaf(edge, authority, clusterId, nowMs),
    await ensureLeaf(member, authority, clusterId, nowMs),
  ];
  return { files, authority, edge, member, made };
}

describe('the cluster CA', () => {
  test('is a P-256 CA for ten years that signs leaves only, with its key readable by us alone', async () => {
    const { files, authority } = await makeAll();
    const { certificate } = authority;
    expect(certificate.ca).toBe(true);
    expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.checkIssued(certificate)).toBe(true);
    const years = (Date.parse(certificate.validTo) - Date.now()) / (365.25 * dayMs);
    expect(years).toBeGreaterThan(9.9);
    expect(Date.parse(certificate.validFrom)).toBeLessThan(Date.now() - dayMs / 2);
    expect((await stat(files.authorityKey)).mode & 0o777).toBe(0o600);
    expect((await stat(path.dirname(files.authority))).mode & 0o777).toBe(0o700);
    const text = execFileSync('openssl', ['x509', '-in', files.authority, '-noout', '-text'], {
      encoding: 'utf8',
    });
    expect(text).toMatch(/Basic Constraints: critical\s+CA:TRUE, pathlen:0/);
    expect(text).toMatch(/Key Usage: critical\s+Certificate Sign, CRL Sign/);
    expect(text).toMatch(/Signature Algorithm: ecdsa-with-SHA256/);
    const left = (await readdir(path.dirname(files.authority))).filter((name) => name.endsWith('.tmp'));
    expect(left).toEqual([]);
  });

  test('stays the same when opened again, and is signed anew with the same key when it runs out soon', async () => {
    const nowMs = Date.now();
    const first = await makeAll(nowMs);
    expect((await makeAll(nowMs)).authority.pem).toBe(first.authority.pem);
    const laterMs = nowMs + 3630 * dayMs;
    const later = await makeAll(laterMs);
    expect(later.authority.pem).not.toBe(first.authority.pem);
    expect(Date.parse(later.authority.certificate.validTo)).toBeGreaterThan(laterMs + 3600 * dayMs);
    // A leaf signed under the old certificate is still good under the new one.
    const oldLeaf = new X509Certificate(await readFile(first.edge.certificate));
    expect(oldLeaf.verify(later.authority.certificate.publicKey)).toBe(true);
  });

  const damages = [
    {
      name: 'the key is gone',
      harm: (f: Files) => rm(f.authorityKey),
      line: /ca\.key: .* missing; restore it/,
    },
    {
      name: 'the key is no key',
      harm: (f: Files) => writeFile(f.authorityKey, 'x'),
      line: /ca\.key: .*restore/,
    },
    {
      name: 'the certificate is none',
      harm: (f: Files) => writeFile(f.authority, 'x'),
      line: /ca\.pem: .*restore/,
    },
    {
      name: 'the key is another one',
      harm: async (f: Files) => writeFile(f.authorityKey, await readFile(f.edgeKey)),
      line: /ca\.key: this key does not belong to .*ca\.pem/,
    },
  ];
  type Files = ReturnType<typeof certFilesOf>;
  test.each(damages)('refuses with the file and the remedy when $name', async ({ harm, line }) => {
    const { files } = await makeAll();
    await harm(files);
    const error = await openAuthority(files, clusterId, Date.now()).then(
      () => undefined,
      (reason: Error) => reason,
    );
    expect(error?.message).toMatch(line);
    expect(error?.message).not.toContain('\n');
  });

  test('is finished when only its key was written before the power went', async () => {
    const { files } = await makeAll();
    const key = await readFile(files.authorityKey, 'utf8');
    await rm(files.authority);
    const again = await openAuthority(files, clusterId, Date.now());
    expect(await readFile(files.authorityKey, 'utf8')).toBe(key);
    expect(again.certificate.checkPrivateKey(again.key)).toBe(true);
  });
});

describe('leaf certificates', () => {
  test('are accepted by openssl for what they are for, and by nothing else', async () => {
    const { files, authority, edge, member, made } = await makeAll();
    expect(made).toEqual(['made', 'made']);
    const verify = (purpose: string, file: string) =>
      execFileSync(
        'openssl',
        ['verify', '-x509_strict', '-purpose', purpose, '-CAfile', files.authority, file],
        {
          encoding: 'utf8',
          stdio: 'pipe',
        },
      );
    expect(verify('sslserver', edge.certificate)).toMatch(/: OK/);
    expect(verify('sslserver', member.certificate)).toMatch(/: OK/);
    expect(verify('sslclient', member.certificate)).toMatch(/: OK/);
    expect(() => verify('sslclient', edge.certificate)).toThrow();
    const leaf = new X509Certificate(await readFile(edge.certificate));
    expect(leaf.checkIssued(authority.certificate)).toBe(true);
    expect(leaf.verify(authority.certificate.publicKey)).toBe(true);
    expect(leaf.ca).toBe(false);
    for (const host of ['mx1.example.org', 'localhost', 'imap.postern.test', 'postern.test'])
      expect(leaf.checkHost(host)).toBeDefined();
    expect(leaf.checkHost('example.org')).toBeUndefined();
    expect(leaf.checkIP('127.0.0.1')).toBeDefined();
    expect(leaf.checkIP('::1')).toBeDefined();
    expect((await stat(edge.key)).mode & 0o777).toBe(0o600);
    expect(subjectAltNames(leaf)).toEqual(new Set(edge.names));
  });

  test('are kept while they are good, and made anew for another name, another CA, soon before the end, or when damaged', async () => {
    const nowMs = Date.now();
    const { files, authority, edge } = await makeAll(nowMs);
    const check = (request = edge, atMs = nowMs) => ensureLeaf(request, authority, clusterId, atMs);
    expect(await check()).toBe('kept');
    expect(await check(edge, nowMs + 300 * dayMs)).toBe('kept');
    expect(await check(edge, nowMs + 340 * dayMs)).toBe('made');
    expect(await check(edgeLeaf(files, 'mx2.example.org'))).toBe('made');
    await writeFile(edge.certificate, 'no certificate');
    expect(await check()).toBe('made');
    await rm(edge.key);
    expect(await check()).toBe('made');
    const other = await openAuthority(certFilesOf(path.join(directory, 'other')), clusterId, nowMs);
    expect(await ensureLeaf(edge, other, clusterId, nowMs)).toBe('made');
  });

  test('carry mutual TLS between members, and a stranger is turned away', async () => {
    const { authority, member, files } = await makeAll();
    const pair = { cert: await readFile(member.certificate), key: await readFile(member.key) };
    const server = createServer(
      { ...pair, ca: authority.pem, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' },
      (socket: TLSSocket) => {
        socket.on('error', () => {});
        socket.end(socket.getPeerX509Certificate()?.subject ?? '');
      },
    );
    server.on('tlsClientError', () => {});
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const port = (server.address() as AddressInfo).port;
    /** What the server says, or how the connection ended. */
    const talk = (options: object): Promise<string> =>
      new Promise((resolve) => {
        const socket = connect({ port, host: '127.0.0.1', ca: authority.pem, ...options });
        const end = (word: string): void => {
          socket.destroy();
          resolve(word);
        };
        socket.on('data', (data) => end(data.toString()));
        socket.on('error', (error) => end(`error ${error.message}`));
        socket.on('close', () => end('closed'));
      });
    try {
      const servername = memberHost('backend-1', clusterId);
      expect(await talk({ ...pair, servername })).toContain(servername);
      expect(await talk({ ...pair, servername: memberHost('backend-2', clusterId) })).toMatch(
        /error .*altnames/,
      );

      const otherFiles = certFilesOf(path.join(directory, 'stranger'));
      const stranger = await openAuthority(otherFiles, 'other', Date.now());
      const theirs = memberLeaf(otherFiles, 'backend-1', clusterId);
      await ensureLeaf(theirs, stranger, 'other', Date.now());
      const foreign = {
        cert: await readFile(theirs.certificate),
        key: await readFile(theirs.key),
        servername,
      };
      expect(await talk(foreign)).toMatch(/^error|^closed/);

      // The certificate for clients is no ticket to the links either.
      const edge = { cert: await readFile(files.edge), key: await readFile(files.edgeKey), servername };
      expect(await talk(edge)).toMatch(/^error|^closed/);
    } finally {
      server.close();
    }
  });
});
