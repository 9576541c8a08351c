import net from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import { wireOf } from '../../../gateway/session/wire.ts';

const undo: (() => void)[] = [];
afterEach(() => {
  for (const step of undo.splice(0)) step();
});

async function pair(): Promise<{ server: net.Socket; client: net.Socket }> {
  const listener = net.createServer();
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const accepted = new Promise<net.Socket>((resolve) => listener.once('connection', resolve));
  const client = net.connect((listener.address() as net.AddressInfo).port, '127.0.0.1');
  const server = await accepted;
  for (const socket of [server, client]) socket.on('error', () => {});
  undo.push(() => {
    listener.close();
    server.destroy();
    client.destroy();
  });
  return { server, client };
}

describe('what a plugin sees of the wire', () => {
  test('a client that waits did not speak first', async () => {
    const { server } = await pair();
    expect(await wireOf(server, false).spokeFirst(50)).toBe(false);
  });

  test('a client that speaks is noticed at once, and its bytes stay for the door', async () => {
    const { server, client } = await pair();
    client.write('EHLO you\r\n');
    const startedMs = performance.now();
    expect(await wireOf(server, false).spokeFirst(3000)).toBe(true);
    expect(performance.now() - startedMs).toBeLessThan(1000);
    const got = await new Promise<string>((resolve) => server.on('data', (chunk) => resolve(String(chunk))));
    expect(got).toBe('EHLO you\r\n');
  });

  test('asking twice is harmless', async () => {
    const { server, client } = await pair();
    const wire = wireOf(server, false);
    expect(await wire.spokeFirst(20)).toBe(false);
    client.write('x');
    expect(await wire.spokeFirst(1000)).toBe(true);
    expect(await wire.spokeFirst(0)).toBe(true);
  });

  test('a client that goes away did not speak, and nobody waits for it', async () => {
    const { server, client } = await pair();
    const startedMs = performance.now();
    const spoke = wireOf(server, false).spokeFirst(3000);
    client.destroy();
    expect(await spoke).toBe(false);
    expect(performance.now() - startedMs).toBeLessThan(1000);
  });

  test('where the client has to speak first nothing is early', async () => {
    const { server, client } = await pair();
    client.write('\x16\x03\x01');
    expect(await wireOf(server, true).spokeFirst(50)).toBe(false);
  });
});
