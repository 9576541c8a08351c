import net from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import { Fault } from '../../../base/fault.ts';
import { silentLog } from '../../../base/log.ts';
import { type Metrics, openMetrics } from '../../../gateway/health/metrics.ts';
import { parseNetwork } from '../../../gateway/net/address.ts';
import { Deadlines } from '../../../gateway/net/deadline.ts';
import { type Listener, type ListenerOptions, openListener } from '../../../gateway/net/listener.ts';
import { Throttle } from '../../../gateway/net/throttle.ts';

const undo: (() => void)[] = [];
afterEach(() => {
  for (const step of undo.splice(0)) step();
});

interface Rig {
  readonly listener: Listener;
  readonly port: number;
  readonly throttle: Throttle;
  readonly metrics: Metrics;
}

/** Accepted connections answer with the client's address and echo. */
async function open(
  options: Partial<ListenerOptions> & { perNetworkMax?: number; connectionsMax?: number } = {},
): Promise<Rig> {
  const { perNetworkMax = 10, connectionsMax = 10, ...rest } = options;
  const throttle = new Throttle({ connectionsMax, perNetworkMax });
  const deadlines = new Deadlines(20);
  const metrics = openMetrics();
  const listener = await openListener({
    name: 'imap',
    protocol: 'imap',
    address: { host: '::', port: 0 },
    implicitTls: false,
    allowHalfOpen: false,
    reusePort: false,
    proxyFrom: [],
    throttle,
    deadlines,
    log: silentLog,
    metrics,
    accept: (socket, session) => {
      socket.write(`${session.client.address} ${session.client.network}\r\n`);
      socket.pipe(socket);
    },
    ...rest,
  });
  undo.push(() => {
    listener.stop();
    deadlines.close();
    metrics.close();
  });
  return { listener, port: Number(listener.address.split(':').at(-1)), throttle, metrics };
}

/** Sends `bytes`, in `pieces` where told, and gives what came back until the first line or the end. */
function talk(
  port: number,
  host: string,
  bytes: string | readonly string[],
  keepOpen = false,
): Promise<string> {
  return new Promise((resolve) => {
    const socket = net.connect({ port, host });
    undo.push(() => socket.destroy());
    let got = '';
    const pieces = typeof bytes === 'string' ? [bytes] : bytes;
    socket.on('connect', async () => {
      for (const piece of pieces) {
        socket.write(Buffer.from(piece, 'latin1'));
        if (pieces.length > 1) await new Promise((next) => setTimeout(next, 2));
      }
    });
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      got += chunk.toString('latin1');
      if (!got.includes('!')) return;
      if (!keepOpen) socket.destroy();
      resolve(got);
    });
    socket.on('close', () => resolve(`${got}(closed)`));
  });
}

const signature = '\r\n\r\n\0\r\nQUIT\n';
const v2ipv4 = `${signature}\x21\x11\x00\x0c\xc0\x00\x02\x07\x7f\x00\x00\x01\x12\x67\x00\x8f`;
const v2local = `${signature}\x20\x00\x00\x00`;
const v2loopback = `${signature}\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x12\x67\x00\x8f`;

