import { BlockList, isIPv4, isIPv6 } from 'node:net';

/** IPv4 networks outside the public internet (IANA's special-purpose registry), multicast and reserved ones included. */
const notPublic4 = listOf('ipv4', [
  ['0.0.0.0', 8], // this network
  ['10.0.0.0', 8], // private
  ['100.64.0.0', 10], // shared, behind a carrier's NAT
  ['127.0.0.0', 8], // loopback
  ['169.254.0.0', 16], // link-local; clouds serve their machines' secrets there
  ['172.16.0.0', 12], // private
  ['192.0.0.0', 24], // protocol assignments
  ['192.0.2.0', 24], // documentation
  ['192.88.99.0', 24], // 6to4 relays
  ['192.168.0.0', 16], // private
  ['198.18.0.0', 15], // benchmarks
  ['198.51.100.0', 24], // documentation
  ['203.0.113.0', 24], // documentation
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved, and broadcast
]);

/** IPv6 of the public internet; loopback, private, link-local, multicast and IPv4 in IPv6 lie outside. */
const global6 = listOf('ipv6', [['2000::', 3]]);
/** Networks within it that are not public or lead to IPv4 addresses. */
const notPublic6 = listOf('ipv6', [
  ['2001::', 23], // protocol assignments, Teredo among them
  ['2001:db8::', 32], // documentation
  ['2002::', 16], // 6to4
  ['3fff::', 20], // documentation
]);

/** Whether an address (not a host name) belongs to the public internet. */
export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !notPublic4.check(address, 'ipv4');
  const [bare = ''] = address.split('%'); // a zone names an interface of this machine
  return isIPv6(bare) && global6.check(bare, 'ipv6') && !notPublic6.check(bare, 'ipv6');
}

function listOf(family: 'ipv4' | 'ipv6', subnets: readonly (readonly [string, number])[]): BlockList {
  const list = new BlockList();
  for (const [address, prefix] of subnets) list.addSubnet(address, prefix, family);
  return list;
}
