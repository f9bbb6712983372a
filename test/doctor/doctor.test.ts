import { chmod, copyFile, mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { ListObjectsV2Command } from '@aws-sdk/client-s3'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Check, diagnose, ok } from '../../src/lib/doctor/check.ts'
import { startAws } from '../support/aws/aws.ts'
import { startCloudwatch } from '../support/aws/cloudwatch-double.ts'
import { startS3Front } from '../support/aws/s3-front.ts'
import { startBuildkitd } from '../support/engines/buildkitd.ts'
import { startGitHubDouble } from '../support/github/double.ts'
import { engine } from '../support/global-setup.ts'
import { makeBuilderImage } from '../support/images/builder-images.ts'
import { startPostgres } from '../support/postgres.ts'
import { runConveyor, start } from '../support/processes.ts'
import { httpDouble, tokenRegistry } from '../support/registry/doubles.ts'
import { startRegistry } from '../support/registry/registry.ts'
import { type TempDir, tempDir } from '../support/temp.ts'
import { complaints, GITHUB_TOKEN, startWorld, WEBHOOK_SECRET, type World } from '../support/world.ts'

/** `conveyor doctor` with real components: all of them healthy, then each of them broken. */

const LOGIN = { username: 'robot', password: 'the-password-of-the-registry' }
const BASIC_AUTH = 'ci:the-password-of-the-api'
const GONE = '127.0.0.1:1'
/** Components may be slow while other tests run. */
const PATIENT = ['--response-timeout', '1m']

let world: World
let scratch: TempDir
let images: string
beforeAll(async () => {
  scratch = await tempDir('conveyor-doctor-')
  images = join(scratch.path, 'images')
  world = await startWorld({
    registry: { htpasswd: LOGIN, dir: images },
    env: { BASE_URL: 'https://conveyor.example.com', BASIC_AUTH },
  })
  await logIn(world.dataDir, LOGIN.password)
})
afterAll(async () => {
  await world[Symbol.asyncDispose]()
  await scratch[Symbol.asyncDispose]()
})

/** Writes a login to docker's config.json. */
async function logIn(folder: string, password: string, host = world.registry.host): Promise<void> {
  const auth = Buffer.from(`${LOGIN.username}:${password}`).toString('base64')
  await writeFile(join(folder, 'config.json'), JSON.stringify({ auths: { [host]: { auth } } }))
}

interface Shown {
  part: string
  level: string
  ok: boolean
  found: string
  advice: string | null
}

/** Runs the command in the world, and checks what must be true of every run. */
async function doctor(env: NodeJS.ProcessEnv = {}, flags: readonly string[] = PATIENT) {
  const { code, stdout, stderr } = await runConveyor(['doctor', '--json', ...flags], {
    env: { ...world.env, ...env },
  })
  expect(complaints(stderr)).toEqual([])
  for (const secret of [LOGIN.password, GITHUB_TOKEN, WEBHOOK_SECRET, BASIC_AUTH.slice(3), 'wrong-secret']) {
    expect(`${stdout}${stderr}`).not.toContain(secret)
  }
  const parts = JSON.parse(stdout) as Shown[]
  expect(code).toBe(parts.every((part) => part.ok) ? 0 : 1)
  const of = (name: string) => {
    const found = parts.find(({ part }) => part === name)
    if (!found) throw new Error(`${name} is not reported: ${stdout}`)
    return `${found.level}: ${found.found}${found.advice ? ` -> ${found.advice}` : ''}`
  }
  return { parts, of, code }
}

