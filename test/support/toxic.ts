/**
 * A small TCP server in the way of a real one, which misbehaves when told: takes
 * a connection and says nothing, passes one byte a second, resets in mid-stream,
 * refuses. Faults a real scanner or backend has on a bad day, at will.
 */
import { once } from 'node:events';
import net from 'node:net';

export type Toxic =
  /** Passes everything on. */
  | 'none'
  /** Accepts, reads, says nothing. */
  | 'silent'
  /** Accepts, reads nothing. */
  | 'deaf'
  /** Answers come back one byte a second. */
  | 'drip'
  /** Passes `resetAfterBytes` on, then resets. */
  | 'reset'
  /** Answers with bytes that are no answer. */
  | 'garbage'
  /** Closes at once, in an orderly way. */
  | 'close';

export interface ToxicProxy {
  readonly port: number;
  mode: Toxic;
  /** Connections taken since the start. */
  readonly taken: number;
  stop(): Promise<void>;
}

const resetAfterBytes = 1000;

export async function startToxic(targetPort: number): Promise<ToxicProxy> {
  const sockets = new Set<net.Socket>();
  let taken = 0;
  const track = (socket: net.Socket): net.Socket => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    return socket;
  };
  const proxy = { mode: 'none' as Toxic };
  const server = net
    .createServer({ allowHalfOpen: true }, (client) => {
      taken++;
      track(client);
      if (proxy.mode === 'silent') return void client.resume();
      if (proxy.mode === 'deaf') return;
      if (proxy.mode === 'close') return void client.end();
      if (proxy.mode === 'garbage') {
        client.resume();
        return void client.end(`${'\u0000\u00ff*'.repeat(500)}\r\n`, 'latin1');
      }
      const target = track(net.connect({ port: targetPort, host: '127.0.0.1', allowHalfOpen: true }));
      client.on('close', () => target.destroy());
      target.on('error', () => client.resetAndDestroy());
      if (proxy.mode === 'drip') {
        client.pipe(target);
        return void drip(target, client);
      }
      if (proxy.mode === 'reset') {
        let passed = 0;
        client.on('data', (chunk) => {
          passed += chunk.length;
          if (passed > resetAfterBytes) client.resetAndDestroy();
          else target.write(chunk);
        });
        target.pipe(client);
        return;
      }
      client.pipe(target);
      target.pipe(client);
    })
    .listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as net.AddressInfo).port,
    get mode() {
      return proxy.mode;
    },
    set mode(mode: Toxic) {
      proxy.mode = mode;
    },
    get taken() {
      return taken;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function drip(from: net.Socket, to: net.Socket): Promise<void> {
  for await (const chunk of from as AsyncIterable<Buffer>) {
    for (const byte of chunk) {
      if (to.destroyed) return;
      to.write(Buffer.of(byte));
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
  to.end();
}
