/** Deliveries over a real link stream into real accounts: broken ones first. */
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Accounts } from '../../../backend/accounts/accounts.ts';
import { Fault } from '../../../base/fault.ts';
import { answerOf, openServiceRig, removeRoots, type ServiceRig } from '../service-rig.ts';

const everyone = ['ann@postern.test', 'bob@postern.test', 'cid@postern.test'];
const key = '0123456789abcdef0123456789abcdef';
let rig: ServiceRig;

beforeEach(async () => {
  rig = await openServiceRig({ addresses: everyone });
});
afterEach(async () => {
  await rig.close();
});

afterAll(removeRoots);

const headers = (recipients: readonly string[], size: number, deliveryKey = key): Record<string, string> => ({
  'postern-recipients': recipients.map(encodeURIComponent).join(','),
  'postern-size': String(size),
  'postern-delivery-key': deliveryKey,
  'postern-reverse-path': encodeURIComponent('sender@example.org'),
});
const message = (lines: number): Buffer =>
  Buffer.from(`Subject: hello\r\n\r\n${'a line of text, and then the next\r\n'.repeat(lines)}`);

async function deliver(
  recipients: readonly string[],
  body: Buffer,
  deliveryKey = key,
): Promise<Record<string, string>> {
  const {
    status,
    headers: told,
    body: json,
  } = await rig.ask('deliver', headers(recipients, body.length, deliveryKey), body);
  expect(status).toBe(200);
  const outcomes = told['postern-outcomes'];
  if (typeof outcomes === 'string') {
    expect(json).toHaveLength(0);
    const words = outcomes.split(',');
    expect(words).toHaveLength(recipients.length);
    return Object.fromEntries(recipients.map((recipient, index) => [recipient, words[index]!]));
  }
  const answers = JSON.parse(json.toString()) as { recipient: string; outcome: string }[];
  return Object.fromEntries(answers.map(({ recipient, outcome }) => [recipient, outcome]));
}

describe('an opening that is malformed is 400', () => {
  const good = headers(['ann@postern.test'], 4);
  const rows: (readonly [string, Record<string, string>])[] = [
    ['no recipients', { ...good, 'postern-recipients': '' }],
    ['a recipient that is not canonical', { ...good, 'postern-recipients': 'Ann%40postern.test' }],
    [
      'a recipient that leaves the root',
      { ...good, 'postern-recipients': encodeURIComponent('../x@postern.test') },
    ],
    ['a broken escape', { ...good, 'postern-recipients': 'ann%4' }],
    [
      'too many recipients',
      {
        ...good,
        'postern-recipients': Array.from({ length: 101 }, (_, n) => `u${n}%40postern.test`).join(','),
      },
    ],
    ['a size that is no number', { ...good, 'postern-size': '-1' }],
    ['a key that is no key', { ...good, 'postern-delivery-key': '../../x' }],
  ];
  test.each(rows)('%s', async (_name, bad) => {
    expect((await rig.ask('deliver', bad, 'x\r\n')).status).toBe(400);
    expect(await rig.inbox('ann@postern.test')).toHaveLength(0);
  });
});

describe('a body that is not whole leaves nothing', () => {
  test.each([3, 20_000])('shorter than announced (%d lines)', async (lines) => {
    const body = message(lines);
    const { status } = await rig.ask('deliver', headers(everyone, body.length), body.subarray(0, -2));
    expect(status).toBe(400);
    for (const address of everyone) expect(await rig.inbox(address)).toHaveLength(0);
  });

  test('longer than announced', async () => {
    const body = message(3);
    const { status } = await rig.ask('deliver', headers(everyone, body.length - 2), body);
    expect(status).toBe(400);
    expect(await rig.inbox('ann@postern.test')).toHaveLength(0);
  });

  test.each([3, 20_000])('reset in the middle (%d lines)', async (lines) => {
    const body = message(lines);
    const stream = rig.open('deliver', headers(everyone, body.length));
    stream.write(body.subarray(0, body.length - 5));
    await new Promise((resolve) => setTimeout(resolve, 100));
    stream.close(8);
    while (!rig.logged.some(({ text }) => text === 'delivery broken off')) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    for (const address of everyone) expect(await rig.inbox(address)).toHaveLength(0);
    // The sender tries again with the same key: nothing of the first attempt stands in the way.
    expect(await deliver(everyone, body)).toEqual(
      Object.fromEntries(everyone.map((each) => [each, 'stored'])),
    );
  });
});

describe('every recipient is settled by itself', () => {
  test('one is unknown, one is owned elsewhere, one gets it', async () => {
    rig.elsewhere.add('bob@postern.test');
    const body = message(3);
    expect(await deliver(['ann@postern.test', 'bob@postern.test', 'nobody@postern.test'], body)).toEqual({
      'ann@postern.test': 'stored',
      'bob@postern.test': 'not-owner',
      'nobody@postern.test': 'no-such-account',
    });
    expect(await rig.inbox('ann@postern.test')).toEqual([body]);
  });

  const failures = [
    ['over-quota', 'over-quota'],
    ['no-space', 'no-space'],
    ['message-too-big', 'too-big'],
    ['lease-lost', 'not-owner'],
    ['storage-failed', 'failed'],
  ] as const;
  for (const at of ['append', 'write', 'commit'] as const) {
    test.each(failures)(`%s at ${at} is told as %s, and the others get it`, async (code, outcome) => {
      await rig.close();
      rig = await openServiceRig({
        addresses: everyone,
        accounts: (real) => failing(real, 'bob@postern.test', at, code),
      });
      const body = message(20_000);
      expect(await deliver(everyone, body)).toEqual({
        'ann@postern.test': 'stored',
        'bob@postern.test': outcome,
        'cid@postern.test': 'stored',
      });
      expect(await rig.inbox('bob@postern.test')).toHaveLength(0);
      expect((await rig.inbox('cid@postern.test'))[0]?.equals(body)).toBe(true);
    });
  }
});

