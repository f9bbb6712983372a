import { chmod, mkdir, readFile, utimes, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ConveyorError } from '../../src/lib/core/errors.ts'
import {
  type DockerCredentialsOptions,
  dockerCredentials,
} from '../../src/lib/registry/docker-credentials.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

const base64 = (text: string) => Buffer.from(text).toString('base64')
const PATH = process.env.PATH ?? ''

let folder: TempDir
let configDir: string
let secrets: string[]

beforeEach(async () => {
  folder = await tempDir()
  configDir = join(folder.path, 'docker')
  const bin = join(folder.path, 'bin')
  await mkdir(configDir)
  await mkdir(bin)
  process.env.PATH = `${bin}${delimiter}${PATH}`
  secrets = []
})

afterEach(async () => {
  process.env.PATH = PATH
  await folder[Symbol.asyncDispose]()
})

const configure = (config: unknown) =>
  writeFile(join(configDir, 'config.json'), typeof config === 'string' ? config : JSON.stringify(config))

const credentials = (options: DockerCredentialsOptions = {}) =>
  dockerCredentials({ configDir, onSecret: (secret) => secrets.push(secret), ...options })

/** A credential helper: a program that docker would run. It records what it was asked. */
async function helper(name: string, body: string): Promise<() => Promise<string>> {
  const program = join(folder.path, 'bin', `docker-credential-${name}`)
  const asked = join(folder.path, `asked-${name}`)
  await writeFile(program, `#!/bin/sh\nread -r server\necho "$1 $server" >> '${asked}'\n${body}\n`)
  await chmod(program, 0o755)
  return () => readFile(asked, 'utf8').catch(() => '')
}

const knows = (user: string, secret: string) =>
  `echo '${JSON.stringify({ ServerURL: 'x', Username: user, Secret: secret })}'`
const knowsNothing = 'echo "credentials not found in native keychain"; exit 1'

async function failure(host: string, options?: DockerCredentialsOptions): Promise<ConveyorError> {
  const error = await credentials(options)
    .forHost(host)
    .then(
      () => null,
      (e: ConveyorError) => e,
    )
  if (!error) throw new Error('it did not fail')
  expect(error.kind).toBe('invalid')
  return error
}

describe('auths', () => {
  test('user and password in base64; the password may contain colons', async () => {
    await configure({ auths: { 'ghcr.io': { auth: base64('me:pass:word') } } })
    expect(await credentials().forHost('ghcr.io')).toEqual({ username: 'me', password: 'pass:word' })
    expect(await credentials().forHost('other.io')).toBeNull()
    expect(secrets).toEqual(['pass:word', 'me:pass:word'])
  })

  test('separate user and password, and identity tokens', async () => {
    await configure({
      auths: {
        'a.io': { username: 'me', password: 'pw' },
        'b.io': { auth: base64('me:ignored'), identitytoken: 'refresh' },
        'c.io': {},
      },
    })
    expect(await credentials().forHost('a.io')).toEqual({ username: 'me', password: 'pw' })
    expect(await credentials().forHost('b.io')).toEqual({ username: '<token>', password: 'refresh' })
    expect(await credentials().forHost('c.io')).toBeNull()
  })

  test.each([
    ['https://index.docker.io/v1/', 'docker.io'],
    ['index.docker.io', 'docker.io'],
    ['docker.io', 'registry-1.docker.io'],
    ['https://Registry.LAN:5000/v2/', 'registry.lan:5000'],
    ['http://registry.lan:5000', 'registry.lan:5000'],
  ])('the key %s is for %s', async (key, host) => {
    await configure({ auths: { 'x.io': { auth: base64('no:no') }, [key]: { auth: base64('me:pw') } } })
    expect(await credentials().forHost(host)).toEqual({ username: 'me', password: 'pw' })
  })

  test('a port is part of the host', async () => {
    await configure({ auths: { 'registry.lan:5000': { auth: base64('me:pw') } } })
    expect(await credentials().forHost('registry.lan')).toBeNull()
  })
})

