/**
 * Has every message scanned for malware by a clamd, over TCP or a Unix socket.
 *
 * Only a scan that says so makes a message clean: an error, a timeout, an empty
 * or a half answer is a failure of this plugin, and that means `451` unless the
 * admin writes `on_failure = "pass"`. clamd itself takes no stream longer than its
 * StreamMaxLength (25M unless set); keep `size_max` at or below it.
 *
 * Speaks to clamd through the npm package clamscan, which by itself writes a
 * stream into the socket without waiting for it to drain and does not let go of a
 * clamd that never answers. So each scan gets a socket made here: what is fed waits
 * for the socket, and the socket is destroyed when the scan is over, however.
 */
import net from 'node:net';
import { Readable } from 'node:stream';
import NodeClam from 'clamscan';
import { defer, definePlugin, type Message, pass, reject } from './api.ts';

interface Scanner {
  scanStream(
    stream: Readable,
  ): Promise<{ isInfected: boolean | null; viruses: string[]; resultString?: string }>;
}

/** Bytes that may wait in the socket before the message is read on. */
const socketBytesMax = 256 * 1024;

export default definePlugin({
  name: 'clamav',
  deadline: '60s',
  onFailure: 'defer',
  sideBySide: true,
  options: {
    server: {
      kind: 'text',
      default: '127.0.0.1:3310',
      pattern: /^(?:\/.+|[^\s/]+:\d{1,5})$/,
      doc: 'Where clamd listens: host:port, or the path of a Unix socket.',
    },
    timeout: { kind: 'duration', default: '30s', min: '100ms', doc: 'Longest one scan may take, in all.' },
    size_max: { kind: 'size', default: '25MiB', doc: 'Largest message sent to clamd (its StreamMaxLength).' },
    over_size: {
      kind: 'choice',
      default: 'reject',
      choices: ['reject', 'defer', 'pass'],
      doc: 'What happens to a larger message; "pass" delivers it unscanned.',
    },
    concurrent_max: { kind: 'count', default: 10, min: 1, doc: "Scans at once (clamd's MaxThreads)." },
    waiting_max: {
      kind: 'count',
      default: 200,
      doc: 'Messages that may wait for a scan; one more is deferred.',
    },
  },
  async start(options, { queue, count }) {
    const inTurn = queue(options.concurrent_max, options.waiting_max);
    const endpoint = endpointOf(options.server);
    const client = await new NodeClam().init({
      removeInfected: false,
      debugMode: false,
      preference: 'clamdscan',
      clamscan: { active: false, path: null },
      clamdscan: {
        ...endpoint,
        active: true,
        path: null,
        localFallback: false,
        bypassTest: true,
        timeout: options.timeout,
      },
    });
    if (typeof client._initSocket !== 'function') throw new Error('this version of clamscan is not known');

    const scan = async (message: Message): Promise<readonly string[]> => {
      const socket = net.connect('socket' in endpoint ? { path: endpoint.socket } : endpoint);
      socket.setNoDelay(true);
      let stream: Readable | undefined;
      let timer: NodeJS.Timeout | undefined;
      try {
        return await new Promise((resolve, fail) => {
          timer = setTimeout(
            () => fail(new Error(`no answer within ${options.timeout} ms`)),
            options.timeout,
          );
          socket.on('error', fail);
          // clamscan itself settles on `end`; a socket that closes without one would leave it waiting.
          socket.on('close', () => setImmediate(fail, new Error('connection closed before the answer')));
          socket.once('connect', () => {
            stream = Readable.from(fed(message.stream(), socket), { objectMode: false });
            stream.on('error', fail);
            // clamscan prints errors of its socket to the terminal; they are told here, by `fail`.
            const on = socket.on.bind(socket);
            socket.on = ((event: string, listener: () => void) =>
              event === 'error' ? socket : on(event, listener)) as typeof socket.on;
            const scanner: Scanner = Object.assign(Object.create(client), {
              _initSocket: async () => socket,
            });
            scanner.scanStream(stream).then((result) => {
              if (result?.isInfected === false) resolve([]);
              else if (result?.isInfected === true)
                resolve(result.viruses.length === 0 ? ['unnamed'] : result.viruses);
              else fail(new Error(`unclear answer: ${JSON.stringify(result?.resultString ?? '')}`));
            }, fail);
          });
        });
      } finally {
        clearTimeout(timer);
        stream?.destroy();
        socket.destroy();
      }
    };

    return {
      asked: {
        async message(_session, message) {
          if (message.size === 0) return pass;
          if (message.size > options.size_max) {
            const log = `${message.size} bytes are more than size_max`;
            if (options.over_size === 'pass') return { word: 'pass', log };
            if (options.over_size === 'defer') return defer('Message cannot be checked now', log);
            return reject('Message too large to be checked', log);
          }
          const found = await inTurn(() => scan(message));
          count('scanned');
          if (found.length === 0) return pass;
          count('infected');
          return reject('Message refused: malware found', found.join(', ').slice(0, 300));
        },
      },
    };
  },
});

/** The bytes of a message, no faster than the socket takes them. */
async function* fed(source: Readable, socket: net.Socket): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of source) {
      if (socket.destroyed) throw new Error('connection closed while the message was sent');
      if (socket.writableLength > socketBytesMax) {
        await new Promise<void>((resolve) => {
          const go = (): void => {
            socket.off('drain', go);
            socket.off('close', go);
            resolve();
          };
          socket.on('drain', go);
          socket.on('close', go);
        });
      }
      yield chunk as Buffer;
    }
  } finally {
    source.destroy();
  }
}

function endpointOf(server: string): { socket: string } | { host: string; port: number } {
  if (server.startsWith('/')) return { socket: server };
  const colon = server.lastIndexOf(':');
  return { host: server.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(server.slice(colon + 1)) };
}
