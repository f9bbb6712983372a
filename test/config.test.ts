import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { OPTIONS, parseConfig, secretsOf } from '../src/lib/config.ts'

describe('parseConfig', () => {
  test('has the documented defaults', () => {
    const config = parseConfig({ 'data-dir': '/data' })
    expect(config).toMatchObject({
      port: 8080,
      host: '0.0.0.0',
      url: null,
      auth: null,
      github: { token: null, secret: null, apiUrl: 'https://api.github.com' },
      git: { url: 'https://github.com/{repository}.git', sshKey: null, environment: process.env },
      registry: 'docker.io',
      latest: 'always',
      dry: false,
      builderImage: 'remind101/conveyor-builder',
      buildNetwork: null,
      logger: { kind: 'stdout' },
      queue: { kind: 'memory' },
      timeoutMs: 20 * 60_000,
      retryDelays: [5, 30],
      dataDir: '/data',
      secretsDir: join('/data', 'secrets'),
      db: { kind: 'sqlite', file: join('/data', 'conveyor.db') },
    })
    expect(config.workers).toBeGreaterThan(0)
  })

  test('reads every kind of value', () => {
    const config = parseConfig({
      port: '0',
      url: 'https://conveyor.acme.dev/',
      auth: 'ci:a:b',
      'github.token': 'ghp_x',
      'github.secret': 'hush hush',
      'git.url': 'git@github.com:{repository}.git',
      registry: 'http://registry.lan:5000/team',
      latest: 'default-branch',
      dry: true,
      'build.network': 'host',
      logger: 'file:///var/log/conveyor',
      db: 'sqlite:///srv/builds.db',
      timeout: '90s',
      'retry.delays': '0s, 2m,1h',
      workers: '7',
    })
    expect(config).toMatchObject({
      port: 0,
      url: 'https://conveyor.acme.dev',
      auth: { username: 'ci', password: 'a:b' },
      dry: true,
      buildNetwork: 'host',
      logger: { kind: 'file', dir: '/var/log/conveyor' },
      db: { kind: 'sqlite', file: '/srv/builds.db' },
      timeoutMs: 90_000,
      retryDelays: [0, 120, 3600],
      workers: 7,
    })
    expect(secretsOf(config)).toEqual(['ghp_x', 'hush hush', 'a:b'])
  })

  test('an empty value counts as none, as docker-compose passes unset variables', () => {
    expect(parseConfig({ port: '', 'github.token': '', auth: '' })).toMatchObject({ port: 8080, auth: null })
  })

  test('a build is not tried again with --retry.delays none', () => {
    expect(parseConfig({ 'retry.delays': 'none' }).retryDelays).toEqual([])
  })

  test.each([
    [{ port: '80000' }, '--port (PORT) is "80000": expected a port number from 0 to 65535'],
    [{ url: 'conveyor.dev' }, '--url (BASE_URL) is "conveyor.dev": expected an http:// or https:// URL'],
    [{ latest: 'never' }, '--latest (LATEST) is "never": expected always or default-branch'],
    [
      { timeout: '20' },
      '--timeout (TIMEOUT) is "20": expected a duration from 1s to 24h, such as 90s, 20m or 1h',
    ],
    [
      { 'retry.delays': '5s,2h' },
      '--retry.delays (RETRY_DELAYS) is "5s,2h": expected up to 10 durations of at most 1h, such as 5s,30s, or none',
    ],
    [{ 'retry.delays': '5' }, '--retry.delays (RETRY_DELAYS) is "5"'],
    [{ logger: 'syslog://' }, '--logger (LOGGER) is "syslog://": expected stdout:// or file://DIR'],
    [{ queue: 'redis://' }, '--queue (QUEUE) is "redis://": expected memory://'],
    [{ workers: '0' }, '--workers (WORKERS) is "0": expected a whole number from 1 to 1000'],
    [
      { 'build.network': '--privileged' },
      '--build.network (BUILD_NETWORK) is "--privileged": expected the name of',
    ],
    [{ 'git.url': 'https://github.com/' }, '--git.url (GIT_URL) is "https://github.com/": expected'],
    [{ 'git.url': 'ext::sh -c {repository}' }, '--git.url (GIT_URL) is'],
    [{ registry: 'UPPER CASE' }, '--registry (REGISTRY) is "UPPER CASE": expected host[:port][/prefix]'],
  ])('refuses %j', (values, message) => {
    expect(() => parseConfig(values)).toThrow(message)
  })

  test('names all problems at once', () => {
    expect(() => parseConfig({ port: 'x', timeout: 'y', latest: 'z' })).toThrow(
      /^the configuration has 3 problems:\n {2}--port .*\n {2}--latest .*\n {2}--timeout /,
    )
  })

  test.each([
    [{ auth: 'hunter2' }, 'hunter2', '--auth (BASIC_AUTH) is not usable: expected user:pass'],
    [{ 'github.token': 'ghp secret' }, 'ghp secret', '--github.token (GITHUB_TOKEN) is not usable'],
  ])('never shows a secret: %j', (values, secret, message) => {
    const error = catchError(() => parseConfig(values))
    expect(error.message).toContain(message)
    expect(error.message).not.toContain(secret)
  })

  test('passwords in URLs are refused', () => {
    expect(() => parseConfig({ 'git.url': 'https://bot:pw@github.com/{repository}.git' })).toThrow(
      '--git.url',
    )
    expect(() => parseConfig({ registry: 'bot:pw@ghcr.io' })).toThrow('--registry')
  })

  test('every option has an environment variable of its own', () => {
    const names = Object.values(OPTIONS).map((option) => option.env)
    expect(new Set(names).size).toBe(names.length)
  })
})

function catchError(fn: () => unknown): Error {
  try {
    fn()
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing was thrown')
}
