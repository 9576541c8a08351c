/** Pebble, the ACME test authority, on loopback: names are looked up at a name server of the test's own. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { openAuthority } from '../../certs/authority.ts';
import { certFilesOf } from '../../certs/files.ts';
import { edgeLeaf, ensureLeaf } from '../../certs/leaf.ts';
import { freePorts, programPath, startProgram, temporaryDir, waitFor } from './process.ts';

export interface Pebble {
  readonly directoryUrl: string;
  /** PEM file of the CA its own certificate is from. */
  readonly caFile: string;
  stop(): Promise<void>;
}

/** @param options.httpPort  Where it asks for challenges. @param options.lifeSeconds  Of what it issues. */
export async function startPebble(options: {
  dns: string;
  httpPort: number;
  lifeSeconds?: number;
}): Promise<Pebble> {
  const dir = await temporaryDir('pebble');
  const files = certFilesOf(dir.path);
  const authority = await openAuthority(files, 'test', Date.now());
  await ensureLeaf(edgeLeaf(files, 'localhost'), authority, 'test', Date.now());
  const [port, managementPort] = await freePorts(2);
  const config = path.join(dir.path, 'pebble.json');
  await writeFile(
    config,
    JSON.stringify({
      pebble: {
        listenAddress: `127.0.0.1:${port}`,
        managementListenAddress: `127.0.0.1:${managementPort}`,
        certificate: files.edge,
        privateKey: files.edgeKey,
        httpPort: options.httpPort,
        tlsPort: 1,
        ocspResponderURL: '',
        externalAccountBindingRequired: false,
        certificateValidityPeriod: options.lifeSeconds ?? 90 * 86_400,
      },
    }),
  );
  const program = startProgram(programPath('pebble'), ['-config', config, '-dnsserver', options.dns], {
    env: { ...process.env, PEBBLE_VA_NOSLEEP: '1', PEBBLE_WFE_NONCEREJECT: '0' },
  });
  const stop = async (): Promise<void> => {
    await program.stop();
    await dir.remove();
  };
  try {
    await waitFor('pebble', () => program.output().includes('Listening on'), 30_000);
  } catch (error) {
    const output = program.output();
    await stop();
    throw new Error(`${(error as Error).message}\n${output}`);
  }
  return { directoryUrl: `https://localhost:${port}/dir`, caFile: files.authority, stop };
}
