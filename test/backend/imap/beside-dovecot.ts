/** `npm run beside-dovecot -- [--every 1]`: the whole corpus, or one message in so many, at both servers; prints what differs. */
import { parseArgs } from 'node:util';
import { compareWithDovecot, type Difference } from './twin-answers.ts';

const { values } = parseArgs({ options: { every: { type: 'string', default: '1' } } });
const { messages, commands, differences } = await compareWithDovecot(Number(values.every));

function around({ dovecot, ours }: Difference): string {
  let at = 0;
  while (at < dovecot.length && dovecot[at] === ours[at]) at++;
  const cut = (text: string) => JSON.stringify(text.slice(Math.max(0, at - 40), at + 80));
  return `  Dovecot ${cut(dovecot)}\n  ours    ${cut(ours)}`;
}

for (const one of differences) console.log(`${one.message} ${one.command}\n${around(one)}`);
console.log(JSON.stringify({ messages, commands, differences: differences.length }));
process.exitCode = differences.length === 0 ? 0 : 1;
