import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { accountDirectory } from '../../../backend/accounts/account-files.ts';
import { openAccounts } from '../../../backend/accounts/local-accounts.ts';
import { backendSettings } from '../../../backend/settings.ts';
import { silentLog } from '../../../base/log.ts';
import { defaultsOf } from '../../../base/settings.ts';
import { waitFor } from '../../support/process.ts';
import { ScramClient } from '../../support/scram-client.ts';

const demo = 'demo@postern.test';
let root: string;
let accounts: Awaited<ReturnType<typeof openAccounts>>;

const start = async (scram: boolean, secret = Buffer.alloc(32, 1)): Promise<void> => {
  accounts = await openAccounts({
    root,
    settings: defaultsOf(backendSettings),
    log: silentLog,
    guardFor: () => ({ epoch: 1, assert: () => {} }),
    owns: () => true,
    scram,
    loginSecret: secret,
  });
};

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'postern-logins-'));
  await start(true);
});

afterEach(async () => {
  await accounts.close();
  await rm(root, { recursive: true, force: true });
});

const fileOf = async (address = demo): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(path.join(accountDirectory(root, address), 'account.json'), 'utf8'));

/** The server's signature, if the proof of this password is right. */
async function prove(password: string, user = demo): Promise<string | undefined> {
  const { salt, iterations } = await accounts.scramStart(user);
  const client = new ScramClient(user, password);
  const serverFirst = `r=rOprNGfwEbeRWgbNEkqOserver,s=${salt.toString('base64')},i=${iterations}`;
  const [withoutProof = '', proof = ''] = client.reply(serverFirst).final.split(',p=');
  const signed = `${client.first().slice('n,,'.length)},${serverFirst},${withoutProof}`;
  const credentials = { mechanism: 'scram', user, authMessage: signed, proof } as const;
  expect(await accounts.verify(credentials)).toBe((await accounts.scramSignature(credentials)) !== undefined);
  return accounts.scramSignature(credentials);
}

const plain = (password: string): Promise<boolean> =>
  accounts.verify({ mechanism: 'password', user: demo, password });

describe('SCRAM keys', () => {
  test('are made with the password, and hold neither it nor anything a login could be made from', async () => {
    await accounts.add(demo, 'pencil');
    expect(await prove('pencil')).toBeDefined();
    expect(await prove('Pencil')).toBeUndefined();
    expect(await prove('pencil', 'nobody@postern.test')).toBeUndefined();
    expect(Object.keys((await fileOf()).scram as object).sort()).toEqual([
      'iterations',
      'salt',
      'serverKey',
      'storedKey',
    ]);
  });

  test('a changed password has new ones, and a new salt', async () => {
    await accounts.add(demo, 'old');
    const before = await accounts.scramStart(demo);
    await accounts.setPassword(demo, 'new');
    expect((await accounts.scramStart(demo)).salt.equals(before.salt)).toBe(false);
    expect([await prove('old'), typeof (await prove('new'))]).toEqual([undefined, 'string']);
  });

  test('a password set without them gets them at its next login, with the salt shown before', async () => {
    await accounts.close();
    await start(false);
    await accounts.add(demo, 'pencil');
    expect((await fileOf()).scram).toBeUndefined();
    await accounts.close();
    await start(true);
    const shown = await accounts.scramStart(demo);
    expect(await prove('pencil')).toBeUndefined();
    expect(await plain('wrong')).toBe(false);
    expect((await fileOf()).scram).toBeUndefined();
    expect(await plain('pencil')).toBe(true);
    await waitFor('the keys', async () => (await fileOf()).scram !== undefined);
    expect(await accounts.scramStart(demo)).toEqual(shown);
    expect(await prove('pencil')).toBeDefined();
  });

  test('a password without a SASLprep form still logs in by itself', async () => {
    await accounts.add(demo, 'tab\tinside');
    expect((await fileOf()).scram).toBeUndefined();
    expect(await plain('tab\tinside')).toBe(true);
  });

  test('spoilt keys in the file are no keys', async () => {
    await accounts.add(demo, 'pencil');
    const name = path.join(accountDirectory(root, demo), 'account.json');
    for (const spoilt of [{ iterations: 1 }, { storedKey: '' }, { salt: 7 }, { serverKey: 'AAAA' }]) {
      const file = await fileOf();
      await writeFile(name, JSON.stringify({ ...file, scram: { ...(file.scram as object), ...spoilt } }));
      await accounts.close();
      await start(true);
      expect(await prove('pencil')).toBeUndefined();
      expect(await plain('pencil')).toBe(true);
      await waitFor('new keys', async () => (await prove('pencil')) !== undefined);
    }
  });

  test('salts of names without an account are those of the cluster, on every backend', async () => {
    const one = await accounts.scramStart('nobody@postern.test');
    await accounts.close();
    await start(true);
    expect(await accounts.scramStart('nobody@postern.test')).toEqual(one);
    await accounts.close();
    await start(true, Buffer.alloc(32, 2));
    expect(await accounts.scramStart('nobody@postern.test')).not.toEqual(one);
  });
});

describe('imported hashes', () => {
  const hash = '{SSHA}EE7H/vr2oI+VVTQyMN+ePt9x4qM/d3NJ';
  const password = 'pässwort 1';

  test('a password changed while the old hash is being replaced stays changed', async () => {
    for (let round = 0; round < 5; round++) {
      const address = `u${round}@postern.test`;
      await accounts.add(address, { hash });
      const login = { mechanism: 'password', user: address, password } as const;
      expect(await accounts.verify(login)).toBe(true);
      await accounts.setPassword(address, 'changed');
      await new Promise((resolve) => setTimeout(resolve, 150));
      expect(await accounts.verify(login)).toBe(false);
      expect(await accounts.verify({ ...login, password: 'changed' })).toBe(true);
    }
  });

  test('many logins at once replace it once, and all are let in', async () => {
    await accounts.add(demo, { hash });
    expect(await Promise.all(Array.from({ length: 20 }, () => plain(password)))).toEqual(
      Array(20).fill(true),
    );
    await waitFor('our own hash', async () => (await fileOf()).scram !== undefined);
    expect(await fileOf()).toMatchObject({ credentials: { scheme: 'scrypt' } });
    expect([await plain(password), await plain('x')]).toEqual([true, false]);
  });

  test('SCRAM keys of another server serve at once, and stay', async () => {
    const keys =
      '{SCRAM-SHA-256}4096,sVmXks3ahAFRKN8jqTCLgw==,GyNOA2rYhqQ+g4FyCoUeokbCB1Bsf/SeFoi1o1LbvvI=,0a8NPa/7iUfKxnwKZbKFtCKSbLbEEzxmB28uFgQ/cLk=';
    await accounts.add(demo, { hash: keys });
    expect(await prove(password)).toBeDefined();
    expect([await plain('x'), await plain(password)]).toEqual([false, true]);
    await waitFor('our own hash', async () => /scrypt/.test(JSON.stringify(await fileOf())));
    expect(await fileOf()).toMatchObject({ scram: { iterations: 4096 } });
    expect(await prove(password)).toBeDefined();
  });
});
