import { afterEach, describe, expect, test } from '@jest/globals';
import { DoorRig, type RigOptions } from '../session/door-rig.ts';

const rigs: DoorRig[] = [];
async function open(options: Partial<RigOptions> = {}): Promise<DoorRig> {
  const rig = await DoorRig.open({ protocol: 'pop3', ...options });
  rigs.push(rig);
  return rig;
}
afterEach(async () => {
  for (const rig of rigs.splice(0)) await rig.close();
});

describe('the POP3 door', () => {
  test('logs in over TLS and carries bytes both ways', async () => {
    const rig = await open();
    const client = rig.secure();
    client.send('USER ann@postern.test\r\nPASS right\r\nSTAT\r\n');
    await client.until(/\+OK Logged in\r\n<ann@postern\.test> STAT\r\n/);
    expect(rig.ownerGot.get('ann@postern.test')).toBe('STAT\r\n');
    client.end();
    await rig.emptied();
    expect(rig.told.at(-1)).toBe('disconnected ann@postern.test');
  });

  test('STLS throws away what came in the same segment (CASES 20)', async () => {
    const rig = await open();
    const client = rig.plain();
    await client.until(/^\+OK/);
    client.send('STLS\r\nUSER ann@postern.test\r\nPASS right\r\n');
    await client.until(/Begin TLS now\r\n$/);
    await client.startTls();
    client.send('PASS right\r\n');
    expect(await client.until(/\r\n/)).toBe('-ERR USER first\r\n');
    expect(rig.ownerGot.size).toBe(0);
    client.end();
  });

  test('nothing after a failing PASS reaches an owner', async () => {
    const rig = await open();
    const client = rig.secure();
    client.send('USER ann@postern.test\r\nPASS wrong\r\nDELE 1\r\nQUIT\r\n');
    expect(await client.untilClosed()).toMatch(/-ERR \[AUTH\] .*\r\n-ERR .*\r\n\+OK Bye\r\n$/);
    expect(rig.ownerGot.size).toBe(0);
  });

  const outcomes = [
    { password: 'unreachable', says: /-ERR \[SYS\/TEMP\]/ },
    { password: 'limit', says: /-ERR \[IN-USE\]/ },
    { password: 'wrong', says: /-ERR \[AUTH\]/ },
  ];
  test.each(outcomes)('a login that is $password is worded so', async ({ password, says }) => {
    const rig = await open();
    const client = rig.secure();
    client.send(`USER ann@postern.test\r\nPASS ${password}\r\n`);
    await client.until(says);
    client.end();
  });

  test('a plugin’s disconnect is said and done', async () => {
    const rig = await open({ ask: () => ({ word: 'disconnect', say: 'Go away', plugin: 'x' }) });
    expect(await rig.plain().untilClosed()).toBe('-ERR Go away\r\n');
  });

  test('a slow client is told off (CASES 60)', async () => {
    const rig = await open({ greetingMs: 300 });
    expect(await rig.plain().untilClosed()).toMatch(/-ERR Too slow/);
  });

  test('another protocol by ALPN is refused (CASES 63)', async () => {
    const rig = await open();
    await expect(rig.secure({ ALPNProtocols: ['imap'] }).until(/OK/)).rejects.toThrow(/closed/);
    const client = rig.secure({ ALPNProtocols: ['pop3'] });
    await client.until(/\+OK/);
    client.end();
  });

  test('a running session is not told anything that could be taken for mail when its owner is lost', async () => {
    const rig = await open();
    const client = rig.secure();
    client.send('USER ann@postern.test\r\nPASS right\r\n');
    await client.until(/Logged in\r\n/);
    const before = client.got;
    rig.streams[0]!.destroy(new Error('the backend was killed'));
    expect(await client.untilClosed()).toBe(before);
  });
});
