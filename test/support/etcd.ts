/** A real etcd on loopback, alone or as three members, with its data in a directory of its own. */
import { run } from '../clients/mail-readers.ts';
import {
  freePorts,
  programPath,
  type RunningProgram,
  startProgram,
  temporaryDir,
  waitFor,
} from './process.ts';

export interface EtcdMember {
  readonly clientUrl: string;
  readonly program: RunningProgram;
}

export interface Etcd {
  readonly members: readonly EtcdMember[];
  readonly hosts: readonly string[];
  /** `etcdctl WORDS` against the first member. */
  ctl(words: readonly string[]): Promise<string>;
  stop(): Promise<void>;
}

/** @param memberCount  1, or 3 for a cluster that survives the loss of one. */
export async function startEtcd(memberCount: 1 | 3 = 1): Promise<Etcd> {
  const dir = await temporaryDir('etcd');
  const ports = await freePorts(memberCount * 2);
  const at = (index: number): string => `http://127.0.0.1:${ports[index]}`;
  const names = Array.from({ length: memberCount }, (_, index) => `m${index}`);
  const peers = names.map((name, index) => `${name}=${at(memberCount + index)}`).join(',');
  const members = names.map((name, index): EtcdMember => {
    const program = startProgram(programPath('etcd'), [
      '--name',
      name,
      '--data-dir',
      `${dir.path}/${name}`,
      '--listen-client-urls',
      at(index),
      '--advertise-client-urls',
      at(index),
      '--listen-peer-urls',
      at(memberCount + index),
      '--initial-advertise-peer-urls',
      at(memberCount + index),
      '--initial-cluster',
      peers,
      '--unsafe-no-fsync',
      '--log-level',
      'warn',
    ]);
    return { clientUrl: at(index), program };
  });
  const ctl = async (words: readonly string[]): Promise<string> => {
    const done = await run(programPath('etcdctl'), ['--endpoints', at(0), ...words], {
      env: { ETCDCTL_API: '3' },
    });
    return done.stdout.toString();
  };
  await waitFor('etcd', async () => (await ctl(['endpoint', 'health'])) !== undefined);
  return {
    members,
    hosts: members.map((member) => member.clientUrl),
    ctl,
    async stop() {
      await Promise.all(members.map((member) => member.program.kill('SIGKILL')));
      await dir.remove();
    },
  };
}