test('a healthy setup: a line for each component, and nothing is left behind', async () => {
  const before = { data: await readdir(world.dataDir), images: await readdir(images) }
  const env = { ...world.env, CACHE_MAX: '20GB' }
  const { code, stdout, stderr } = await runConveyor(['doctor', ...PATIENT], { env })
  const { host } = world.registry
  const lines = [
    'ok       git           git version 2\\.\\d+\\.\\d+',
    `ok       repositories  ${world.git.urlTemplate.replaceAll(/[{}.]/g, '\\$&')}, with the GitHub token`,
    'ok       engine        Docker \\d+\\.\\S+, BuildKit for linux/.*, cache ([\\d.]+ [GM]B|size not known within 3 s) of 20 GB; building .*',
    `ok       registry      ${host}, without TLS, accepts the login of robot`,
    `ok       github        ${world.github.url} as octocat, 4987 of 5000 requests left this hour`,
    'ok       webhooks      accepted if signed with the secret',
    'ok       links         commit statuses link to https://conveyor\\.example\\.com',
    'ok       api           requires the login of ci',
    `ok       data          ${world.dataDir}, [\\d.]+ GB free`,
    `ok       builds        SQLite, ${world.dataDir}/conveyor.db`,
    'ok       queue         in memory: the server runs the builds itself',
    `ok       logs          standard output, and a copy in ${world.dataDir}/logs`,
  ]
  expect(stdout).toMatch(new RegExp(`^${lines.join('\\n')}\\n$`))
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect({ data: await readdir(world.dataDir), images: await readdir(images) }).toEqual(before)
  expect(world.github.requests.map(({ method, path }) => `${method} ${path}`)).toEqual(['GET /user'])
})

test('invalid options are rejected as by the server', async () => {
  const { code, stdout, stderr } = await runConveyor(['doctor', '--port', 'x', '--workers', '0'], {
    env: world.env,
  })
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  expect(stderr).toMatch(/2 problems:\s.*--port \(PORT\).*--workers \(WORKERS\)/s)
  const never = await runConveyor(['doctor', '--response-timeout', '0'], { env: world.env })
  expect(never).toMatchObject({ code: 2, stdout: '' })
  expect(never.stderr).toContain(
    '--response-timeout is "0": expected a duration from 1s to 24h, such as 10s or 1m',
  )
})

test('broken components are reported with advice, and the others as usual', async () => {
  const file = join(scratch.path, 'a-file')
  await writeFile(file, '')
  const { parts, of } = await doctor({
    DOCKER_HOST: 'unix:///nonexistent/docker.sock',
    REGISTRY: GONE,
    GITHUB_TOKEN: 'wrong-secret',
    DATA_DIR: join(file, 'data'),
    LOGGER: `file://${file}/logs`,
    DATABASE_URL: `sqlite://${file}/builds/conveyor.db`,
  })
  expect(of('engine')).toBe(
    'broken: cannot reach the Docker engine: connect ENOENT /nonexistent/docker.sock -> Start the Docker engine, or set DOCKER_HOST to one that is running',
  )
  expect(of('registry')).toMatch(
    /^broken: registry 127\.0\.0\.1:1 does not respond \(.*ECONNREFUSED.*\) .* -> Check that it is running/,
  )
  expect(of('github')).toMatch(
    /^broken: cannot authenticate with GitHub: GitHub refused the token: 401 \(Bad credentials\) -> Set GITHUB_TOKEN to a valid token with /,
  )
  for (const part of ['data', 'builds', 'logs']) {
    expect(of(part)).toMatch(
      /^broken: \/.*a-file\/\w+ is not writable: ENOTDIR.* -> Make \/.* writable for the user that Conveyor runs as/,
    )
  }
  expect(parts.filter((part) => part.ok).map(({ part }) => part)).toEqual([
    ...['git', 'repositories', 'webhooks', 'links', 'api', 'queue'],
  ])
})

test('a component that hangs is reported, and delays no other', async () => {
  const silent = createServer()
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  const address = silent.address()
  if (address === null || typeof address === 'string') throw new Error('it listens on no port')
  const host = `127.0.0.1:${address.port}`
  try {
    const hanging = { REGISTRY: host, DOCKER_HOST: `tcp://${host}`, GITHUB_URL: `http://${host}` }
    // Less than the time after which connections are given up.
    const { of } = await doctor(hanging, ['--response-timeout', '8s'])
    for (const part of ['engine', 'registry', 'github'])
      expect(of(part)).toMatch(/^broken: no response within 8 s -> Check that/)
    expect(of('git')).toMatch(/^ok/)
  } finally {
    silent.close()
  }
})

