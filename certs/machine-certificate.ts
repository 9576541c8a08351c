/**
 * The certificate the members of a machine show on links, as a running member
 * uses it: read again when the supervisor has renewed it, so that no renewal
 * needs a restart.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Fault } from '../base/fault.ts';
import type { Log } from '../base/log.ts';
import type { CertFiles } from './files.ts';

const lookEveryMs = 5000;

export interface LinkPair {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export class MachineCertificate {
  readonly #files: CertFiles;
  readonly #log: Log;
  readonly #timer: NodeJS.Timeout;
  readonly #listeners = new Set<(pair: LinkPair) => void>();
  #pair: LinkPair;

  private constructor(files: CertFiles, log: Log, pair: LinkPair) {
    this.#files = files;
    this.#log = log;
    this.#pair = pair;
    this.#timer = setInterval(() => void this.#look(), lookEveryMs).unref();
  }

  /** @throws {Fault} `bad-config`: a file is missing or the pair does not fit. */
  static async open(files: CertFiles, log: Log): Promise<MachineCertificate> {
    try {
      return new MachineCertificate(files, log, await read(files));
    } catch (error) {
      throw new Fault(
        'bad-config',
        `${files.machine}: no good certificate of this machine (${Fault.from(error).message}); restore it, or have the machine join again`,
        { cause: error },
      );
    }
  }

  get pair(): LinkPair {
    return this.#pair;
  }

  /** Called with every new pair. */
  onChange(listener: (pair: LinkPair) => void): void {
    this.#listeners.add(listener);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #look(): Promise<void> {
    try {
      const pair = await read(this.#files);
      if (pair.cert === this.#pair.cert && pair.ca === this.#pair.ca) return;
      this.#pair = pair;
      this.#log.info({ until: new X509Certificate(pair.cert).validTo }, 'new machine certificate');
      for (const listener of this.#listeners) listener(pair);
    } catch (error) {
      // In the middle of a renewal the pair is not whole; the next look finds it.
      this.#log.debug({ error: Fault.from(error).message }, 'machine certificate cannot be read');
    }
  }
}

async function read(files: CertFiles): Promise<LinkPair> {
  const [ca, cert, key] = await Promise.all(
    [files.authority, files.machine, files.machineKey].map((file) => readFile(file, 'utf8')),
  );
  if (!new X509Certificate(cert!).checkPrivateKey(createPrivateKey(key!)))
    throw new Error('its key is another one');
  return { ca: ca!, cert: cert!, key: key! };
}