// CASES 64: `!` makes the echo visible, so every row shows that what followed the header was kept.
const trusted = [
  {
    name: 'version 1',
    bytes: 'PROXY TCP4 192.0.2.7 127.0.0.1 4711 143\r\nhello!',
    says: '192.0.2.7 192.0.2.7\r\nhello!',
  },
  {
    name: 'version 1, IPv6',
    bytes: 'PROXY TCP6 2001:db8:1:2::9 ::1 4711 143\r\nhello!',
    says: '2001:db8:1:2::9 2001:db8:1:2::/64\r\nhello!',
  },
  {
    name: 'a mapped address',
    bytes: 'PROXY TCP6 ::ffff:192.0.2.7 ::1 4711 143\r\nhello!',
    says: '192.0.2.7 192.0.2.7\r\nhello!',
  },
  { name: 'version 2', bytes: `${v2ipv4}hello!`, says: '192.0.2.7 192.0.2.7\r\nhello!' },
  { name: 'LOCAL', bytes: `${v2local}hello!`, says: '127.0.0.1 127.0.0.1\r\nhello!' },
  { name: 'a claim of loopback', bytes: `${v2loopback}hello!`, says: '127.0.0.1 127.0.0.1\r\nhello!' },
  {
    name: 'a claim of loopback over NAT64',
    bytes: 'PROXY TCP6 64:ff9b::7f00:1 ::1 1 2\r\nhello!',
    says: '127.0.0.1 127.0.0.1\r\nhello!',
  },
  { name: 'a malformed header', bytes: 'PROXY TCP4 x y 1 2\r\nhello!', says: '(closed)' },
  { name: 'no header', bytes: 'a NOOP\r\nhello!', says: '(closed)' },
  {
    name: 'a truncated version 2',
    bytes: `${signature}\x21\x11\x00\x04\xc0\x00\x02\x07hello!`,
    says: '(closed)',
  },
];

describe('PROXY', () => {
  test.each(trusted)('from a trusted balancer: $name', async ({ bytes, says }) => {
    const { port } = await open({ proxyFrom: [parseNetwork('127.0.0.0/8')] });
    expect(await talk(port, '127.0.0.1', bytes)).toBe(says);
  });

  test.each(trusted.filter(({ says }) => !says.startsWith('(')))(
    'from a trusted balancer, byte by byte: $name',
    async ({ bytes, says }) => {
      const { port } = await open({ proxyFrom: [parseNetwork('127.0.0.0/8')] });
      const got = await talk(port, '127.0.0.1', bytes.split(''));
      expect(got).toBe(says);
    },
  );

  test('from a stranger it is just bytes, and the address is the stranger’s', async () => {
    const { port } = await open({ proxyFrom: [parseNetwork('192.0.2.0/24')] });
    const bytes = 'PROXY TCP4 192.0.2.7 127.0.0.1 4711 143\r\nhello!';
    expect(await talk(port, '127.0.0.1', bytes)).toBe(`127.0.0.1 127.0.0.1\r\n${bytes}`);
  });

  test('the count is the client’s, not the balancer’s', async () => {
    const { port } = await open({ proxyFrom: [parseNetwork('127.0.0.1')], perNetworkMax: 1 });
    const from = (address: string): Promise<string> =>
      talk(port, '127.0.0.1', `PROXY TCP4 ${address} 127.0.0.1 4711 143\r\nhi!`, true);
    expect(await from('192.0.2.1')).toMatch(/^192\.0\.2\.1/);
    expect(await from('192.0.2.2')).toMatch(/^192\.0\.2\.2/);
    expect(await from('192.0.2.1')).toMatch(/^\* BYE \[UNAVAILABLE\] Too many connections/);
  });
});

