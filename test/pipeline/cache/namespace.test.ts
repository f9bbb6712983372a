import { expect, test } from 'vitest'
import { cacheNamespace } from '../../../src/lib/pipeline/cache/namespace.ts'

const SECRET = Buffer.alloc(32, 7)

test('a namespace belongs to one repository, whatever the case of its name, or to a group', () => {
  const of = (repository: string, group: string | null = null) => cacheNamespace(SECRET, repository, group)
  expect(of('acme/app')).toMatch(/^[0-9a-f]{64}$/)
  expect(of('Acme/App')).toBe(of('acme/app'))
  expect(of('acme/site')).not.toBe(of('acme/app'))
  expect(of('acme/site', 'web')).toBe(of('acme/app', 'web'))
  expect(of('acme/app', 'acme/app')).not.toBe(of('acme/app'))
  expect(cacheNamespace(Buffer.alloc(32, 8), 'acme/app', null)).not.toBe(of('acme/app'))
})
