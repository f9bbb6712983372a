import { describe, expect, test } from 'vitest'
import { notifySettingsFor } from '../../src/lib/config/build-settings.ts'
import { parseConfig, secretsOf } from '../../src/lib/config/config.ts'

/** The options of webhooks out. */

function problem(values: Record<string, string>): string {
  try {
    parseConfig(values)
  } catch (error) {
    return (error as Error).message
  }
  throw new Error('it was accepted')
}

describe('--notify.url', () => {
  const { notify } = parseConfig({
    'notify.url': 'https://a.example/x?y=z,https://b.example,acme/web:https://c.example,https://b.example/',
    'notify.secret': 'of-all,acme/web:own',
    'notify.format': 'Acme/Hub:dockerhub',
  })

  test('of a repository replaces those of all, and so do its secret and format', () => {
    expect(notifySettingsFor(notify, 'acme/other')).toEqual({
      ...{ urls: ['https://a.example/x?y=z', 'https://b.example/'], secret: 'of-all', format: 'conveyor' },
    })
    expect(notifySettingsFor(notify, 'ACME/Web')).toEqual({
      ...{ urls: ['https://c.example/'], secret: 'own', format: 'conveyor' },
    })
    expect(notifySettingsFor(notify, 'acme/hub')).toMatchObject({ secret: 'of-all', format: 'dockerhub' })
    const none = notifySettingsFor(parseConfig({}).notify, 'acme/web')
    expect(none).toEqual({ urls: [], secret: null, format: 'conveyor' })
  })

  test.each(['ftp://a.example', 'a.example', 'https://me:hush@a.example', 'acme/web:'])(
    '%s is not accepted, and not shown, as it may contain a password',
    (url) => {
      const message = problem({ 'notify.url': url })
      expect(message).toContain('--notify.url (NOTIFY_URL) is not usable: expected ')
      expect(message).not.toContain(url)
    },
  )

  test.each([
    'http://localhost:3000',
    'http://127.0.0.9/x',
    'http://[::1]:1/',
    'acme/web:http://0x7f000001/',
  ])('%s needs --notify.local', (url) => {
    expect(problem({ 'notify.url': url })).toContain('requires --notify.local (NOTIFY_LOCAL)')
    expect(parseConfig({ 'notify.url': url, 'notify.local': 'true' }).notify.urls).toHaveLength(1)
  })

  test.each(['abc,def', 'abc,', ',abc', 'acme/web:one,acme/Web:two', 'acme/web:'])(
    'a --notify.secret %s could sign with another part than is meant, and is rejected',
    (secret) => {
      const message = problem({ 'notify.secret': secret })
      expect(message).toContain(
        '--notify.secret (NOTIFY_SECRET) is not usable: expected some text without commas',
      )
      expect(message).not.toContain(secret)
    },
  )

  test('and --notify.secret are secrets, which no log shows', () => {
    const secrets = secretsOf(
      parseConfig({ 'notify.url': 'https://a.example/p4ssw0rd', 'notify.secret': 'hush' }),
    )
    expect(secrets).toContain('https://a.example/p4ssw0rd')
    expect(secrets).toContain('hush')
  })
})

test('--rebuild.base takes patterns of repositories, and nothing by default', () => {
  expect(parseConfig({ 'rebuild.base': 'acme/*,other/web' }).rebuild.bases).toEqual(['acme/*', 'other/web'])
  expect(parseConfig({}).rebuild.bases).toEqual([])
  expect(problem({ 'rebuild.base': 'acme' })).toContain('--rebuild.base (REBUILD_BASE) is "acme": expected ')
})