describe('listening', () => {
  test('IPv4 and IPv6 clients arrive at [::], IPv4 ones under their own address', async () => {
    const { port } = await open();
    expect(await talk(port, '127.0.0.1', '!')).toBe('127.0.0.1 127.0.0.1\r\n!');
    expect(await talk(port, '::1', '!')).toBe('::1 ::/64\r\n!');
  });

  const full = [
    { protocol: 'imap', says: /^\* BYE \[UNAVAILABLE\] / },
    { protocol: 'pop3', says: /^-ERR \[SYS\/TEMP\] / },
    { protocol: 'smtp', says: /^421 4\.3\.2 / },
    { protocol: 'submission', says: /^421 4\.3\.2 / },
    { protocol: 'http', says: /^HTTP\/1\.1 503 / },
  ] as const;
  test.each(full)('a full $protocol port says so politely and closes', async ({ protocol, says }) => {
    const { port, throttle } = await open({ protocol, connectionsMax: 1 });
    await talk(port, '127.0.0.1', '!', true);
    expect(await talk(port, '127.0.0.1', '')).toMatch(says);
    expect(throttle.total).toBe(1);
  });

  test('a full TLS port closes without a word', async () => {
    const { port } = await open({ connectionsMax: 1, implicitTls: true });
    await talk(port, '127.0.0.1', '!', true);
    expect(await talk(port, '127.0.0.1', '')).toBe('(closed)');
  });

  test('what left is given back', async () => {
    const { port, throttle } = await open({ perNetworkMax: 1 });
    for (let round = 0; round < 5; round++) {
      expect(await talk(port, '127.0.0.1', '!')).toMatch(/!$/);
      while (throttle.total > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(throttle.networks).toBe(0);
  });

  test('a taken port is named with a remedy', async () => {
    const { port } = await open();
    const error = await open({ address: { host: '::', port }, name: 'imaps' }).catch(
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(Fault);
    expect((error as Fault).code).toBe('port-taken');
    expect((error as Fault).message).toBe(
      `listen.imaps: [::]:${port} is in use by another program; stop it, or set another address`,
    );
  });

  test('an address of another machine is named with a remedy', async () => {
    const error = await open({ address: { host: '192.0.2.1', port: 0 } }).catch((thrown: unknown) => thrown);
    expect((error as Fault).code).toBe('bad-config');
    expect((error as Fault).message).toMatch(/^listen\.imap: 192\.0\.2\.1:0 is no address of this machine/);
  });
});

describe('the throttle', () => {
  const client = (network: string, wideNetwork: string, address: string) => ({
    address,
    port: 1,
    network,
    wideNetwork,
  });

  test('rotating through the /64s of a /48 ends at four times what one may hold (CASES 67)', () => {
    const throttle = new Throttle({ connectionsMax: 1000, perNetworkMax: 5 });
    let admitted = 0;
    for (let subnet = 0; subnet < 100; subnet++) {
      const one = client(`2001:db8:1:${subnet.toString(16)}::/64`, '2001:db8:1::/48', '2001:db8:1::1');
      if (throttle.enterNetwork(one) === 'ok') admitted++;
    }
    expect(admitted).toBe(20);
    const other = client('2001:db8:2::/64', '2001:db8:2::/48', '2001:db8:2::1');
    expect(throttle.enterNetwork(other)).toBe('ok');
  });

  test('the neighbours of an IPv4 address are not counted with it', () => {
    const throttle = new Throttle({ connectionsMax: 1000, perNetworkMax: 1 });
    for (let host = 0; host < 200; host++) {
      const address = `192.0.2.${host}`;
      expect(throttle.enterNetwork(client(address, '192.0.2.0/24', address))).toBe('ok');
    }
  });

  test('remembers only who is connected', () => {
    const throttle = new Throttle({ connectionsMax: 1000, perNetworkMax: 5 });
    for (let subnet = 0; subnet < 1000; subnet++) {
      const one = client(`2001:db8:${subnet}::/64`, `2001:db8:${subnet}::/48`, '2001:db8::1');
      throttle.enterNetwork(one);
      throttle.leaveNetwork(one);
    }
    expect(throttle.networks).toBe(0);
  });
});

test.each([
  ['nothing is to spare', { spent: true, admits: () => true }, 'reserve'],
  ['the last places are for others', { spent: false, admits: () => false }, 'newcomer'],
])('a client is turned away with words when %s, and its place is free again', async (_, shield, reason) => {
  const { port, throttle, metrics } = await open({ shield });
  expect(await talk(port, '127.0.0.1', [])).toMatch(/^\* BYE \[UNAVAILABLE\] .*\r\n\(closed\)$/);
  const { values } = await metrics.turnedAway.get();
  expect(values).toContainEqual({ labels: { protocol: 'imap', reason }, value: 1 });
  while (throttle.total > 0) await new Promise((next) => setTimeout(next, 5));
});
