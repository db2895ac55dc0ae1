import { expect, test } from 'vitest';
import { isPublicAddress } from './public-address.ts';

test.each([
  '1.1.1.1',
  '9.9.9.9',
  '100.63.255.255',
  '172.15.0.1',
  '172.32.0.1',
  '192.167.1.1',
  '223.255.255.255',
  '2606:4700::1',
  '2a00:1450:4001::1',
])('%s is on the public internet', (address) => expect(isPublicAddress(address)).toBe(true));

test.each([
  ['this network', '0.0.0.0'],
  ['loopback', '127.0.0.1'],
  ['loopback, its end', '127.255.255.255'],
  ['private 10', '10.1.2.3'],
  ['private 172.16', '172.16.0.1'],
  ['private 172.31', '172.31.255.255'],
  ['private 192.168', '192.168.1.1'],
  ["behind a carrier's NAT", '100.64.0.1'],
  ['link-local, the metadata of clouds', '169.254.169.254'],
  ['multicast', '224.0.0.1'],
  ['broadcast', '255.255.255.255'],
  ['IPv6 loopback', '::1'],
  ['IPv6 unspecified', '::'],
  ['IPv6 private', 'fd00::1'],
  ['IPv6 link-local', 'fe80::1'],
  ['IPv6 link-local with a zone', 'fe80::1%eth0'],
  ['IPv6 multicast', 'ff02::1'],
  ['IPv4 in IPv6, private', '::ffff:127.0.0.1'],
  ['IPv4 in IPv6, public', '::ffff:1.1.1.1'],
  ['IPv4 in IPv6, the old way', '::127.0.0.1'],
  ['NAT64', '64:ff9b::7f00:1'],
  ['6to4 of loopback', '2002:7f00:1::'],
  ['Teredo', '2001::1'],
  ['a name', 'localhost'],
  ['nothing', ''],
])('%s is not (%s)', (_, address) => expect(isPublicAddress(address)).toBe(false));
