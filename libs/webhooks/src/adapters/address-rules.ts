import { BlockList, isIP } from 'node:net';

// https://www.iana.org/assignments/iana-ipv4-special-registry, and multicast and reserved addresses (RFC 1112).
const SPECIAL_IPV4 = [
  '0.0.0.0/8', // this host, this network
  '10.0.0.0/8', // private
  '100.64.0.0/10', // carrier-grade NAT
  '127.0.0.0/8', // loopback
  '169.254.0.0/16', // link-local: among others, the metadata of clouds
  '172.16.0.0/12', // private
  '192.0.0.0/24', // protocol assignments
  '192.0.2.0/24', // documentation
  '192.88.99.0/24', // 6to4 relays
  '192.168.0.0/16', // private
  '198.18.0.0/15', // benchmarks
  '198.51.100.0/24', // documentation
  '203.0.113.0/24', // documentation
  '224.0.0.0/4', // multicast
  '240.0.0.0/4', // reserved, broadcast
];
// Of IPv6, what is not in here is no address of the public Internet (RFC 4291, section 2.4): loopback, unique local, link-local,
// multicast, IPv4-mapped, NAT64 (RFC 6052, RFC 8215) ...
const PUBLIC_IPV6 = ['2000::/3'];
// ... and of it, https://www.iana.org/assignments/iana-ipv6-special-registry: some of these lead to IPv4 addresses.
const SPECIAL_IPV6 = [
  '2001::/23', // protocol assignments, Teredo
  '2001:db8::/32', // documentation
  '2002::/16', // 6to4
  '3fff::/20', // documentation
];

/** Which addresses webhooks may be sent to. */
export class AddressRules {
  private readonly allowed: Networks;
  private readonly special = new Networks([...SPECIAL_IPV4, ...SPECIAL_IPV6]);
  private readonly publicIpv6 = new Networks(PUBLIC_IPV6);

  /** @param allowed addresses and networks (CIDR) that may be sent to although they are private or special. */
  constructor(allowed: readonly string[]) {
    this.allowed = new Networks(allowed);
  }

  /** Whether an IP address may be connected to. What is no address may not. */
  permits(address: string): boolean {
    const version = isIP(address);
    // An address of one interface only, such as fe80::1%eth0.
    if (version === 0 || address.includes('%')) return false;
    if (this.allowed.have(address)) return true;
    return !this.special.have(address) && (version === 4 || this.publicIpv6.have(address));
  }

  /** Whether the host of an address (URL) is an IP address that may not be connected to. */
  refusesHost({ hostname }: URL): boolean {
    const host = hostname.replace(/^\[|\]$/g, '');
    return isIP(host) !== 0 && !this.permits(host);
  }
}

/** IPv4 and IPv6 apart: a BlockList takes 1.2.3.4 and ::ffff:1.2.3.4 for the same, and so ::ffff:0:0/96 for all of IPv4. */
class Networks {
  private readonly ipv4 = new BlockList();
  private readonly ipv6 = new BlockList();

  constructor(networks: readonly string[]) {
    for (const network of networks) {
      const [address = '', bits] = network.split('/');
      const [list, family, all] =
        isIP(address) === 4 ? ([this.ipv4, 'ipv4', 32] as const) : ([this.ipv6, 'ipv6', 128] as const);
      list.addSubnet(address, Number(bits ?? all), family);
    }
  }

  have(address: string): boolean {
    return isIP(address) === 4 ? this.ipv4.check(address, 'ipv4') : this.ipv6.check(address, 'ipv6');
  }
}
