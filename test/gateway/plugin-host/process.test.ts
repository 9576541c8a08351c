/** What only shows in a process of its own: the watchdog, and the API's import name. */

import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { startProgram, temporaryDir } from '../../support/process.ts';

const project = path.resolve(import.meta.dirname, '../../..');
let dir: { path: string; remove(): Promise<void> };

beforeAll(async () => {
  dir = await temporaryDir('host');
});
afterAll(() => dir.remove());

async function runChain(plugin: string, body: string) {
  await writeFile(path.join(dir.path, 'site.ts'), plugin);
  await writeFile(
    path.join(dir.path, 'main.mts'),
    `import { openLog } from '${project}/base/log.ts';
     import { openChain } from '${project}/gateway/plugin-host/open-chain.ts';
     const log = openLog({ member: 'gateway-1' });
     const session = { id: 't1', protocol: 'smtp', client: { address: '192.0.2.1', network: '192.0.2.1' } } as never;
     const chain = await openChain({
       plugins: [{ use: './site.ts', mode: 'enforce', options: {}, place: (key) => key }],
       configDir: '${dir.path}', log, stallMs: 1500,
     });
     ${body}`,
  );
  const env = { ...process.env };
  delete env.NODE_OPTIONS;
  const program = startProgram(
    path.join(project, 'node_modules/.bin/node'),
    [path.join(dir.path, 'main.mts')],
    { env },
  );
  await new Promise((resolve) => program.child.once('close', resolve));
  return program;
}

test("a site's plugin in TypeScript imports the API by name, wherever it stands", async () => {
  const program = await runChain(
    `import { definePlugin, reject, type Session } from 'postern/plugin';
     export default definePlugin({
       name: 'site', options: { word: { kind: 'text', default: 'no', doc: 'x' } },
       start: ({ word }) => ({ asked: { sender: (session: Session, from: string) => reject(word + ' ' + from + session.id) } }),
     });`,
    `console.log(JSON.stringify(await chain.ask('sender', session, 'a@b'))); await chain.close();`,
  );
  expect(program.output()).toContain('{"word":"reject","say":"no a@bt1","plugin":"site"}');
  expect(program.child.exitCode).toBe(0);
});

test.each([
  ['loops', 'for (;;);'],
  [
    'meets a string its expression cannot cope with',
    `/^(a+)+$/.test('a'.repeat(60) + '!'); return { word: 'pass' };`,
  ],
])('a plugin that %s ends its process, named, so that the supervisor can start it again', async (_, body) => {
  const began = performance.now();
  const program = await runChain(
    `export default { name: 'looper', options: {}, start: () => ({ asked: { connect() { ${body} } } }) };`,
    `await new Promise((resolve) => setTimeout(resolve, 2500)); // idle is not stalled
     await chain.ask('connect', session, { spokeFirst: async () => false }); console.log('survived');`,
  );
  expect(program.child.signalCode).toBe('SIGKILL');
  expect(program.output()).toMatch(/"plugin":"looper".*held by a plugin/);
  expect(program.output()).not.toContain('survived');
  expect(performance.now() - began).toBeLessThan(10_000);
});
