/** Where a password comes from: standard input, the terminal without echo, or chance. Never the command line. */
import { Fault } from '../base/fault.ts';
import type { GivenSecret } from '../cluster-protocol/link.ts';
import type { CommandCall } from './command.ts';
import { readablePassword } from './first-account.ts';

const passwordBytesMax = 1024;

/**
 * A password, or with `--hash` what another server made of one.
 * @returns `made`: a password nobody typed, so it has to be shown. @throws {Fault} `bad-argument`
 */
export async function chooseSecret(
  call: CommandCall,
): Promise<{ given: GivenSecret; made: string | undefined }> {
  const { hash } = call.values;
  if (typeof hash === 'string') {
    if (call.values['password-stdin'] === true)
      throw new Fault('bad-argument', '--hash and --password-stdin exclude each other; give one');
    // A hash on the command line can be seen by others of the machine: "-" keeps it off.
    return { given: { hash: hash === '-' ? await firstLineOfInput() : hash }, made: undefined };
  }
  const { password, made } = await choosePassword(call);
  return { given: { password }, made: made ? password : undefined };
}

/** @returns `made`: nobody typed it, so it has to be shown. @throws {Fault} `bad-argument` */
export async function choosePassword(call: CommandCall): Promise<{ password: string; made: boolean }> {
  if (call.values['password-stdin'] === true)
    return { password: checked(await firstLineOfInput()), made: false };
  if (!process.stdin.isTTY || !process.stderr.isTTY) return { password: readablePassword(), made: true };
  const password = checked(await askUnseen('Password: '));
  if ((await askUnseen('Again: ')) !== password)
    throw new Fault('bad-argument', 'the two passwords differ; try again');
  return { password, made: false };
}

function checked(password: string): string {
  if (password === '') throw new Fault('bad-argument', 'the password is empty; type or pipe one');
  if (Buffer.byteLength(password) > passwordBytesMax)
    throw new Fault('bad-argument', `the password is over ${passwordBytesMax} bytes; choose a shorter one`);
  return password;
}

async function firstLineOfInput(): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (chunk.includes(0x0a) || bytes > passwordBytesMax + 2) break;
  }
  const text = Buffer.concat(chunks).toString('utf8');
  return (text.split('\n')[0] ?? '').replace(/\r$/, '');
}

function askUnseen(prompt: string): Promise<string> {
  const { stdin, stderr } = process;
  // The echo goes before the prompt comes: whoever types fast must not show a letter.
  stdin.setRawMode(true);
  stdin.resume();
  stderr.write(prompt);
  return new Promise((resolve, reject) => {
    let typed = '';
    const finish = (): void => {
      stdin.off('data', take);
      stdin.setRawMode(false);
      stdin.pause();
      stderr.write('\n');
    };
    const take = (chunk: Buffer): void => {
      for (const char of chunk.toString('utf8')) {
        if (char === '\r' || char === '\n') {
          finish();
          resolve(typed);
          return;
        }
        if (char === '\u0003' || char === '\u0004') {
          finish();
          reject(new Fault('bad-argument', 'no password was given'));
          return;
        }
        if (char === '\u007f' || char === '\b') typed = [...typed].slice(0, -1).join('');
        else if (typed.length < passwordBytesMax) typed += char;
      }
    };
    stdin.on('data', take);
  });
}
