import { execFileSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import { clientOf, inNetworks, isNetwork } from '../../src/lib/net/networks.ts'

describe('inNetworks', () => {
  test.each([
    ['10.0.0.0/8', '10.255.0.1', true],
    ['10.0.0.0/8', '11.0.0.1', false],
    ['10.0.0.0/8', '::ffff:10.1.2.3', true],
    ['::ffff:10.0.0.0/104', '10.1.2.3', true],
    ['::ffff:10.0.0.0/104', '::ffff:11.1.2.3', false],
    ['192.0.2.7', '192.0.2.7', true],
    ['192.0.2.7', '192.0.2.8', false],
    ['fd00::/8', 'fdab::1', true],
    ['fd00::/8', 'fe80::1', false],
    ['::1', '::1', true],
    ['::1', '127.0.0.1', false],
    ['10.0.0.0/8', '', false],
    ['10.0.0.0/8', 'unknown', false],
    ['10.0.0.0/8', '10.1.2.3:80', false],
  ])('%s has %s: %s', (network, address, has) => {
    expect(inNetworks([network])(address)).toBe(has)
    expect(inNetworks(['203.0.113.0/24', network])(address)).toBe(has)
  })

  test.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:db8::', '2001:db8:0:0::/64'],
    ['2001::5:6:7:8:9', '2001:0:0:5::/64'],
    ['::1', '0:0:0:0::/64'],
    ['64:ff9b::192.0.2.7', '64:ff9b:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['', ''],
  ])('what a client at %s has is %s', (address, client) => expect(clientOf(address)).toBe(client))

  test('without networks, nothing is in them', () => {
    expect(inNetworks([])('127.0.0.1')).toBe(false)
  })

  test("agrees with Python's ipaddress", () => {
    const networks = [
      '10.0.0.0/9',
      '172.16.4.0/22',
      '203.0.113.7/32',
      'fd00:1::/33',
      '2001:db8::/127',
      '128.0.0.0/1',
    ]
    const addresses = [
      ...['10.127.255.255', '10.128.0.0', '172.16.7.255', '172.16.8.0', '203.0.113.7', '203.0.113.6'],
      ...['fd00:1:7fff::1', 'fd00:1:8000::', '2001:db8::1', '2001:db8::2', '200.1.1.1', '127.0.0.1', '::1'],
    ]
    const program = `import ipaddress, json, sys
networks, addresses = json.loads(sys.argv[1])
print(json.dumps([[ipaddress.ip_address(a) in ipaddress.ip_network(n) for a in addresses] for n in networks]))`
    const expected = JSON.parse(
      execFileSync('python3', ['-c', program, JSON.stringify([networks, addresses])], { encoding: 'utf8' }),
    )
    expect(networks.map((network) => addresses.map(inNetworks([network])))).toEqual(expected)
  })
})

test.each([
  '',
  '10.0.0.0/33',
  '10.0.0.0/-1',
  '10.0.0.0/',
  '10.0.0.0/8/8',
  '10.0.0/8',
  'fd00::/129',
  'fe80::1%eth0',
  'proxy.lan',
  '10.0.0.0/ 8',
])('%j is not a network', (text) => {
  expect(isNetwork(text)).toBe(false)
  expect(() => inNetworks([text])).toThrow('is not a network')
})
