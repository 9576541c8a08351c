import { type ChildProcess, fork } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { layoutOf } from '../../../base/layout.ts';
import type { MemberWord } from '../../../base/member.ts';
import { openAuthority } from '../../../certs/authority.ts';
import { certFilesOf } from '../../../certs/files.ts';
import { edgeLeaf, ensureLeaf } from '../../../certs/leaf.ts';
import { type MemberRecord, versionsSpoken } from '../../../cluster-protocol/link.ts';
import {
  type EmbeddedRegistry,
  openEmbeddedRegistry,
} from '../../../cluster-protocol/registry/embedded-server.ts';
import { registryKey } from '../../../cluster-protocol/registry.ts';
import { emptyShardMap, encodeShardMap } from '../../../cluster-protocol/shard-map.ts';
import { FakeBackend } from '../routing/cluster-rig.ts';

const entry = path.resolve(import.meta.dirname, '../../../gateway/gateway.ts');
let data = '';
let registry: EmbeddedRegistry;
let backend: FakeBackend;
const children: ChildProcess[] = [];

beforeEach(async () => {
  data = await mkdtemp(path.join(tmpdir(), 'postern-gw-'));
  const layout = layoutOf(data);
  for (const directory of [layout.run, layout.log, layout.certs]) await mkdir(directory, { recursive: true });
  const files = certFilesOf(layout.certs);
  const authority = await openAuthority(files, 'test', Date.now());
  await ensureLeaf(edgeLeaf(files, 'localhost'), authority, 'test', Date.now());
  registry = await openEmbeddedRegistry(layout.registryFile, layout.registrySocket);
  backend = new FakeBackend('backend-1', layout.linkSocket('backend-1'), (stream) => {
    stream.respond({ ':status': 200 });
    stream.end();
  });
  await backend.listen();
  const map = emptyShardMap(16, 2);
  map.owners.fill(1);
  map.epochs.fill(1);
  const { id, incarnation } = backend.record;
  await registry.registry.transact(
    [],
    [
      { put: registryKey.member(id), value: JSON.stringify(backend.record) },
      { put: registryKey.shardMap, value: encodeShardMap({ ...map, holders: [{ id, incarnation }] }) },
    ],
  );
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await backend.die();
  await registry.close();
  await rm(data, { recursive: true, force: true });
});

const listening = (imap = '127.0.0.1:0'): string => `
[listen]
smtp = ["127.0.0.1:0"]
submission = []
submissions = []
imap = ["${imap}"]
imaps = []
pop3 = []
pop3s = []
https = []
health = ["127.0.0.1:0"]
`;

/** Starts a gateway as the supervisor does, and waits for its first word. */
async function start(
  config: string,
): Promise<{ child: ChildProcess; word: MemberWord; exit: Promise<number | null> }> {
  const file = path.join(data, 'postern.toml');
  await writeFile(file, config);
  const child = fork(entry, ['--id', 'gateway-1', '--data', data, '--config', file, '--number', '1'], {
    execArgv: ['--disable-warning=ExperimentalWarning'],
    env: { ...process.env, NODE_OPTIONS: '' },
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  children.push(child);
  const exit = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const word = await new Promise<MemberWord>((resolve, reject) => {
    child.on('message', (message: MemberWord) => {
      if (message.word !== 'listening') resolve(message);
    });
    void exit.then((code) => reject(new Error(`exit ${code} without a word`)));
  });
  return { child, word, exit };
}

/** The first line of the port, and everything until it closes. */
async function connect(address: string): Promise<{ greeting: string; rest: Promise<string> }> {
  const socket = net.connect(Number(address.split(':').at(-1)), '127.0.0.1');
  socket.on('error', () => {});
  let got = '';
  const greeted = new Promise<void>((resolve) => {
    socket.on('data', (chunk) => {
      got += chunk;
      resolve();
    });
  });
  const rest = new Promise<string>((resolve) => socket.on('close', () => resolve(got)));
  await greeted;
  return { greeting: got, rest };
}

describe('a gateway process', () => {
  test('says ready with real addresses, registers, answers for its health, and drains with a word to its clients', async () => {
    const { child, word, exit } = await start(listening());
    if (word.word !== 'ready') throw new Error(JSON.stringify(word));
    expect(Object.keys(word.addresses).sort()).toEqual(['health', 'imap', 'smtp']);
    const health = await fetch(`http://${word.addresses.health![0]}/healthz`);
    expect([health.status, await health.json()]).toMatchObject([200, { ok: true, backends: ['backend-1'] }]);
    const record = await registry.registry.get(registryKey.member('gateway-1'));
    expect(JSON.parse(record!.value) as MemberRecord).toMatchObject({
      role: 'gateway',
      versions: versionsSpoken,
    });
    const client = await connect(word.addresses.imap![0]!);
    expect(client.greeting).toMatch(/^\* OK \[CAPABILITY IMAP4rev1/);
    const startedMs = performance.now();
    child.kill('SIGTERM');
    expect(await client.rest).toMatch(/\* BYE \[UNAVAILABLE\] .*\r\n$/);
    expect(await exit).toBe(0);
    expect(performance.now() - startedMs).toBeLessThan(4000);
    expect(await registry.registry.get(registryKey.member('gateway-1'))).toBeUndefined();
  });

  test('ends by itself when its supervisor goes', async () => {
    const { child, exit } = await start(listening());
    child.disconnect();
    expect(await exit).toBe(0);
  });

  test('a taken port is one line with a remedy, and exit 78', async () => {
    const taken = net.createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as net.AddressInfo;
    const { word, exit } = await start(listening(`127.0.0.1:${port}`));
    expect(word).toEqual({
      word: 'cannot-start',
      line: `listen.imap: 127.0.0.1:${port} is in use by another program; stop it, or set another address`,
    });
    expect(await exit).toBe(78);
    taken.close();
  });

  const mistakes = [
    { name: 'a setting that is none', config: 'listen = 5\nhostname = "a b"\n', line: /postern\.toml/ },
    {
      name: 'a certificate without key',
      config: `${listening()}\n[tls]\ncertificate = "x.pem"\n`,
      line: /tls\.certificate and tls\.key go together/,
    },
    {
      name: 'a certificate that is not there',
      config: `${listening()}\n[tls]\ncertificate = "x.pem"\nkey = "x.key"\n`,
      line: /tls\.certificate: .*x\.(pem|key) is not there/,
    },
    {
      name: 'a balancer that is no network',
      config: `${listening()}\n[net]\nproxy_from = ["10.0.0.0/99"]\n`,
      line: /net\.proxy_from: "10\.0\.0\.0\/99" is not a network/,
    },
    {
      name: 'a plugin that is not there',
      config: `${listening()}\n[[plugin]]\nuse = "no-such-plugin"\n`,
      line: /no-such-plugin/,
    },
  ];
  test.each(mistakes)('$name is one line that points, and exit 78', async ({ config, line }) => {
    const { word, exit } = await start(config);
    expect(word.word).toBe('cannot-start');
    if (word.word === 'cannot-start') {
      expect(word.line).toMatch(line);
      expect(word.line).not.toMatch(/\n/);
    }
    expect(await exit).toBe(78);
  });
});
