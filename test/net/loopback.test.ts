import { expect, test } from 'vitest'
import { isLoopback } from '../../src/lib/net/loopback.ts'

test.each([
  ['localhost', true],
  ['localhost:5000', true],
  ['127.0.0.1', true],
  ['127.0.0.1:5000', true],
  ['127.255.255.254', true],
  ['::1', true],
  ['[::1]', true],
  ['[::1]:5000', true],
  ['0:0:0:0:0:0:0:1', true],
  ['::ffff:127.0.0.1', true],
  ['[::ffff:7f00:1]:80', true],
  ['', false],
  ['localhost.example.com', false],
  ['localhost:', false],
  ['localhost:port', false],
  ['app.localhost', false],
  ['127.0.0.1.example.com', false],
  ['127.1', false],
  ['127.0.0.999', false],
  ['128.0.0.1', false],
  ['0.0.0.0', false],
  ['10.1.2.3:127', false],
  ['::', false],
  ['::2', false],
  ['::1:80', false],
  ['[::1', false],
  ['[::1]80', false],
  ['[::ffff:10.0.0.1]', false],
])('isLoopback(%j) is %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected)
})
