import { describe, expect, test } from '@jest/globals';
import {
  canBeClient,
  canonicalAddress,
  clientOf,
  isInNetworks,
  parseNetwork,
} from '../../../gateway/net/address.ts';

// CASES 66; RFC 4291 2.5.5, RFC 6052 2.1, RFC 3056 2.
const canonical = [
  { text: '192.0.2.1', is: '192.0.2.1' },
  { text: '::ffff:127.0.0.1', is: '127.0.0.1' },
  { text: '::ffff:7f00:1', is: '127.0.0.1' },
  { text: '0:0:0:0:0:FFFF:7F00:0001', is: '127.0.0.1' },
  { text: '::ffff:0:127.0.0.1', is: '127.0.0.1' },
  { text: '::127.0.0.1', is: '127.0.0.1' },
  { text: '64:ff9b::7f00:1', is: '127.0.0.1' },
  { text: '64:ff9b::192.0.2.33', is: '192.0.2.33' },
  { text: '2002:7f00:1::', is: '127.0.0.1' },
  { text: '2002:c000:221:5::9', is: '192.0.2.33' },
  { text: 'fe80::1%eth0', is: 'fe80::1' },
  { text: '::ffff:10.0.0.1%lo', is: '10.0.0.1' },
  { text: '2001:DB8:0:0:0:0:0:1', is: '2001:db8::1' },
  { text: '::1', is: '::1' },
  { text: '::', is: '::' },
  { text: '64:ff9b:1::7f00:1', is: '64:ff9b:1::7f00:1' },
];

describe('addresses', () => {
  test.each(canonical)('$text is judged as $is', ({ text, is }) => {
    expect(canonicalAddress(text)).toBe(is);
    expect(clientOf(text, 1).address).toBe(is);
  });

  test.each(['', 'localhost', '127.1', '0x7f.0.0.1', '0177.0.0.1', '1.2.3.4.5', '256.1.1.1', ':::', '1'])(
    '%j is no address',
    (text) => expect(() => canonicalAddress(text)).toThrow(),
  );

  // CASES 67
  const networks = [
    { address: '192.0.2.77', network: '192.0.2.77', wide: '192.0.2.0/24' },
    { address: '2001:db8:1:2:3:4:5:6', network: '2001:db8:1:2::/64', wide: '2001:db8:1::/48' },
    { address: '2001:db8:1:2:ffff::', network: '2001:db8:1:2::/64', wide: '2001:db8:1::/48' },
    { address: '2001:db8:1:ff00::1', network: '2001:db8:1:ff00::/64', wide: '2001:db8:1::/48' },
    { address: '::ffff:192.0.2.77', network: '192.0.2.77', wide: '192.0.2.0/24' },
    { address: '64:ff9b::c000:24d', network: '192.0.2.77', wide: '192.0.2.0/24' },
  ];
  test.each(networks)('$address is counted as $network and $wide', ({ address, network, wide }) => {
    const client = clientOf(address, 25);
    expect([client.network, client.wideNetwork]).toEqual([network, wide]);
  });

  const members = [
    { network: '10.0.0.0/8', inside: ['10.1.2.3', '::ffff:10.1.2.3'], outside: ['11.0.0.1', '::1'] },
    { network: '::ffff:10.0.0.0/104', inside: ['10.1.2.3'], outside: ['11.0.0.1'] },
    { network: '127.0.0.1', inside: ['127.0.0.1', '::ffff:7f00:1'], outside: ['127.0.0.2', '::1'] },
    { network: '2001:db8::/32', inside: ['2001:db8:5::1'], outside: ['2001:db9::1', '32.1.13.184'] },
  ];
  test.each(members)('$network holds what it should', ({ network, inside, outside }) => {
    const list = [parseNetwork(network)];
    expect(inside.map((address) => isInNetworks(address, list))).toEqual(inside.map(() => true));
    expect(outside.map((address) => isInNetworks(address, list))).toEqual(outside.map(() => false));
  });

  test.each(['10.0.0.0/33', '10.0.0.0/x', '10.0.0.0/', '2001:db8::/129', 'x/8', '::ffff:10.0.0.0/8'])(
    '%j is no network',
    (text) => expect(() => parseNetwork(text)).toThrow(),
  );

  const clients = {
    '127.0.0.1': false,
    '127.9.9.9': false,
    '::1': false,
    '0.0.0.0': false,
    '::': false,
    'ff02::1': false,
    '255.255.255.255': false,
    '224.0.0.1': false,
    '10.0.0.1': true,
    '2001:db8::1': true,
  };
  test.each(Object.entries(clients))('%s can be a client elsewhere: %s', (address, can) => {
    expect(canBeClient(address)).toBe(can);
  });
});