describe('a check', () => {
  const never: Check = { part: 'one', run: () => new Promise(() => {}) }

  test('has a limited time to respond, not counting the time that this process spends computing', async () => {
    const run = async () => {
      await nextTurn()
      for (const until = performance.now() + 100; performance.now() < until; );
      // Timers that are due come before the rest of this.
      await nextTurn()
      await nextTurn()
      return ok('here')
    }
    expect(await diagnose([{ part: 'one', run }], 30)).toEqual([{ part: 'one', ...ok('here') }])
  })

  test('that times out is aborted, and its result is ignored', async () => {
    let told = false
    const run = (signal: AbortSignal) =>
      new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => {
          told = true
          reject(new Error('too late'))
        })
      })
    const found = await diagnose([never, { part: 'two', run }, { part: 'three', run: () => ok('here') }], 20)
    expect(found.map(({ part, level, found }) => `${part} ${level} ${found}`)).toEqual([
      'one broken no response within 0.02 s',
      'two broken no response within 0.02 s',
      'three ok here',
    ])
    expect(told).toBe(true)
  })
})

describe('git', () => {
  test('too old, or missing', async () => {
    const bin = join(scratch.path, 'bin')
    await mkdir(bin)
    const script = '#!/bin/sh\necho git version 2.30.2\n'
    await writeFile(join(bin, 'git'), script, { mode: 0o755 })
    const old = await doctor({ PATH: `${bin}:${process.env.PATH}` })
    expect(old.of('git')).toBe('broken: git version 2.30.2 is too old -> Install git 2.39 or newer')

    const only = join(scratch.path, 'only-node')
    await mkdir(only)
    await symlink(process.execPath, join(only, 'node'))
    const none = await doctor({ PATH: only })
    expect(none.of('git')).toMatch(/^broken: git is not installed on this machine -> Install git/)
    expect(none.of('repositories')).toMatch(/^broken: git is not installed/)
    const ssh = await doctor({ PATH: only, GIT_URL: 'git@github.com:{repository}.git' })
    expect(ssh.of('repositories')).toMatch(
      /^broken: ssh is not installed, but required for git@github\.com:.* -> Install openssh-client/,
    )
  })

  test('over SSH, with a key that ssh would use, and with others', async () => {
    const folder = join(scratch.path, 'keys')
    await mkdir(folder)
    const make = async (name: string, passphrase: string) => {
      const key = join(folder, name)
      const { code } = await (await start('ssh-keygen', ['-q', '-t', 'ed25519', '-N', passphrase, '-f', key]))
        .exited
      expect(code).toBe(0)
      return key
    }
    const url = 'git@github.com:{repository}.git'
    const ask = async (key?: string) =>
      (await doctor({ GIT_URL: url, ...(key && { GIT_SSH_KEY: key }) })).of('repositories')

    const key = await make('good', '')
    expect(await ask(key)).toBe(`ok: ${url}, with the key ${key}`)
    expect(await ask()).toBe(`ok: ${url}, with the default SSH keys`)
    expect(await ask(join(folder, 'none'))).toMatch(
      /^broken: --git\.ssh-key \(GIT_SSH_KEY\) .*none not found/,
    )
    expect(await ask(await make('locked', 'wrong-secret'))).toMatch(/^broken: .* has a passphrase/)
    await chmod(key, 0o644)
    expect(await ask(key)).toMatch(/^broken: .* is readable by other users, .* -> Restrict it: chmod 600 /)
  })
})