describe('credential helpers', () => {
  test('the helper of the host precedes the default helper, which precedes auths', async () => {
    const one = await helper('one', knows('one', 'secret-one'))
    const all = await helper('all', knows('all', 'secret-all'))
    await configure({
      credHelpers: { 'one.io': 'one' },
      credsStore: 'all',
      auths: { 'one.io': { auth: base64('file:file') } },
    })
    expect(await credentials().forHost('one.io')).toEqual({ username: 'one', password: 'secret-one' })
    expect(await one()).toBe('get one.io\n')
    expect(await all()).toBe('')
    expect(secrets).toEqual(['secret-one', 'one:secret-one'])

    expect(await credentials().forHost('two.io')).toEqual({ username: 'all', password: 'secret-all' })
    expect(await all()).toBe('get two.io\n')
  })

  test('it is queried for Docker Hub and other hosts by the name under which docker stored the login', async () => {
    const asked = await helper('all', knows('me', 'pw'))
    await configure({ credsStore: 'all', auths: { 'https://old.io': {} } })
    await credentials().forHost('docker.io')
    await credentials().forHost('old.io')
    expect(await asked()).toBe('get https://index.docker.io/v1/\nget https://old.io\n')
  })

  test('one without a credential falls back to the next source', async () => {
    await helper('none', knowsNothing)
    await configure({ credsStore: 'none', auths: { 'a.io': { auth: base64('me:pw') } } })
    expect(await credentials().forHost('a.io')).toEqual({ username: 'me', password: 'pw' })
    expect(await credentials().forHost('b.io')).toBeNull()
  })

  test('one that is not installed is named, but only if no other source has a credential', async () => {
    await configure({ credsStore: 'gone', auths: { 'a.io': { auth: base64('me:pw') } } })
    expect(await credentials().forHost('a.io')).toEqual({ username: 'me', password: 'pw' })
    const error = await failure('b.io')
    expect(error.message).toBe(
      `docker-credential-gone (named in ${configDir}/config.json for b.io) is not installed`,
    )
  })

  test.each([
    ['fails', 'echo "my-secret leaked"; echo my-secret >&2; exit 3', /failed \(exit status 3\)/, {}],
    ['is garbled', 'echo my-secret', /other than \{Username, Secret\}/, {}],
    ['never answers', 'exec sleep 60', /did not respond within 0.3 s/, { helperTimeoutMs: 300 }],
  ])('one that %s is named, without what it printed', async (_, body, text, options) => {
    await helper('bad', body)
    await configure({ credsStore: 'bad' })
    const error = await failure('a.io', options)
    expect(error.message).toMatch(text)
    expect(error.advice).not.toContain('my-secret')
  })

  test('an invalid helper name is never run', async () => {
    await configure({ credHelpers: { 'a.io': '../../bin/sh' } })
    expect((await failure('a.io')).message).toMatch(
      /config.json: the credential helper for a.io has an invalid name/,
    )
  })
})

describe('files', () => {
  test('no file, no credentials', async () => {
    expect(await credentials().forHost('a.io')).toBeNull()
    expect(await credentials({ configDir: '/nonexistent/x' }).forHost('a.io')).toBeNull()
  })

  test('a new login is used without a restart', async () => {
    const it = credentials()
    await configure({ auths: { 'a.io': { auth: base64('me:old') } } })
    expect(await it.forHost('a.io')).toEqual({ username: 'me', password: 'old' })
    await configure({ auths: { 'a.io': { auth: base64('me:new') } } })
    await utimes(join(configDir, 'config.json'), 1, 1)
    expect(await it.forHost('a.io')).toEqual({ username: 'me', password: 'new' })
  })

  test('the old .dockercfg is the last resort', async () => {
    await writeFile(
      join(configDir, '.dockercfg'),
      JSON.stringify({ 'https://a.io': { auth: base64('me:pw') } }),
    )
    expect(await credentials().forHost('a.io')).toEqual({ username: 'me', password: 'pw' })
  })

  test.each([
    ['{"auths": {"a.io": {"auth": "my-secret"', /is not a JSON object/],
    ['[]', /is not a JSON object/],
    [{ auths: 'my-secret' }, /auths is not an object/],
    [{ auths: { 'a.io': { auth: 5, password: 'my-secret' } } }, /auths has an invalid entry for a.io/],
    [{ auths: { 'a.io': { auth: base64('my-secret') } } }, /the auth of a.io is not user:password/],
    [{ credsStore: ['my-secret'] }, /credsStore is not a string/],
    [{ credHelpers: { 'a.io': {} } }, /credHelpers has an invalid entry for a.io/],
  ])('the error about an invalid file names it without quoting it: %j', async (config, text) => {
    await configure(config)
    const error = await failure('a.io')
    expect(error.message).toMatch(text)
    expect(error.message).toContain(`${configDir}/config.json`)
    expect(JSON.stringify([error.advice, String(error.cause)])).not.toMatch(/my-secret|bXktc2Vjc/)
  })

  test('the error about a config.json that is a directory names it', async () => {
    await mkdir(join(configDir, 'config.json'))
    expect((await failure('a.io')).message).toMatch(/config.json: cannot be read \(EISDIR\)/)
  })
})
