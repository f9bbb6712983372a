import { describe, expect, test } from 'vitest'
import { parseConfig } from '../../src/lib/config/config.ts'

/** Proxies in front of the server, and the users that they name. */

const problemsOf = (values: Record<string, string>): string => {
  try {
    parseConfig(values)
    return ''
  } catch (error) {
    return (error as Error).message
  }
}

describe('--auth.header and --auth.proxies', () => {
  test('name the header in lower case, and the networks of proxies', () => {
    const { access } = parseConfig({ 'auth.header': 'X-Forwarded-User', 'auth.proxies': '10.0.0.0/8, ::1' })
    expect(access).toEqual({
      header: 'x-forwarded-user',
      headerScope: 'build',
      proxies: expect.any(Function),
    })
    expect(['10.1.2.3', '::1', '11.1.2.3'].map((address) => access.proxies?.(address))).toEqual([
      true,
      true,
      false,
    ])
    expect(parseConfig({}).access).toEqual({ header: null, headerScope: 'build', proxies: null })
  })

  test.each([
    [{ 'auth.header': 'X-Forwarded-User' }, '--auth.header (AUTH_HEADER) requires --auth.proxies'],
    [{ 'auth.header-scope': 'read' }, '--auth.header-scope (AUTH_HEADER_SCOPE) requires --auth.header'],
    [{ 'auth.header': 'Authorization', 'auth.proxies': '::1' }, 'expected the name of a header'],
    [{ 'auth.header': 'a b', 'auth.proxies': '::1' }, 'expected the name of a header'],
    [{ 'auth.proxies': 'proxy.lan' }, 'expected IP addresses or networks'],
    [{ 'auth.proxies': '0.0.0.0/0' }, 'expected IP addresses or networks'],
    [{ 'auth.proxies': '::ffff:0.0.0.0/96' }, 'expected IP addresses or networks'],
    [{ auth: 'ops:cvy_secret' }, 'would be taken for a token'],
    [
      { 'auth.header': 'x', 'auth.proxies': '::1', 'auth.header-scope': 'all' },
      'expected read, build, or admin',
    ],
  ])('%j is a problem', (values, problem) => {
    expect(problemsOf(values)).toContain(problem)
  })
})