describe('the registry', () => {
  test('that refuses the login', async () => {
    const folder = join(scratch.path, 'wrong-login')
    await mkdir(folder)
    await logIn(folder, 'wrong-secret')
    const { of } = await doctor({ DOCKER_CONFIG: folder })
    expect(of('registry')).toBe(
      `broken: registry ${world.registry.host} rejected the login of robot while logging in -> Run \`docker login ${world.registry.host}\` as the user that Conveyor runs as`,
    )
  })

  test('that requires a login, but none is configured', async () => {
    const folder = join(scratch.path, 'no-login')
    await mkdir(folder)
    const { of } = await doctor({ DOCKER_CONFIG: folder })
    expect(of('registry')).toMatch(
      /^broken: registry \S+ requires a login, but none is configured while logging in -> Run `docker login /,
    )
  })

  test('that requires no login', async () => {
    await using open = await startRegistry()
    expect((await doctor({ REGISTRY: open.host })).of('registry')).toBe(
      `ok: ${open.host}, without TLS, requires no login`,
    )
  })

  test('with a token server that also issues anonymous tokens', async () => {
    await using registry = await tokenRegistry({ [LOGIN.username]: LOGIN.password }, 'wrong-secret')
    const { host } = registry
    const config = async (name: string, password?: string) => {
      const folder = join(scratch.path, name)
      await mkdir(folder)
      if (password) await logIn(folder, password, host)
      return { REGISTRY: host, DOCKER_CONFIG: folder }
    }
    const known = await doctor(await config('known', LOGIN.password))
    expect(known.of('registry')).toBe(`ok: ${host}, without TLS, accepts the login of robot`)
    const unknown = await doctor(await config('unknown', 'wrong-secret'))
    expect(unknown.of('registry')).toMatch(
      /^broken: token server \S+ rejected the credentials for registry \S+ while /,
    )
    const nobody = await config('nobody')
    const anonymous = await doctor(nobody)
    expect(anonymous.of('registry')).toBe(
      `warning: ${host}, without TLS, not logged in: pushes will be refused -> Run \`docker login ${host}\` as the user that Conveyor runs as`,
    )
    expect((await doctor(nobody, [...PATIENT, '--dry'])).of('registry')).toMatch(
      /^ok: .* nothing is pushed \(--dry\)$/,
    )
  })

  test('that is not a registry', async () => {
    await using other = await httpDouble((_, response) => response.writeHead(404).end('Not Found'))
    const { of } = await doctor({ REGISTRY: other.host, GITHUB_URL: `http://${other.host}` })
    expect(of('registry')).toMatch(
      /^broken: 127\.0\.0\.1:\d+ answered HTTP 404; is this a registry\? -> Check --registry/,
    )
    expect(of('github')).toMatch(
      /^broken: .* the response is not from GitHub -> Check that the base URL is that of/,
    )
  })
})

describe('GitHub', () => {
  test('without a token', async () => {
    expect((await doctor({ GITHUB_TOKEN: '' })).of('github')).toMatch(
      /^warning: http\S+ without a token: no commit statuses, .*, 4987 of 5000 requests left .* -> Set GITHUB_TOKEN/,
    )
  })

  test('with the token of an app', async () => {
    world.github.failNext(1, 403, {
      body: { message: 'Resource not accessible by integration', documentation_url: '' },
    })
    expect((await doctor()).of('github')).toBe(`ok: ${world.github.url} as an app`)
  })

  test('with a token that cannot set statuses', async () => {
    await using github = await startGitHubDouble({ token: GITHUB_TOKEN, scopes: 'read:org' })
    expect((await doctor({ GITHUB_URL: github.url })).of('github')).toMatch(
      /^warning: .* as octocat, .*; the token cannot set commit statuses -> Grant the token in GITHUB_TOKEN the scope repo:status/,
    )
    expect(github.violations).toEqual([])
  })
})

test('settings that are rarely intended are warnings: nothing is broken', async () => {
  const { code, of } = await doctor({ GITHUB_SECRET: '', BASE_URL: '', BASIC_AUTH: 'none', HOST: '0.0.0.0' })
  expect(code).toBe(0)
  expect(of('webhooks')).toMatch(
    /^warning: no secret is set: .* -> Set the same secret .*--github\.secret \(GITHUB_SECRET\)/,
  )
  expect(of('links')).toMatch(
    /^warning: commit statuses link to http:\/\/localhost:PORT -> .*--url \(BASE_URL\)/,
  )
  expect(of('api')).toMatch(
    /^warning: API and logs are open to anyone.* -> Set BASIC_AUTH=user:pass instead of none$/,
  )
})

test('without a login, behind a proxy', async () => {
  expect((await doctor({ BASIC_AUTH: '' })).of('api')).toBe(
    'warning: requires a token: no login is set, and a proxy serves https://conveyor.example.com -> Set BASIC_AUTH=user:pass',
  )
})

test.each([
  ['as they are by default', { BUILD_NETWORK: '' }, /^ok: accepts requests only from this machine$/],
  [
    "on the engine's host network",
    { BUILD_NETWORK: 'host' },
    /^warning: accepts requests only from this machine, but that includes build steps on the engine's host network \(--build\.network\) -> Set BASIC_AUTH=user:pass/,
  ],
  [
    'in a builder image on that network',
    { BUILD_NETWORK: '', BUILDER: 'image', BUILDER_NETWORK: 'host' },
    /^warning: .*, but that includes builds on the engine's host network \(--builder\.network\)/,
  ],
  [
    'of a buildkitd beside the server',
    { BUILD_NETWORK: '', BUILDER: 'buildkit', BUILDKIT_ADDR: 'tcp://127.0.0.1:1' },
    /^warning: .*, but that includes build steps of a buildkitd that has no separate network for them/,
  ],
  [
    'of a buildkitd elsewhere',
    { BUILD_NETWORK: '', BUILDER: 'buildkit', BUILDKIT_ADDR: 'tcp://192.0.2.1:1' },
    /^ok: accepts requests only from this machine$/,
  ],
] as const)('without a login, build steps %s', async (_, env, api) => {
  expect((await doctor({ BASIC_AUTH: '', BASE_URL: '', ...env })).of('api')).toMatch(api)
})

