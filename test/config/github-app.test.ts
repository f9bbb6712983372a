import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { parseConfig, secretsOf } from '../../src/lib/config/config.ts'

const PEM = { type: 'pkcs1', format: 'pem' } as const
const { privateKey: KEY } = generateKeyPairSync('rsa', {
  modulusLength: 2048,
  privateKeyEncoding: PEM,
  publicKeyEncoding: PEM,
})
const APP = { registry: 'registry.example', 'github.app_id': '123456' }

describe('the options of a GitHub App', () => {
  test.each([
    ['with its line breaks', KEY],
    ['on one line', KEY.replaceAll('\n', '\\n')],
    ['without the last line break', KEY.trim()],
  ])('a private key %s', (_, key) => {
    const config = parseConfig({ ...APP, 'github.private_key': key })
    expect(config.github.app).toMatchObject({ id: '123456', installationId: null })
    expect(config.github.app?.privateKey).toMatch(/^-----BEGIN PRIVATE KEY-----\n/)
    expect(config.warnings).toEqual([])
    expect(secretsOf(config)).toContain(config.github.app?.privateKey)
  })

  test('an installation can be given, and a token is then not used', () => {
    const values = { 'github.private_key': KEY, 'github.installation_id': '42', 'github.token': 'ghp_x' }
    const config = parseConfig({ ...APP, ...values })
    expect(config.github.app?.installationId).toBe(42)
    expect(config.warnings).toEqual([
      '--github.token (GITHUB_TOKEN) is not used, because there is a GitHub App',
    ])
  })

  test.each<[Record<string, string>, string]>([
    [APP, '--github.private_key (GITHUB_PRIVATE_KEY) is required with --github.app_id'],
    [
      { registry: 'r.example', 'github.private_key': KEY },
      '--github.app_id (GITHUB_APP_ID) is required with --github.private_key',
    ],
    [
      { registry: 'r.example', 'github.client_id': 'Iv23liAbCdEf' },
      '--github.client_secret (GITHUB_CLIENT_SECRET) is required with --github.client_id',
    ],
    [
      { ...APP, 'github.app_id': 'conveyor' },
      '--github.app_id (GITHUB_APP_ID) is "conveyor": expected the ID',
    ],
  ])('%o is incomplete', (values, problem) => {
    expect(() => parseConfig(values)).toThrow(problem)
  })

  test.each([
    ['a public key', '-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----'],
    ['only its first line', '-----BEGIN RSA PRIVATE KEY-----'],
  ])('%s is no private key, and is not quoted', (_, key) => {
    const problem =
      '--github.private_key (GITHUB_PRIVATE_KEY) is not usable: expected the private key of a GitHub App'
    expect(() => parseConfig({ ...APP, 'github.private_key': key })).toThrow(problem)
  })
})
