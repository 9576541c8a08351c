/**
 * One HTTP request as the door works with it, whether it came by HTTP/1.1 or
 * HTTP/2: what was asked, a body to read, an answer to write.
 */
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { constants, type ServerHttp2Stream } from 'node:http2';
import type { Readable, Writable } from 'node:stream';
import type { HeaderFields } from './refusals.ts';

export interface Exchange {
  readonly method: string;
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
  readonly hasBody: boolean;
  readonly body: Readable;
  /** Where the answer's body goes, after `head`. */
  readonly out: Writable;
  /** Sends status and fields. `end`: there is no body. */
  head(status: number, fields: HeaderFields, end: boolean): void;
  readonly headSent: boolean;
  /** After the answer has been given: a body nobody will read is not waited for. */
  dropBody(): void;
  /** Requests of the connection do not follow one another in one stream of bytes: one can end alone. */
  readonly multiplexed: boolean;
  /** Breaks off so that the client sees it: an answer cut short must not look whole. */
  breakOff(): void;
  /** Nobody is listening any more. */
  readonly gone: boolean;
}

export function http1Exchange(request: IncomingMessage, response: ServerResponse): Exchange {
  response.on('error', () => {});
  request.on('error', () => {});
  const { method = '', url: target = '', headers } = request;
  return {
    method,
    target,
    headers,
    hasBody: headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0,
    body: request,
    out: response,
    head(status, fields, end) {
      response.writeHead(status, fields);
      if (end) response.end();
    },
    get headSent() {
      return response.headersSent;
    },
    dropBody: () => void request.resume(),
    multiplexed: false,
    breakOff: () => void request.socket.destroy(),
    get gone() {
      return response.destroyed || request.socket.destroyed;
    },
  };
}

export function http2Exchange(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  ended: boolean,
): Exchange {
  stream.on('error', () => {});
  const pseudo = headers as Record<string, string | undefined>;
  return {
    method: pseudo[':method'] ?? '',
    target: pseudo[':path'] ?? '',
    headers,
    hasBody: !ended,
    body: stream,
    out: stream,
    head(status, { connection: _connection, ...fields }, end) {
      if (!stream.destroyed && !stream.headersSent)
        stream.respond({ ':status': status, ...fields }, { endStream: end });
    },
    get headSent() {
      return stream.headersSent;
    },
    dropBody() {
      const close = (): void => stream.close(constants.NGHTTP2_NO_ERROR); // RFC 9113 8.1
      if (stream.writableFinished) close();
      else stream.once('finish', close);
    },
    multiplexed: true,
    breakOff: () => void stream.close(constants.NGHTTP2_INTERNAL_ERROR),
    get gone() {
      return stream.destroyed || stream.aborted;
    },
  };
}