describe('remote storage', () => {
  test('Postgres, SQS and S3 are left unchanged', async () => {
    await using postgres = await startPostgres()
    await using aws = await startAws()
    const [database, queue, bucket] = await Promise.all([postgres.database(), aws.queue(), aws.bucket()])
    const { host, pathname } = new URL(database)
    const shared = { ...aws.env, DATABASE_URL: database, SQS_QUEUE_URL: queue.url }
    const fine = await doctor({ ...shared, QUEUE: 'sqs://', LOGGER: `s3://${bucket}` })
    expect(fine.of('builds')).toMatch(
      new RegExp(
        `^ok: postgres://${host}${pathname}, Postgres [\\d.]+.*; tables will be created at the first start$`,
      ),
    )
    expect(fine.of('queue')).toBe(`ok: ${queue.url}, 0 builds waiting`)
    expect(fine.of('logs')).toBe(`ok: s3://${bucket}, reachable`)
    // The PUT has a precondition that fails.
    expect(await aws.requests()).toEqual({ 'PUT bucket': 1, LIST: 1, PUT: 1 })
    const { KeyCount } = await aws.s3.send(new ListObjectsV2Command({ Bucket: bucket }))
    expect(KeyCount).toBe(0)
    const client = new pg.Client({ connectionString: database })
    await client.connect()
    const { rows } = await client.query("select tablename from pg_tables where schemaname = 'public'")
    expect(rows).toEqual([])

    const gone = await doctor({
      ...aws.env,
      DATABASE_URL: database.replace(/test_\w+$/, 'nowhere'),
      QUEUE: 'sqs://',
      SQS_QUEUE_URL: queue.url.replace(/builds-/, 'none-'),
      LOGGER: 's3://conveyor-none',
    })
    expect(gone.of('builds')).toMatch(/^broken: database postgres:\S+nowhere does not exist: .* -> Create it/)
    expect(gone.of('queue')).toMatch(/^broken: queue \S+none-\S+ cannot be read: .* -> Create the queue/)
    expect(gone.of('logs')).toMatch(
      /^broken: log of build \S+ cannot be read: .* -> Create the bucket conveyor-none/,
    )

    await client.query(
      "create role guest login password 'wrong-secret'; revoke create on schema public from public",
    )
    await client.end()
    const guest = database.replace(/\/\/.*@/, '//guest:wrong-secret@')
    const denied = await doctor({ DATABASE_URL: guest, QUEUE: 'postgres://' })
    expect(denied.of('builds')).toMatch(
      /^broken: .* has no tables, and its user may not create any -> Make the user/,
    )
    expect([denied.of('queue'), denied.of('logs')]).toEqual([
      'ok: in the database of the builds',
      'ok: in the database of the builds',
    ])
  })

  test('S3 without conditional writes is refused, by doctor and by the server', async () => {
    await using aws = await startAws()
    await using front = await startS3Front(aws.url)
    front.ignored = ['if-match', 'if-none-match']
    const bucket = await aws.bucket()
    const env = { ...aws.env, AWS_ENDPOINT_URL: front.url, LOGGER: `s3://${bucket}` }
    const said = `bucket ${bucket} cannot store logs: its server does not support conditional writes`
    expect((await doctor(env)).of('logs')).toContain(`broken: ${said}`)
    const { code, stderr } = await runConveyor(['server'], { env: { ...world.env, ...env } })
    expect(code).toBe(2)
    expect(stderr.replace(/[\s›]+/g, ' ')).toContain(said)
  })

  test('S3 without write access is fine for a server', async () => {
    await using aws = await startAws()
    await using front = await startS3Front(aws.url)
    front.decide = (line) => (line.startsWith('PUT') ? { status: 403, code: 'AccessDenied' } : 'pass')
    const env = { ...aws.env, AWS_ENDPOINT_URL: front.url, LOGGER: `s3://${await aws.bucket()}` }
    expect((await doctor(env)).of('logs')).toMatch(
      /^warning: cannot check whether bucket .* -> Only workers need write access/,
    )
  })

  test('CloudWatch', async () => {
    await using cloudwatch = await startCloudwatch()
    const group = await cloudwatch.group()
    const fine = await doctor({ ...cloudwatch.env, LOGGER: `cloudwatch://${group}` })
    expect(fine.of('logs')).toBe(`ok: log group ${group}, reachable`)
    expect(await cloudwatch.requests()).toEqual({ CreateLogGroup: 1, GetLogEvents: 1 })
    const gone = await doctor({ ...cloudwatch.env, LOGGER: 'cloudwatch:///none' })
    expect(gone.of('logs')).toMatch(
      /^broken: .* there is no log group \/none in this region -> Create it with/,
    )
  })
})

