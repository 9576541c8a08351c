/** The two files `postern plugin new` writes. */

export function pluginTemplate(name: string): string {
  return `/** Say here in a sentence or two what it turns away, and why. */
import { definePlugin, pass, reject } from 'postern/plugin';

export default definePlugin({
  name: '${name}',
  options: {
    words: { kind: 'texts', default: ['example-word'], doc: 'Subjects with one of these are refused.' },
  },
  start({ words }, { count }) {
    const wanted = words.map((word) => word.toLowerCase());
    return {
      asked: {
        header(_session, header) {
          const subject = header.header('Subject').join(' ').toLowerCase();
          const word = wanted.find((one) => subject.includes(one));
          if (word === undefined) return pass;
          count('refused');
          // The sender reads the first text, your log has the second.
          return reject('Message not accepted', \`subject holds "\${word}"\`);
        },
      },
    };
  },
});
`;
}

export function pluginTestTemplate(name: string): string {
  return `import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fakeMessage, fakeSession, startPlugin } from 'postern/plugin-test';
import plugin from './${name}.ts';

test('a subject with such a word is refused', async () => {
  const started = await startPlugin(plugin, { words: ['lottery'] });
  const verdict = await started.ask('header', fakeSession(), fakeMessage({ fields: { Subject: 'A Lottery prize' } }));
  assert.equal(verdict.word, 'reject');
  assert.equal(started.counted('refused'), 1);
  await started.stop();
});

test('any other passes', async () => {
  const started = await startPlugin(plugin);
  const verdict = await started.ask('header', fakeSession(), fakeMessage({ fields: { Subject: 'Lunch?' } }));
  assert.equal(verdict.word, 'pass');
  await started.stop();
});
`;
}
