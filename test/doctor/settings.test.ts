import { generateKeyPairSync } from 'node:crypto'
import { expect, test } from 'vitest'
import { parseConfig } from '../../src/lib/config/config.ts'
import { settingChecks } from '../../src/lib/doctor/settings.ts'

test('an App is shown as what people meet: check runs that link here, and the sign-in', async () => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const app = {
    'github.app_id': '123',
    'github.private_key': privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
  const found = async (flags: Record<string, string>) => {
    const config = parseConfig({ registry: 'registry.test', url: 'https://conveyor.test', ...flags })
    const checks = settingChecks(config).filter(({ part }) => part !== 'webhooks')
    return Promise.all(checks.map(async ({ run }) => (await run(new AbortController().signal)).found))
  }
  expect((await found({ url: 'http://conveyor.test:8080' }))[1]).toBe(
    'accepts requests only from this machine',
  )
  expect(await found({ auth: 'ops:secret' })).toEqual([
    'commit statuses link to https://conveyor.test',
    'requires the login of ops',
  ])
  const login = { 'github.client_id': 'Iv23liAbCdEf123456', 'github.client_secret': 'hush' }
  expect(await found({ ...app, ...login, auth: 'ops:secret' })).toEqual([
    'check runs link to https://conveyor.test',
    'requires the login of ops, or a sign-in with GitHub',
  ])
  expect(await found({ ...app, ...login, checks: 'both' })).toEqual([
    'commit statuses and check runs link to https://conveyor.test',
    'requires a token, or a sign-in with GitHub: no login is set, and a proxy serves https://conveyor.test',
  ])
})
