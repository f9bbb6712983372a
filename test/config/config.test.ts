import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { cacheGroupOf, settingsFor } from '../../src/lib/config/build-settings.ts'
import { parseConfig, secretsOf } from '../../src/lib/config/config.ts'
import { OPTIONS } from '../../src/lib/config/options.ts'
import { NO_SETTINGS } from '../../src/lib/core/settings.ts'

describe('parseConfig', () => {
  test('has the documented defaults', () => {
    const config = parseConfig({ 'data-dir': '/data' })
    expect(config).toMatchObject({
      port: 8080,
      host: '0.0.0.0',
      url: null,
      auth: null,
      allowedHosts: [],
      allow: [],
      github: { token: null, secret: null, apiUrl: 'https://api.github.com', webUrl: 'https://github.com' },
      git: { url: 'https://github.com/{repository}.git', sshKey: null, environment: process.env },
      registry: 'docker.io',
      latest: 'always',
      dry: false,
      builder: { kind: 'engine' },
      packing: { compression: 'zstd', exportCache: true, maxCacheBytes: null },
      logger: { kind: 'stdout' },
      queue: { kind: 'memory' },
      timeoutMs: 20 * 60_000,
      retryDelays: [5, 30],
      dataDir: '/data',
      build: { network: null, secretsDir: join('/data', 'secrets') },
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
      build: { network: 'host' },
      logger: { kind: 'file', dir: '/var/log/conveyor' },
      db: { kind: 'sqlite', file: '/srv/builds.db' },
      timeoutMs: 90_000,
      retryDelays: [0, 120, 3600],
      workers: 7,
    })
    expect(secretsOf(config)).toEqual(['ghp_x', 'hush hush', 'a:b'])
  })

  test.each([
    ['https://git.acme.dev/api/v3', 'https://git.acme.dev/{repository}.git', 'git@git.acme.dev:'],
    ['http://git.lan:8080/api/v3/', 'http://git.lan:8080/{repository}.git', 'git@git.lan:'],
    ['https://api.acme.ghe.com', 'https://acme.ghe.com/{repository}.git', 'git@acme.ghe.com:'],
    ['https://api.github.com/', 'https://github.com/{repository}.git', undefined],
  ])("repositories are on the API's server: %s", (api, git, ssh) => {
    const config = parseConfig({ 'github.url': api, 'github.token': 'ghp_x' })
    expect(config.git.url).toBe(git)
    // The builder image fetches over SSH, as it does from github.com.
    expect(config.inherited).toEqual(ssh ? { GIT_URL: `${ssh}{repository}.git` } : {})
  })

  test.each([
    ['git@github.com:{repository}.git', 'https://api.github.com'],
    ['ssh://git@ssh.github.com:443/{repository}.git', 'https://api.github.com'],
    ['https://acme.ghe.com/{repository}.git', 'https://api.acme.ghe.com'],
  ])("the token is for the repositories' server: %s", (git, api) => {
    expect(parseConfig({ 'git.url': git, 'github.token': 'ghp_x' }).github.apiUrl).toBe(api)
  })

  test('a URL that cannot be derived is required, so that no token is sent to another server', () => {
    expect(() => parseConfig({ 'github.url': 'https://proxy.acme.dev/github' })).toThrow(
      '--git.url (GIT_URL) is required, because --github.url (GITHUB_URL) is not https://HOST/api/v3 of',
    )
    for (const git of ['https://git.acme.dev/{repository}.git', 'git@git.acme.dev:{repository}.git']) {
      expect(() => parseConfig({ 'git.url': git, 'github.token': 'ghp_x' })).toThrow(
        '--github.url (GITHUB_URL) is required, because --git.url (GIT_URL) is not on github.com and the token is valid for only one server: set https://git.acme.dev/api/v3 for',
      )
      expect(parseConfig({ 'git.url': git }).git.url).toBe(git)
      const both = { 'git.url': git, 'github.url': 'https://api.github.com', 'github.token': 'ghp_x' }
      expect(parseConfig(both).github.apiUrl).toBe('https://api.github.com')
    }
  })

  test('none means no credentials', () => {
    const config = parseConfig({ auth: 'none' })
    expect(config.auth).toBe('none')
    expect(secretsOf(config)).toEqual([])
  })

  test('reads lists of hosts and repositories', () => {
    expect(
      parseConfig({ 'allowed-hosts': 'conveyor.lan,*.acme.dev', allow: ['acme/*', 'other/web-*'] }),
    ).toMatchObject({ allowedHosts: ['conveyor.lan', '*.acme.dev'], allow: ['acme/*', 'other/web-*'] })
  })

  test.each(['acme', 'acme/', '/web', 'acme/web/x', 'acme web/x', 'acme/{a,b}'])(
    'refuses %j as a repository to allow',
    (allow) => expect(() => parseConfig({ allow })).toThrow('--allow (ALLOW) is'),
  )

  test.each(['https://conveyor.lan', 'conveyor.lan:8080', 'a b', '**'])('refuses %j as a host', (host) =>
    expect(() => parseConfig({ 'allowed-hosts': host })).toThrow('--allowed-hosts (ALLOWED_HOSTS) is'),
  )

  test('reads registry addresses', () => {
    const pairs = ['localhost:5000=registry:5000', 'r.acme.dev:443=[fd00::1]:8443']
    expect(parseConfig({ 'registry.address': pairs }).registryAddresses).toEqual(
      new Map([
        ['localhost:5000', 'registry:5000'],
        ['r.acme.dev:443', '[fd00::1]:8443'],
      ]),
    )
  })

  test.each(['registry:5000', 'localhost=registry', 'a:1=b', 'a:1=http://b:1', 'a:1=b:2=c:3'])(
    'refuses %j as the address of a registry',
    (pair) =>
      expect(() => parseConfig({ 'registry.address': pair })).toThrow(
        '--registry.address (REGISTRY_ADDRESS) is',
      ),
  )

  test('reads the settings of a shared queue, store and log store', () => {
    const db = 'postgres://conveyor:p%40ss@db.acme.dev/conveyor'
    const shared = parseConfig({ db, queue: 'postgres://' })
    expect(shared).toMatchObject({
      db: { kind: 'postgres', url: db },
      queue: { kind: 'postgres', url: null },
      logger: { kind: 'postgres' },
    })
    expect(secretsOf(shared)).toEqual(['p%40ss', 'p@ss'])
    expect(
      parseConfig({ db, queue: 'sqs://sqs.eu-west-1.amazonaws.com/1234/builds', logger: 's3://logs/team' }),
    ).toMatchObject({
      queue: { kind: 'sqs', url: 'https://sqs.eu-west-1.amazonaws.com/1234/builds' },
      logger: { kind: 's3', bucket: 'logs', prefix: 'team' },
    })
    expect(parseConfig({ db, logger: 'cloudwatch:///conveyor/builds' }).logger).toEqual({
      kind: 'cloudwatch',
      group: '/conveyor/builds',
    })
  })

  test('a farm of buildkitd, and how layers are compressed and cached', () => {
    const config = parseConfig({
      builder: 'buildkit',
      'buildkit.addr': ['tcp://b1.lan', 'unix:///run/b2.sock'],
      'buildkit.tls': '/certs',
      'buildkit.builds': '2',
      compression: 'gzip',
      'cache.export': 'none',
      'cache.max': '20GB',
    })
    expect(config.builder).toEqual({
      kind: 'buildkit',
      addresses: new Map<string, object>([
        ['tcp://b1.lan', { host: 'b1.lan', port: 1234 }],
        ['unix:///run/b2.sock', { path: '/run/b2.sock' }],
      ]),
      tls: '/certs',
      builds: 2,
    })
    expect(config.packing).toEqual({ compression: 'gzip', exportCache: false, maxCacheBytes: 20e9 })
  })

  test('build settings of all repositories, and of one', () => {
    const { build } = parseConfig({
      'build.network': 'host',
      'build.arg': ['CI=1', 'MODE=a=b', 'acme/App:MODE=c', 'Acme/app:URL=http://x/y:z'],
      'build.target': 'acme/app:release',
      'build.add-host': 'db.lan=10.1.2.3,acme/app:v6.lan=fd00::1',
      'build.ulimit': 'nofile=1024:4096',
      'build.context': [
        `docker.io/library/node:24=docker-image://mirror.lan:5000/node:24@sha256:${'a'.repeat(64)}`,
        'Acme/app:docker.io/acme/base:stable=docker-image://base',
        'acme/app:docs=https://git.lan/docs.git#main:src',
      ],
      platform: 'linux/amd64,linux/arm64,acme/app:linux/arm/v7',
      attest: 'provenance',
      'build.ssh': 'acme/app:/run/agent.sock',
    })
    const all = { 'node:24': `docker-image://mirror.lan:5000/node:24@sha256:${'a'.repeat(64)}` }
    expect(settingsFor(build, 'Acme/App')).toEqual({
      buildArgs: { CI: '1', MODE: 'c', URL: 'http://x/y:z' },
      network: 'host',
      target: 'release',
      platforms: ['linux/arm/v7'],
      hosts: { 'db.lan': '10.1.2.3', 'v6.lan': 'fd00::1' },
      ulimits: { nofile: '1024:4096' },
      contexts: {
        ...all,
        'acme/base:stable': 'docker-image://base',
        docs: 'https://git.lan/docs.git#main:src',
      },
      attest: ['provenance'],
      reproducible: false,
      git: false,
      gitArgs: false,
      ssh: '/run/agent.sock',
    })
    expect(settingsFor(build, 'acme/other')).toEqual({
      buildArgs: { CI: '1', MODE: 'a=b' },
      network: 'host',
      target: null,
      platforms: ['linux/amd64', 'linux/arm64'],
      hosts: { 'db.lan': '10.1.2.3' },
      ulimits: { nofile: '1024:4096' },
      contexts: all,
      attest: ['provenance'],
      reproducible: false,
      git: false,
      gitArgs: false,
      ssh: null,
    })
    expect(settingsFor(parseConfig({}).build, 'acme/app')).toEqual(NO_SETTINGS)
  })

  test('repositories of a group share their cache mounts', () => {
    const { build } = parseConfig({ 'cache.share': ['acme/App:web', 'acme/site:web', 'acme/site:last'] })
    expect(['Acme/app', 'acme/site', 'acme/other'].map((name) => cacheGroupOf(build, name))).toEqual([
      'web',
      'last',
      null,
    ])
    const all = parseConfig({ 'cache.share': ['all', 'acme/site:web'] }).build
    expect(['acme/app', 'acme/site'].map((name) => cacheGroupOf(all, name))).toEqual(['all', 'web'])
    expect(cacheGroupOf(parseConfig({}).build, 'acme/app')).toBeNull()
    expect(() => parseConfig({ 'cache.share': ['acme/app:'] })).toThrow('--cache.share (CACHE_SHARE)')
  })

  test('uses the given builder image', () => {
    expect(parseConfig({ 'builder.image': 'acme/builder' }).builder).toEqual({
      kind: 'image',
      image: 'acme/builder',
      data: 'data',
      network: null,
      mounts: [],
      constraints: [],
      privileged: false,
    })
    expect(parseConfig({ builder: 'engine', 'builder.image': 'acme/builder' }).builder).toEqual({
      kind: 'engine',
    })
  })

  test("passes given options to Conveyor's own builder image, as its environment", () => {
    const { inherited } = parseConfig({ registry: 'ghcr.io/acme', compression: 'gzip', 'build.network': '' })
    expect(inherited).toEqual({ REGISTRY: 'ghcr.io/acme', COMPRESSION: 'gzip' })
  })

  test('reads lists from flags and, with commas, from the environment', () => {
    const mounts = ['/var/run/docker.sock:/var/run/docker.sock', 'mirrors:/var/lib/conveyor:ro']
    for (const given of [mounts, mounts.join(',')]) {
      const { builder } = parseConfig({
        builder: 'swarm',
        'builder.data': 'none',
        'builder.mount': given,
        'builder.constraint': 'node.labels.builder==true',
      })
      expect(builder).toMatchObject({
        kind: 'swarm',
        image: 'remind101/conveyor-builder',
        data: null,
        mounts,
        constraints: ['node.labels.builder==true'],
      })
    }
  })

  test('an empty value counts as unset, because docker compose passes unset variables that way', () => {
    expect(parseConfig({ port: '', 'github.token': '', auth: '' })).toMatchObject({ port: 8080, auth: null })
  })

  test('a build is not retried with --retry.delays none', () => {
    expect(parseConfig({ 'retry.delays': 'none' }).retryDelays).toEqual([])
  })

  test('the public URL is written as browsers write it, whatever its spelling', () => {
    expect(parseConfig({ url: 'HTTPS://CI.example.com:443/x//' }).url).toBe('https://ci.example.com/x')
    expect(parseConfig({ url: 'http://localhost:8080' }).url).toBe('http://localhost:8080')
  })

  test.each([
    [{ port: '80000' }, '--port (PORT) is "80000": expected a port number from 0 to 65535'],
    [
      { url: 'conveyor.dev' },
      '--url (BASE_URL) is "conveyor.dev": expected an http:// or https:// URL without login, query, or fragment',
    ],
    ...['https://x.dev/?a=b', 'https://x.dev/#a', 'https://x.dev?', 'https://me:x@x.dev'].flatMap(
      (one): [Record<string, unknown>, string][] => [
        [{ url: one }, '--url (BASE_URL) is "https://'],
        [{ 'github.url': one }, '--github.url (GITHUB_URL) is "https://'],
      ],
    ),
    [{ latest: 'never' }, '--latest (LATEST) is "never": expected always or default-branch'],
    [
      { timeout: '20' },
      '--timeout (TIMEOUT) is "20": expected a duration from 1s to 24h, such as 90s, 20m, or 1h',
    ],
    [
      { 'retry.delays': '5s,2h' },
      '--retry.delays (RETRY_DELAYS) is "5s,2h": expected up to 10 durations of at most 1h, such as 5s,30s, or none',
    ],
    [{ 'retry.delays': '5' }, '--retry.delays (RETRY_DELAYS) is "5"'],
    [
      { logger: 'syslog://' },
      '--logger (LOGGER) is "syslog://": expected stdout://, file://DIR, s3://BUCKET[/PREFIX], cloudwatch://GROUP, or postgres://',
    ],
    [{ queue: 'redis://' }, '--queue (QUEUE) is "redis://": expected memory://'],
    [
      { logger: 'postgres://' },
      '--logger (LOGGER) is postgres://, which uses the database of --db, so --db must be',
    ],
    [{ queue: 'postgres://' }, '--queue (QUEUE) is postgres://, so --db must be postgres://'],
    [
      { queue: 'sqs://sqs.eu-west-1.amazonaws.com/1/builds' },
      '--queue (QUEUE) is sqs://, so --db must be postgres://',
    ],
    [{ builder: 'podman' }, '--builder (BUILDER) is "podman": expected engine, buildkit, image, or swarm'],
    [
      { builder: 'image', 'builder.mount': 'a:b' },
      '--builder.mount (BUILDER_MOUNT) is "a:b": expected SOURCE',
    ],
    [
      { builder: 'buildkit' },
      '--buildkit.addr (BUILDKIT_ADDR) is required with --builder buildkit: expected tcp://HOST[:PORT]',
    ],
    [{ 'buildkit.addr': 'tcp://b1' }, '--buildkit.addr (BUILDKIT_ADDR) requires --builder buildkit'],
    [
      { builder: 'buildkit', 'buildkit.addr': 'http://b1' },
      '--buildkit.addr (BUILDKIT_ADDR) is "http://b1": expected tcp://HOST[:PORT] or unix:///PATH',
    ],
    [{ platform: 'arm64' }, '--platform (PLATFORM) is "arm64": expected a platform, such as linux/arm64'],
    [
      { 'build.arg': 'acme/app:1=2' },
      '--build.arg (BUILD_ARG) is "acme/app:1=2": expected NAME=VALUE, optionally prefixed with OWNER/NAME:',
    ],
    ...['x=./folder', 'x=/srv/folder', 'X=docker-image://a', 'x=ftp://a/b', 'x', 'x=docker-image://a b'].map(
      (one): [Record<string, unknown>, string] => [
        { 'build.context': one },
        `--build.context (BUILD_CONTEXT) is "${one}": expected NAME=docker-image://IMAGE or NAME=https://URL (no directories`,
      ],
    ),
    [{ dry: 'constructor' }, '--dry (DRY) is "constructor": expected true or false'],
    [
      { 'cache.export': 'constructor' },
      '--cache.export (CACHE_EXPORT) is "constructor": expected registry or none',
    ],
    [{ attest: 'sbom,magic' }, '--attest (ATTEST) is "sbom,magic": expected provenance, sbom, or both'],
    [{ 'cache.max': '20' }, '--cache.max (CACHE_MAX) is "20": expected a size, such as 500MB or 20GB'],
    [{ 'builder.constraint': 'a==b' }, '--builder.constraint (BUILDER_CONSTRAINT) requires --builder swarm'],
    [
      { builder: 'swarm', 'builder.privileged': true },
      '--builder.privileged (BUILDER_PRIVILEGED) requires --builder image',
    ],
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

  test('reports all problems at once', () => {
    expect(() => parseConfig({ port: 'x', timeout: 'y', latest: 'z' })).toThrow(
      /^the configuration has 3 problems:\n {2}--port .*\n {2}--latest .*\n {2}--timeout /,
    )
  })

  test.each([
    [{ 'build.context': 'x=https://me:hunter2@host/x' }, 'hunter2', '--build.context (BUILD_CONTEXT) is'],
    [{ auth: 'hunter2' }, 'hunter2', '--auth (BASIC_AUTH) is not usable: expected user:pass'],
    [{ db: 'postgres://me:hunter2@/x y' }, 'hunter2', '--db (DATABASE_URL) is'],
    [{ db: 'mysql://me:hun@ter2@host/x' }, 'hun@ter2', '--db (DATABASE_URL) is'],
    [{ db: 'mysql://me:hun/ter2@host/x' }, 'hun/ter2', '--db (DATABASE_URL) is'],
    [{ db: 'postgres://me:hun\nter2@[/x' }, 'hun', '--db (DATABASE_URL) is'],
    [{ db: 'postgres://[/x?password=hunter2' }, 'hunter2', '--db (DATABASE_URL) is'],
    [{ queue: 'amqp://me:hunter2@host/x' }, 'hunter2', '--queue (QUEUE) is'],
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

  test('every option has its own environment variable', () => {
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
