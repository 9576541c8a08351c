/** Account work and password checks: malformed requests first, then each operation. */
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { credentialsOf, openServiceRig, password, removeRoots, type ServiceRig } from '../service-rig.ts';

let rig: ServiceRig;
beforeEach(async () => {
  rig = await openServiceRig();
});
afterEach(async () => {
  await rig.close();
});
afterAll(removeRoots);

async function admin(request: unknown): Promise<{ status: number; body: Record<string, unknown> }> {
  const { status, body } = await rig.ask(
    'admin',
    {},
    typeof request === 'string' ? request : JSON.stringify(request),
  );
  return { status, body: JSON.parse(body.toString()) as Record<string, unknown> };
}

describe('a malformed request is an error with a code and words', () => {
  const rows: (readonly [string, unknown, number, string])[] = [
    ['not JSON', 'account-add', 400, 'bad-syntax'],
    ['an array', [], 400, 'bad-syntax'],
    ['an unknown operation', { op: 'account-destroy' }, 400, 'bad-syntax'],
    ['a name every object has', { op: 'constructor' }, 400, 'bad-syntax'],
    ['no address', { op: 'account-show' }, 400, 'bad-syntax'],
    [
      'an address that leaves the root',
      { op: 'account-show', address: '../../etc@postern.test' },
      400,
      'bad-name',
    ],
    ['an address in another spelling', { op: 'account-show', address: 'Ann@postern.test' }, 400, 'bad-name'],
    ['an empty password', { op: 'account-add', address: 'x@postern.test', password: '' }, 400, 'bad-syntax'],
    [
      'a password of 1 MB',
      { op: 'account-add', address: 'x@postern.test', password: 'x'.repeat(1_000_000) },
      400,
      'command-too-big',
    ],
    [
      'a negative quota',
      { op: 'account-add', address: 'x@postern.test', password: 'x', quotaBytes: -1 },
      400,
      'bad-syntax',
    ],
    ['a huge count', { op: 'account-list', domain: 'postern.test', countMax: 1e9 }, 400, 'bad-syntax'],
    [
      'an account that is not there',
      { op: 'account-show', address: 'nobody@postern.test' },
      404,
      'no-such-account',
    ],
    [
      'an account that is there',
      { op: 'account-add', address: 'ann@postern.test', password: 'x' },
      400,
      'already-exists',
    ],
  ];
  test.each(rows)('%s', async (_name, request, status, code) => {
    const answer = await admin(request);
    expect(answer).toMatchObject({ status, body: { error: code } });
    expect(String(answer.body.message)).not.toBe('');
  });
});

test('an account of another backend is answered with its owner', async () => {
  rig.elsewhere.add('bob@postern.test');
  const { status, headers } = await rig.ask(
    'admin',
    {},
    JSON.stringify({ op: 'account-show', address: 'bob@postern.test' }),
  );
  expect(status).toBe(421);
  expect(headers).toMatchObject({ 'postern-owner': 'backend-2', 'postern-epoch': '7' });
});

test('an account is added, shown, listed, given a password, and removed', async () => {
  const bob = 'bob@postern.test';
  expect(
    await admin({ op: 'account-add', address: bob, password: 'one', quotaBytes: 5_000_000 }),
  ).toMatchObject({
    status: 200,
    body: { address: bob, quotaBytes: 5_000_000, messages: 0 },
  });
  expect(await admin({ op: 'account-list', domain: 'postern.test', countMax: 10 })).toMatchObject({
    body: { accounts: ['ann@postern.test', bob] },
  });
  expect(
    await admin({ op: 'account-list', domain: 'postern.test', after: 'ann@postern.test', countMax: 10 }),
  ).toMatchObject({
    body: { accounts: [bob] },
  });
  expect(await admin({ op: 'account-passwd', address: bob, password: 'two' })).toMatchObject({ status: 200 });
  expect(await login(bob, 'one')).toBe(401);
  expect(await login(bob, 'two')).toBe(200);
  expect(await admin({ op: 'account-remove', address: bob })).toMatchObject({ status: 200 });
  expect(await login(bob, 'two')).toBe(401);
  expect((await admin({ op: 'status' })).status).toBe(200);
  expect(JSON.stringify(rig.logged)).not.toMatch(/"one"|"two"/);
});

async function login(user: string, secret: string): Promise<number> {
  const headers = {
    'postern-account': encodeURIComponent(user),
    'postern-credentials': credentialsOf(user, secret),
  };
  return (await rig.ask('login', headers)).status;
}

describe('login', () => {
  const rows = [
    ['ann@postern.test', password, 200],
    ['ann@postern.test', 'wrong', 401],
    ['ann@postern.test', '', 401],
    ['nobody@postern.test', password, 401],
  ] as const;
  test.each(rows)('%s with %j: %d', async (user, secret, status) => {
    expect(await login(user, secret)).toBe(status);
  });

  test('without credentials is 400', async () => {
    expect((await rig.ask('login', { 'postern-account': 'ann%40postern.test' })).status).toBe(400);
  });
});
