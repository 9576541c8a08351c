/** The other end of the admin socket: how a command asks the running cluster. */
import { request as httpRequest } from 'node:http';
import { userInfo } from 'node:os';
import { errnoOf, Fault, type FaultCode, faultCodes } from '../base/fault.ts';
import { dataLayoutAt, type Where } from './configuration.ts';
import { type ControlRequest, controlAnswerBytesMax, controlPath } from './control.ts';

const answerMsMax = 90_000;

/** Who asks, for the history: the login behind sudo where there is one. The socket is open to this user only anyway. */
export function whoAsks(): string {
  return process.env.SUDO_USER || userInfo().username;
}

/** @throws {Fault} `not-running`, or what the cluster answered. */
export async function askCluster<T>(where: Where, request: ControlRequest): Promise<T> {
  const { data, adminSocket } = dataLayoutAt(where);
  const { status, text } = await post(adminSocket, JSON.stringify(request)).catch((error: unknown) => {
    if (error instanceof Fault) throw error;
    const code = errnoOf(error);
    if (code === 'ENOENT' || code === 'ECONNREFUSED')
      throw new Fault(
        'not-running',
        `nothing runs in ${data}; start it with "npm start", or name its data directory with --data`,
      );
    if (code === 'EACCES')
      throw new Fault(
        'not-allowed',
        `${adminSocket}: permission denied; run this as the user that runs Postern`,
      );
    throw new Fault(
      'unavailable',
      `${adminSocket}: ${code || String(error)}; is the cluster being stopped?`,
      {
        cause: error,
      },
    );
  });
  const value = JSON.parse(text) as { error?: unknown; message?: unknown };
  // Long work is answered with 200 before it is known how it ends.
  if (status === 200 && typeof value.error !== 'string') return value as T;
  const code =
    typeof value.error === 'string' && value.error in faultCodes ? (value.error as FaultCode) : 'bug';
  // A configuration mistake has an exit code of its own; what a running cluster refuses is never one.
  throw new Fault(code === 'bad-config' ? 'unavailable' : code, String(value.message ?? `status ${status}`));
}

function post(socketPath: string, body: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const request = httpRequest({ socketPath, path: controlPath, method: 'POST', headers }, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > controlAnswerBytesMax)
          request.destroy(new Fault('peer-protocol', 'the answer is too long'));
        chunks.push(chunk);
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
      );
      response.on('error', reject);
    });
    request.setTimeout(answerMsMax, () =>
      request.destroy(new Fault('unavailable', 'the cluster does not answer; see its log')),
    );
    request.on('error', reject);
    request.end(body);
  });
}
