/**
 * What a plugin gets to hold of a message: the same, but only while its question
 * is open. Streams it left open are ended with it, so that a plugin that forgot
 * one, or was given up, keeps no file or buffer of a message that is gone.
 */
import type { Readable } from 'node:stream';
import type { Message } from '../plugins/api.ts';

const overWords = 'the question was answered or given up: its message can no longer be read';

export function viewOf(message: Message): { message: Message; close(): void } {
  const streams = new Set<Readable>();
  let closed = false;
  const view: Message = {
    envelope: message.envelope,
    size: message.size,
    header: (name) => message.header(name),
    names: () => message.names(),
    parts() {
      if (closed) throw new Error(overWords);
      return message.parts();
    },
    stream() {
      if (closed) throw new Error(overWords);
      const stream = message.stream();
      streams.add(stream);
      stream.once('close', () => streams.delete(stream));
      return stream;
    },
  };
  return {
    message: view,
    close() {
      closed = true;
      for (const stream of streams) {
        stream.on('error', () => {}); // nobody listens any more
        stream.destroy();
      }
      streams.clear();
    },
  };
}
