/**
 * A certificate with its key, as PEM: read from files, checked to belong together,
 * and asked for which names it may be shown.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { errnoOf, Fault } from '../../base/fault.ts';

export interface CertificatePair {
  readonly cert: string;
  readonly key: string;
}

export interface PairFiles {
  readonly certificate: string;
  readonly key: string;
  /** What an error names: `postern.toml:3 tls.certificate`, or the file's own name. */
  readonly place: string;
}

/** Pairs in a directory that are looked at. */
const pairsMax = 10_000;
const readAtOnce = 16;

/** @throws {Fault} `bad-config`: a file that cannot be read, is no PEM, or two that do not belong together. */
export async function readPair(files: PairFiles): Promise<CertificatePair> {
  const [cert, key] = await Promise.all([readPem(files.certificate, files), readPem(files.key, files)]);
  checkPair(cert, key, files);
  return { cert, key };
}

/**
 * Pairs of a directory: `NAME.pem` or `NAME.crt` with `NAME.key`, or subdirectories with `fullchain.pem` and
 * `privkey.pem`, as ACME clients leave them.
 * @throws {Fault} `bad-config`
 */
export async function pairsIn(directory: string, place: string): Promise<readonly CertificatePair[]> {
  const found: PairFiles[] = [];
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    const names = new Set(entries.map(({ name }) => name));
    for (const entry of entries) {
      const at = (name: string): string => path.join(directory, name);
      const base = /^(.+)\.(?:pem|crt)$/.exec(entry.name)?.[1];
      if (base !== undefined && names.has(`${base}.key`)) {
        found.push({ certificate: at(entry.name), key: at(`${base}.key`), place });
      } else if (entry.isDirectory() || entry.isSymbolicLink()) {
        const inside = new Set(await readdir(at(entry.name)).catch(() => []));
        if (!inside.has('fullchain.pem') || !inside.has('privkey.pem')) continue;
        const own = at(entry.name);
        found.push({
          certificate: path.join(own, 'fullchain.pem'),
          key: path.join(own, 'privkey.pem'),
          place,
        });
      }
    }
  } catch (cause) {
    const reason = errnoOf(cause) === 'ENOENT' ? 'is not there' : 'cannot be read';
    throw new Fault('bad-config', `${place}: ${directory} ${reason}; name a directory of certificates`, {
      cause,
    });
  }
  if (found.length > pairsMax)
    throw new Fault('bad-config', `${place}: ${directory} holds more than ${pairsMax} certificates`);
  const pairs: CertificatePair[] = [];
  for (let at = 0; at < found.length; at += readAtOnce)
    pairs.push(...(await Promise.all(found.slice(at, at + readAtOnce).map(readPair))));
  return pairs;
}

/** DNS names a certificate is for, lower case; `*.example.org` for wildcards (RFC 6125 6.4.3). */
export function namesOf(cert: string): readonly string[] {
  const { subjectAltName = '', subject } = new X509Certificate(cert);
  const names = [...subjectAltName.matchAll(/DNS:([^,\s"]+)/g)].map(([, name = '']) => name.toLowerCase());
  const common = /(?:^|\n)CN=([^\n]+)/.exec(subject ?? '')?.[1]?.toLowerCase();
  return names.length > 0 || common === undefined ? names : [common];
}

async function readPem(file: string, { place }: PairFiles): Promise<string> {
  try {
    return await readFile(path.resolve(file), 'utf8');
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'is not there' : 'cannot be read';
    throw new Fault('bad-config', `${place}: ${file} ${reason}; name a PEM file this program may read`, {
      cause,
    });
  }
}

function checkPair(cert: string, key: string, { certificate, key: keyFile, place }: PairFiles): void {
  const read = <T>(file: string, what: string, parse: () => T): T => {
    try {
      return parse();
    } catch (cause) {
      throw new Fault('bad-config', `${place}: ${file} holds no ${what} in PEM form`, { cause });
    }
  };
  const leaf = read(certificate, 'certificate', () => new X509Certificate(cert));
  const privateKey = read(keyFile, 'private key', () => createPrivateKey(key));
  if (!leaf.checkPrivateKey(privateKey))
    throw new Fault(
      'bad-config',
      `${place}: ${keyFile} is not the key of ${certificate}; name the one it was made with`,
    );
}
