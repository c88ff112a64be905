import fc from 'fast-check';
import { AddressRules } from './address-rules.js';

const rules = new AddressRules([]);
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const ipv4 = bytes(4).map((each) => [...each].join('.'));
const groups = (each: Uint8Array): string =>
  (Buffer.from(each).toString('hex').match(/.{4}/g) ?? []).join(':');
const embedded = (address: string): string => groups(Uint8Array.from(address.split('.').map(Number)));

/** Of the registry, said once more, by arithmetic. */
function isSpecialIpv4(address: string): boolean {
  const [a = 0, b = 0, c = 0] = address.split('.').map(Number);
  return (
    [0, 10, 127].includes(a) ||
    a >= 224 ||
    (a === 100 && b >= 64 && b < 128) ||
    (a === 169 && b === 254) ||
    (a === 172 && b >= 16 && b < 32) ||
    (a === 192 && b === 168) ||
    (a === 192 && b === 0 && (c === 0 || c === 2)) ||
    (a === 192 && b === 88 && c === 99) ||
    (a === 198 && (b === 18 || b === 19)) ||
    (a === 198 && b === 51 && c === 100) ||
    (a === 203 && b === 0 && c === 113)
  );
}

describe('addresses that may be sent to', () => {
  it('are of IPv4 those that are not special, each of them', () => {
    const edges = fc.constantFrom(
      ...['0', '10', '100.64', '127', '169.254', '172.16', '172.31', '192.0.0', '192.0.2', '192.88.99'],
      ...['192.168', '198.18', '198.19', '198.51.100', '203.0.113', '224', '240', '255', '9', '11', '100.63'],
      ...['100.128', '126', '128', '169.253', '169.255', '172.15', '172.32', '192.167', '192.169', '223'],
    );
    const near = fc.tuple(edges, bytes(4)).map(([edge, rest]) => {
      const given = edge.split('.');
      return [...given, ...[...rest].slice(given.length)].join('.');
    });
    fc.assert(
      fc.property(fc.oneof(ipv4, near), (address) => {
        expect(rules.permits(address)).toBe(!isSpecialIpv4(address));
      }),
      { numRuns: 2_000 },
    );
  });

  it.each([
    ['mapped into IPv6', '::ffff:'],
    ['compatible with IPv6', '::'],
    ['translated (NAT64)', '64:ff9b::'],
    ['translated within a network', '64:ff9b:1::'],
    ['translated (SIIT)', '::ffff:0:'],
  ])('are never an IPv4 address that is %s', (_what, prefix) => {
    fc.assert(
      fc.property(ipv4, (address) => {
        expect(rules.permits(`${prefix}${address}`)).toBe(false);
        expect(rules.permits(`${prefix}${embedded(address)}`)).toBe(false);
      }),
    );
  });

  it('are never an IPv4 address that is tunnelled (6to4, Teredo)', () => {
    fc.assert(
      fc.property(ipv4, bytes(8), (address, rest) => {
        expect(rules.permits(`2002:${embedded(address)}::${groups(rest.slice(0, 4))}`)).toBe(false);
        expect(rules.permits(`2001:0:${embedded(address)}:${groups(rest)}`)).toBe(false);
      }),
    );
  });

  it('are of IPv6 global unicast ones only', () => {
    fc.assert(
      fc.property(bytes(16), (address) => {
        fc.pre((address[0] ?? 0) >> 5 !== 1);
        expect(rules.permits(groups(address))).toBe(false);
      }),
    );
    expect(rules.permits('2606:4700:4700::1111')).toBe(true);
  });

  it.each([
    '::',
    '::1',
    'fe80::1',
    'fe80::1%eth0',
    '2606:4700:4700::1111%eth0',
    'fc00::1',
    'fd12:3456::1',
    'ff02::1',
    '2001:db8::1',
    '3fff::1',
    'localhost',
    '',
    '127.1',
    '0x7f000001',
  ])('are not "%s"', (address) => {
    expect(rules.permits(address)).toBe(false);
  });

  it('are besides what the operator allows, and not more', () => {
    const allowing = new AddressRules(['10.1.0.0/16', '192.168.0.7', 'fd00::/8']);
    for (const address of ['10.1.2.3', '192.168.0.7', 'fd00::1'])
      expect(allowing.permits(address)).toBe(true);
    for (const address of ['10.2.0.1', '192.168.0.8', 'fc00::1', '::ffff:10.1.2.3', '127.0.0.1'])
      expect(allowing.permits(address)).toBe(false);
  });
});

describe('hosts that are addresses', () => {
  it.each([
    ['https://127.0.0.1/', true],
    ['https://[::1]/', true],
    ['https://[::ffff:10.0.0.1]/', true],
    ['https://017700000001/', true],
    ['https://127.0.0.1./', true],
    ['https://8.8.8.8/', false],
    ['https://[2606:4700:4700::1111]/', false],
    // A name: looked up when it is connected to.
    ['https://localhost/', false],
  ])('%s is refused: %s', (url, expected) => {
    expect(rules.refusesHost(new URL(url))).toBe(expected);
  });
});
