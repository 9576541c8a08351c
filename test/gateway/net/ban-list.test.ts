/** Bans: how they are spelled, and whom they keep out. */
import { describe, expect, test } from '@jest/globals';
import { bansMax } from '../../../cluster-protocol/bans.ts';
import { clientOf } from '../../../gateway/net/address.ts';
import { BanList, bannable } from '../../../gateway/net/ban-list.ts';

const forever = Number.POSITIVE_INFINITY;
const listOf = (...texts: string[]): BanList => {
  const bans = new BanList();
  for (const text of texts) bans.add(bannable(text).network, forever);
  return bans;
};
/** As the listener asks: the address a socket or a PROXY header gave, made canonical. */
const isBanned = (bans: BanList, address: string): boolean => bans.has(clientOf(address, 1).address, 0);

describe('a ban', () => {
  test.each([
    ['192.0.2.7', '192.0.2.7/32'],
    ['192.0.2.7/24', '192.0.2.0/24'],
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['2001:DB8:0:1::5', '2001:db8:0:1::5/128'],
    ['2001:db8:1:2:3::/48', '2001:db8:1::/48'],
    ['2001:db8::/32', '2001:db8::/32'],
    ['2001:db8:ffff::/33', '2001:db8:8000::/33'],
    // An IPv6 address that carries an IPv4 address is that address.
    ['::ffff:192.0.2.7', '192.0.2.7/32'],
    ['::ffff:192.0.2.0/120', '192.0.2.0/24'],
    ['64:ff9b::c000:207', '192.0.2.7/32'],
    ['2002:c000:207::1', '192.0.2.7/32'],
  ])('of %s is written %s', (text, name) => {
    expect(bannable(text).name).toBe(name);
    expect(bannable(name).name).toBe(name);
  });

  test.each([
    '',
    'x',
    '192.0.2',
    '0x7f.1',
    '192.0.2.0/33',
    '192.0.2.0/-1',
    '2001:db8::/129',
    '192.0.2.0/x',
    'example.org',
  ])('of "%s" is refused', (text) =>
    expect(() => bannable(text)).toThrow(/is no address or network; write 192\.0\.2\.7/),
  );

  test.each([
    ['0.0.0.0/0', '8'],
    ['10.0.0.0/7', '8'],
    ['::/0', '32'],
    ['2001::/31', '32'],
  ])('of %s is too wide', (text, least) => {
    expect(() => bannable(text)).toThrow(`is wider than /${least}; ban narrower networks`);
  });
});

describe('a list of bans', () => {
  const bans = listOf(
    '192.0.2.7',
    '198.51.100.0/24',
    '10.0.0.0/8',
    '2001:db8:1::/48',
    '2001:db8:2:8000::/49',
  );
  test.each([
    ['192.0.2.7', true],
    ['192.0.2.8', false],
    ['198.51.100.255', true],
    ['198.51.101.0', false],
    ['10.255.255.255', true],
    ['11.0.0.0', false],
    ['2001:db8:1:ffff::1', true],
    ['2001:db8:2:7fff::1', false],
    ['2001:db8:2:8000::1', true],
    ['::ffff:192.0.2.7', true],
    ['::ffff:c000:207', true],
    ['64:ff9b::c000:207', true],
    ['2002:c000:207::9', true],
    ['64:ff9b::c000:208', false],
    ['::1', false],
  ])('of %s: %s', (address, wanted) => expect(isBanned(bans, address)).toBe(wanted));

  test('forgets what is removed, and minds the end of a ban', () => {
    const list = new BanList();
    const { network } = bannable('192.0.2.0/24');
    list.add(network, 1000);
    list.add(network, 2000);
    expect(list.size).toBe(1);
    expect([list.has('192.0.2.1', 1999), list.has('192.0.2.1', 2000)]).toEqual([true, false]);
    list.remove(bannable('192.0.2.9/24').network);
    list.remove(network);
    expect([list.size, list.has('192.0.2.1', 0)]).toEqual([0, false]);
  });

  test('holds no more than its limit', () => {
    const list = new BanList();
    for (let number = 0; number < bansMax; number++)
      expect(
        list.add(bannable(`10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`).network, forever),
      ).toBe(true);
    expect(list.add(bannable('192.0.2.1').network, forever)).toBe(false);
    expect(list.add(bannable('10.0.0.1').network, forever)).toBe(true);
    expect([list.size, list.has('192.0.2.1', 0), list.has('10.0.39.15', 0)]).toEqual([bansMax, false, true]);
  });
});