describe('a delivery key', () => {
  test('is answered with "already" when the message comes again, per recipient', async () => {
    const body = message(3);
    expect(await deliver(['ann@postern.test'], body)).toEqual({ 'ann@postern.test': 'stored' });
    expect(await deliver(['ann@postern.test', 'bob@postern.test'], body)).toEqual({
      'ann@postern.test': 'already',
      'bob@postern.test': 'stored',
    });
    expect(await rig.inbox('ann@postern.test')).toHaveLength(1);
  });

  test('is forgotten when it is settled: the same message is then another one', async () => {
    const other = key.replace('0', '1');
    await deliver(['ann@postern.test', 'bob@postern.test'], message(3));
    await deliver(['ann@postern.test'], message(4), other);
    const settled = [`${key}=ann%40postern.test`, `${other}=ann%40postern.test`].join(',');
    expect((await rig.ask('settle', { 'postern-settled': settled })).status).toBe(200);
    expect(await deliver(['ann@postern.test', 'bob@postern.test'], message(3))).toEqual({
      'ann@postern.test': 'stored',
      'bob@postern.test': 'already',
    });
    expect(await deliver(['ann@postern.test'], message(4), other)).toEqual({ 'ann@postern.test': 'stored' });
  });

  test.each([
    ['nothing', {}],
    ['no key', { 'postern-settled': '=ann%40postern.test' }],
    ['no account', { 'postern-settled': `${key}=` }],
    ['too much', { 'postern-settled': Array(101).fill(`${key}=ann%40postern.test`).join(',') }],
  ] as [string, Record<string, string>][])('is not settled by a request with %s', async (_what, wrong) => {
    expect((await rig.ask('settle', wrong)).status).toBe(400);
  });

  test('of two attempts at once makes one message', async () => {
    const body = message(3);
    await Promise.all([deliver(['ann@postern.test'], body), deliver(['ann@postern.test'], body)]);
    expect(await rig.inbox('ann@postern.test')).toHaveLength(1);
  });
});

test('a message of several MiB reaches its recipients byte for byte', async () => {
  const many = Array.from({ length: 30 }, (_, n) => `user${n}@postern.test`);
  for (const address of many.slice(0, 3)) await rig.accounts.add(address, 'x');
  const body = message(100_000);
  const answers = await deliver(many, body);
  expect(answers['user1@postern.test']).toBe('stored');
  expect(answers['user9@postern.test']).toBe('no-such-account');
  for (const address of many.slice(0, 3)) expect((await rig.inbox(address))[0]?.equals(body)).toBe(true);
});

test('each stored message has one log line with trace, folder and uid', async () => {
  await deliver(['ann@postern.test'], message(3));
  const [line] = rig.logged.filter(({ text }) => text === 'message stored');
  expect(line).toMatchObject({
    trace: 'trace1',
    account: 'ann@postern.test',
    folder: 'INBOX',
    uid: 1,
    outcome: 'stored',
  });
});

describe('may this address receive?', () => {
  const rows = [
    ['ann@postern.test', '1000', 200],
    ['nobody@postern.test', '1000', 404],
    ['ann@postern.test', 'many', 400],
  ] as const;
  test.each(rows)('%s, %s bytes: %d', async (address, size, status) => {
    const answer = await rig.ask('recipient', { 'postern-account': address, 'postern-size': size });
    expect(answer.status).toBe(status);
  });
});

/** Accounts of which one fails at one step. */
function failing(
  real: Accounts,
  address: string,
  at: 'append' | 'write' | 'commit',
  code: 'over-quota',
): Accounts;
function failing(real: Accounts, address: string, at: string, code: string): Accounts;
function failing(real: Accounts, address: string, at: string, code: string): Accounts {
  const fail = async (): Promise<never> => {
    throw new Fault(code as 'over-quota', 'as the test wants it');
  };
  const over = <T extends object>(object: T, changes: Partial<T>): T =>
    new Proxy(object, {
      get(target, name) {
        const value = Reflect.get(Object.hasOwn(changes, name) ? changes : target, name) as unknown;
        return typeof value === 'function' && !Object.hasOwn(changes, name) ? value.bind(target) : value;
      },
    });
  return over(real, {
    async open(name) {
      const account = await real.open(name);
      if (name !== address) return account;
      const { store } = account;
      return over(account, {
        store: over(store, {
          async folder(folderName) {
            const folder = await store.folder(folderName);
            return over(folder, {
              async append(facts, sizeHint) {
                if (at === 'append') return await fail();
                const incoming = await folder.append(facts, sizeHint);
                return over(incoming, at === 'write' ? { write: fail } : { commit: fail });
              },
            });
          },
        }),
      });
    },
  });
}

test('answerOf rejects when a stream is reset', async () => {
  const stream = rig.open('deliver', headers(everyone, 10));
  const answer = answerOf(stream);
  stream.close(8);
  await expect(answer).rejects.toThrow();
});