describe('other builders', () => {
  test('a builder image and its data container', async () => {
    const image = `conveyor-test/doctor:${process.pid}`
    const { docker } = engine()
    await makeBuilderImage(docker, image, { script: 'true' })
    const container = await docker.createContainer({
      Image: image,
      name: `doctor-${process.pid}`,
      Volumes: { '/a': {} },
    })
    try {
      const fine = await doctor({ BUILDER_IMAGE: image, BUILDER_DATA: `doctor-${process.pid}` })
      expect(fine.of('engine')).toMatch(/^ok: Docker \d/)
      expect(fine.of('builder image')).toBe(`ok: ${image}, in the engine`)
      expect(fine.of('data container')).toBe(`ok: doctor-${process.pid}, with 1 volume`)
    } finally {
      await container.remove({ v: true })
      await docker.getImage(image).remove({ force: true })
    }
    const missing = `${world.registry.host}/acme/no-such-builder`
    const gone = await doctor({ BUILDER_IMAGE: missing, BUILDER_DATA: 'no-such-container' })
    expect(gone.of('builder image')).toMatch(
      /^broken: the builder image \S+ was not found: .* -> Create it with `conveyor bootstrap`/,
    )
    expect(gone.of('data container')).toMatch(
      /^broken: no-such-container: No such container.* -> Create it with `conveyor bootstrap`/,
    )
  })

  test('an engine that is not a Swarm manager', async () => {
    const { of } = await doctor({}, [...PATIENT, '--builder', 'swarm'])
    expect(of('swarm')).toMatch(
      /^broken: .* the Docker engine is not a Swarm manager -> Run `docker swarm init` there/,
    )
  })

  test('a farm of buildkitd with one node down', async () => {
    await using buildkitd = await startBuildkitd()
    const tls = join(scratch.path, 'tls')
    await mkdir(tls)
    const { ca, cert, key } = buildkitd.tls
    const names = { 'ca.pem': ca, 'cert.pem': cert, 'key.pem': key }
    for (const [name, file] of Object.entries(names)) await copyFile(file, join(tls, name))
    const farm = {
      BUILDER: 'buildkit',
      BUILDKIT_ADDR: `${buildkitd.address},tcp://${GONE}`,
      BUILDKIT_TLS: tls,
    }
    const { parts } = await doctor({ ...farm, PLATFORM: 'linux/s390x' })
    const nodes = parts.filter(({ part }) => part === 'buildkitd')
    expect(nodes.map(({ level, found }) => `${level}: ${found}`)).toEqual([
      expect.stringMatching(
        new RegExp(
          `^warning: ${buildkitd.address}, BuildKit v\\S+ for linux/amd64.*, cache 0 MB; cannot run RUN steps for linux/s390x`,
        ),
      ),
      expect.stringMatching(/^broken: cannot reach buildkitd at tcp:\/\/127\.0\.0\.1:1: .*ECONNREFUSED/),
    ])
    const { parts: without } = await doctor({ ...farm, BUILDKIT_TLS: join(scratch.path, 'none') })
    expect(without.filter(({ part }) => part === 'buildkitd').map(({ found }) => found)).toEqual([
      expect.stringMatching(/^--buildkit\.tls \(BUILDKIT_TLS\): ENOENT/),
      expect.stringMatching(/^--buildkit\.tls \(BUILDKIT_TLS\): ENOENT/),
    ])
  })
})
