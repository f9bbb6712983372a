import { execFile } from 'node:child_process'
import { chmod, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { GetObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3'
import type Docker from 'dockerode'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { settingsText } from '../src/lib/bootstrap/settings.ts'
import { demultiplex } from '../src/lib/builder/container-logs.ts'
import { startAws, type TestAws } from './support/aws.ts'
import { BUSYBOX_IMAGE } from './support/base-images.ts'
import { conveyorImageArguments } from './support/conveyor-image.ts'
import { engine } from './support/global-setup.ts'
import { projectRoot, runConveyor } from './support/processes.ts'
import { type TempDir, tempDir } from './support/temp.ts'

const run = promisify(execFile)
const IMAGE = `conveyor-test/bootstrap:${process.pid}`
const DATA = `conveyor-test-bootstrap-${process.pid}`

let docker: Docker
let folder: TempDir
let environment: Record<string, string>
beforeAll(() => {
  ;({ docker } = engine())
})
beforeEach(async () => {
  folder = await tempDir()
  const bin = join(folder.path, 'bin')
  await mkdir(bin)
  environment = {
    DOCKER_HOST: engine().dockerHost,
    DOCKER_CONFIG: join(folder.path, 'docker'),
    DATA_DIR: join(folder.path, 'data'),
    BUILDER_DATA: DATA,
    BUILDER_IMAGE: IMAGE,
    PATH: `${bin}:${process.env.PATH}`,
  }
  await mkdir(environment.DOCKER_CONFIG as string)
})
afterEach(async () => {
  await removeContainer()
  await folder[Symbol.asyncDispose]()
})

async function removeContainer(): Promise<void> {
  const found = await docker.listContainers({ all: true, filters: { name: [DATA] } })
  for (const { Id } of found) await docker.getContainer(Id).remove({ force: true, v: true })
}

/** Runs `conveyor bootstrap` in the folder; most tests need no builder image. */
function bootstrap(args: string[] = ['--no-image'], env: Record<string, string> = {}) {
  return runConveyor(['bootstrap', ...args], { cwd: folder.path, env: { ...environment, ...env } })
}

/** How a thing stands, by the beginning of its line. */
function stateOf(output: string, what: string): string | undefined {
  return new RegExp(`^(made|changed|there already|MISSING) +${what}`, 'm').exec(output)?.[1]
}

const file = (...path: string[]) => readFile(join(folder.path, ...path), 'utf8')
const modeOf = async (...path: string[]) => (await stat(join(folder.path, ...path))).mode & 0o777
const dockerConfig = (config: unknown) =>
  writeFile(join(folder.path, 'docker/config.json'), JSON.stringify(config))

async function helper(name: string, script: string): Promise<void> {
  const program = join(folder.path, `bin/docker-credential-${name}`)
  await writeFile(program, `#!/bin/sh\n${script}\n`)
  await chmod(program, 0o755)
}

/** What a builder image sees with `--volumes-from`: owner, mode and content of each file. */
async function seenInside(script: string, user = 'root'): Promise<string> {
  const container = await docker.createContainer({
    ...{ Image: BUSYBOX_IMAGE, Cmd: ['sh', '-c', script], User: user },
    HostConfig: { VolumesFrom: [`${DATA}:ro`], NetworkMode: engine().network ?? 'default' },
  })
  try {
    const output = await container.attach({ stream: true, stdout: true, stderr: true })
    await container.start()
    let text = ''
    for await (const bytes of demultiplex(output as unknown as IncomingMessage)) text += bytes.toString()
    return text
  } finally {
    await container.remove({ force: true })
  }
}

describe('conveyor bootstrap', () => {
  test('makes everything once, and leaves it as it is the second time', async () => {
    const first = await bootstrap()
    expect(first.stderr).toBe('')
    expect(first.code).toBe(0)
    for (const what of ['data directory', 'ssh key', 'settings', 'container']) {
      expect(stateOf(first.stdout, what)).toBe('made')
    }
    const kept = async () =>
      Promise.all([file('.env'), file('data/ssh/id_rsa'), file('data/ssh/id_rsa.pub'), contentId()])
    const contentId = async () => (await docker.getContainer(DATA).inspect()).Id
    const before = await kept()

    const second = await bootstrap()
    expect(second.code).toBe(0)
    for (const what of [
      'data directory',
      'git version',
      'Docker engine',
      'ssh key',
      'settings',
      'container',
    ]) {
      expect(stateOf(second.stdout, what)).toBe('there already')
    }
    expect(second.stdout).not.toMatch(/^(made|changed|MISSING)/m)
    expect(await kept()).toEqual(before)
  })

  test('the key pair is RSA of 4096 bits, for its owner only; its public half is printed for GitHub', async () => {
    const { stdout } = await bootstrap()
    const key = join(folder.path, 'data/ssh/id_rsa')
    expect((await run('ssh-keygen', ['-l', '-f', key])).stdout).toMatch(/^4096 SHA256:.*\(RSA\)/)
    expect(
      (await run('ssh-keygen', ['-y', '-P', '', '-f', key])).stdout.trim().split(' ').slice(0, 2),
    ).toEqual((await file('data/ssh/id_rsa.pub')).split(' ').slice(0, 2))
    expect([
      await modeOf('data/ssh'),
      await modeOf('data/ssh/id_rsa'),
      await modeOf('data/ssh/id_rsa.pub'),
    ]).toEqual([0o700, 0o600, 0o644])
    expect(stdout).toContain(await file('data/ssh/id_rsa.pub'))
    expect(stdout).not.toContain('PRIVATE KEY')
  })

  test('the settings are for their owner only, with secrets of their own; .env.sample is the same without', async () => {
    await bootstrap()
    const written = await file('.env')
    expect(await modeOf('.env')).toBe(0o600)
    const [secret, password] = [...written.matchAll(/^\w+=([0-9a-f]{64})$/gm)].map(([, value]) => value)
    expect(secret).not.toBe(password)
    const socket = engine().dockerHost.replace('unix://', '')
    expect(written).toContain(`\nDOCKER_SOCKET=${socket}\nDOCKER_GID=${(await stat(socket)).gid}\n`)
    expect(written).toContain(`\n#GIT_SSH_KEY=${folder.path}/data/ssh/id_rsa\n`)
    const loaded = await run('sh', ['-ec', 'set -a; . ./.env; echo "$GITHUB_SECRET"'], { cwd: folder.path })
    expect(loaded.stdout).toBe(`${secret}\n`)

    const sample = { githubSecret: '', postgresPassword: '', dockerGid: '' }
    const paths = { dockerSocket: '/var/run/docker.sock', sshKey: '/var/lib/conveyor/ssh/id_rsa' }
    expect(await readFile(join(projectRoot, '.env.sample'), 'utf8')).toBe(
      settingsText({ ...sample, ...paths }),
    )
  })

  test('a key that is there is used; one that others may read is closed, a missing public half is made', async () => {
    await mkdir(join(folder.path, 'keys'))
    const key = join(folder.path, 'keys/id_rsa')
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key])
    const publicKey = await file('keys/id_rsa.pub')
    await rm(`${key}.pub`)
    await chmod(key, 0o644)
    const { stdout, code } = await bootstrap(['--no-image', '--ssh-dir', 'keys'])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^changed +ssh key .*now for its owner only$/m)
    expect(await modeOf('keys/id_rsa')).toBe(0o600)
    expect((await file('keys/id_rsa.pub')).split(' ')[1]).toBe(publicKey.split(' ')[1])
  })

  test.each([
    ['a passphrase', ['-N', 'secret words'], /without a passphrase/],
    [
      'a public half of another',
      ['-N', ''],
      /id_rsa\.pub is not the public half .*Remove the one that is wrong/,
    ],
  ])('a key with %s is not used, and the rest is made', async (name, args, reason) => {
    const dir = join(folder.path, 'data/ssh')
    await mkdir(dir, { recursive: true })
    await run('ssh-keygen', ['-q', '-t', 'ed25519', ...args, '-f', join(dir, 'id_rsa')])
    if (name.includes('another')) await writeFile(join(dir, 'id_rsa.pub'), 'ssh-ed25519 AAAA somebody\n')
    const { stdout, code } = await bootstrap()
    expect(code).toBe(3)
    expect(stdout).toMatch(new RegExp(`^MISSING +ssh key: .*${reason.source}`, 'm'))
    expect(stateOf(stdout, 'settings')).toBe('made')
    expect(stateOf(stdout, 'container')).toBe('made')
    expect(await seenInside('ls -A /var/run/conveyor')).toBe('.docker\n')
  })

  test('without an engine everything else is made, and it says what to do', async () => {
    const { stdout, code } = await bootstrap([], { DOCKER_HOST: 'unix:///nonexistent/docker.sock' })
    expect(code).toBe(3)
    expect(stdout).toMatch(/^MISSING +Docker engine: no answer .*Start it, or set DOCKER_HOST$/m)
    expect(stdout).toMatch(/^MISSING +builder image: not made without an engine$/m)
    expect(stateOf(stdout, 'ssh key')).toBe('made')
    expect(stateOf(stdout, 'settings')).toBe('made')
    expect(stdout).toContain('ssh-rsa ')
  })

  test('settings that can not be written do not keep it from the rest', async () => {
    const { stdout, code } = await bootstrap(['--no-image', '--settings', 'no/such/folder/.env'])
    expect(code).toBe(3)
    expect(stdout).toMatch(/^MISSING +settings: .*--settings$/m)
    expect(stateOf(stdout, 'container')).toBe('made')
  })

  test.each([
    [['--bucket', 'acme-keys'], /--bucket is "acme-keys": expected s3:\/\/BUCKET\[\/PREFIX\]/],
    [['--build-arg', 'NODE_IMAGE'], /--build-arg is "NODE_IMAGE": expected NAME=VALUE/],
  ])('%j is refused before anything is made', async (args, reason) => {
    const { stderr, code } = await bootstrap(args)
    expect(code).toBe(2)
    expect(stderr.replace(/\s+›?\s*/g, ' ')).toMatch(reason)
    await expect(file('.env')).rejects.toThrow('ENOENT')
  })
})

describe('the data container', () => {
  test('holds key and logins where builder images look; root and the user of the server can read them', async () => {
    await dockerConfig({
      auths: { 'registry.example.com': { auth: 'cm9ib3Q6c2VjcmV0' } },
      HttpHeaders: { x: 'y' },
    })
    expect((await bootstrap()).code).toBe(0)
    const list =
      'cd /var/run/conveyor; stat -c "%u:%g %a %n" .ssh .ssh/id_rsa .ssh/id_rsa.pub .docker .docker/config.json'
    expect(await seenInside(list)).toBe(
      '1000:1000 700 .ssh\n1000:1000 600 .ssh/id_rsa\n1000:1000 600 .ssh/id_rsa.pub\n1000:1000 700 .docker\n1000:1000 600 .docker/config.json\n',
    )
    const read = 'cat /var/run/conveyor/.ssh/id_rsa /var/run/conveyor/.docker/config.json'
    const key = await file('data/ssh/id_rsa')
    const config = { auths: { 'registry.example.com': { auth: 'cm9ib3Q6c2VjcmV0' } } }
    for (const user of ['root', '1000:1000']) {
      const text = await seenInside(read, user)
      expect(text.startsWith(key)).toBe(true)
      expect(JSON.parse(text.slice(key.length))).toEqual(config)
    }
    // Nor does it run, or is made of anything but these files.
    const { State, Config } = await docker.getContainer(DATA).inspect()
    expect(State.Status).toBe('created')
    expect((await docker.getImage(Config.Image).inspect()).Size).toBe(0)
  })

  test('gets a new login, and keeps the key', async () => {
    await bootstrap()
    await dockerConfig({ auths: { 'registry.example.com': { auth: 'cm9ib3Q6c2VjcmV0' } } })
    const { stdout } = await bootstrap()
    expect(stdout).toMatch(new RegExp(`^changed +container ${DATA}: new \\.docker/config\\.json$`, 'm'))
    expect(await seenInside('cat /var/run/conveyor/.docker/config.json')).toContain('cm9ib3Q6c2VjcmV0')
    expect(await seenInside('cat /var/run/conveyor/.ssh/id_rsa')).toBe(await file('data/ssh/id_rsa'))
  })

  test('of somebody else keeps what it has, and gets what it lacks', async () => {
    await docker.createContainer({ name: DATA, Image: BUSYBOX_IMAGE, Volumes: { '/var/run/conveyor': {} } })
    await fillBy('mkdir /var/run/conveyor/.ssh; echo theirs > /var/run/conveyor/.ssh/id_rsa')
    const { stdout, code } = await bootstrap()
    expect(code).toBe(0)
    expect(stdout).toMatch(/^changed +container .*not made by bootstrap, so it keeps its own \.ssh\/id_rsa$/m)
    expect(await seenInside('cat /var/run/conveyor/.ssh/id_rsa')).toBe('theirs\n')
    expect(await seenInside('cat /var/run/conveyor/.docker/config.json')).toContain('auths')
  })

  async function fillBy(script: string): Promise<void> {
    const container = await docker.createContainer({
      ...{ Image: BUSYBOX_IMAGE, Cmd: ['sh', '-c', script] },
      HostConfig: { VolumesFrom: [DATA], NetworkMode: engine().network ?? 'default' },
    })
    await container.start()
    await container.wait()
    await container.remove()
  }

  test('is not made of a container that has nothing to do with it', async () => {
    await docker.createContainer({ name: DATA, Image: BUSYBOX_IMAGE, Volumes: { '/srv': {} } })
    const { stdout, code } = await bootstrap()
    expect(code).toBe(3)
    expect(stdout).toMatch(/^MISSING +data container: .*no volume at \/var\/run\/conveyor.*--builder\.data/m)
  })
})

describe('docker logins', () => {
  const inside = async () =>
    JSON.parse(await seenInside('cat /var/run/conveyor/.docker/config.json')) as {
      auths: Record<string, object>
    }

  test('come out of the credential helpers that answer', async () => {
    const list = '{"https://index.docker.io/v1/":"me","registry.example.com":"robot"}'
    await helper(
      'store',
      `read -r server\ncase $1 in list) echo '${list}';; get) case $server in
        registry.example.com) echo '{"Username":"robot","Secret":"from the store"}';;
        *) echo '{"Username":"<token>","Secret":"an identity token"}';; esac;; esac`,
    )
    await helper('one', `echo '{"Username":"one","Secret":"for one"}'`)
    await dockerConfig({
      credsStore: 'store',
      credHelpers: { 'ghcr.io': 'one' },
      auths: { 'registry.example.com': {} },
    })
    const { stdout, code } = await bootstrap()
    expect(code).toBe(0)
    expect(stdout).toMatch(
      /docker logins: ghcr\.io, https:\/\/index\.docker\.io\/v1\/, registry\.example\.com$/m,
    )
    expect(stdout).not.toMatch(/from the store|for one|identity token/)
    const base64 = (text: string) => Buffer.from(text).toString('base64')
    expect(await inside()).toEqual({
      auths: {
        'ghcr.io': { auth: base64('one:for one') },
        'https://index.docker.io/v1/': { identitytoken: 'an identity token' },
        'registry.example.com': { auth: base64('robot:from the store') },
      },
    })
  })

  test('that can not be copied are named with the reason; the others are copied', async () => {
    await helper('broken', 'exit 9')
    await dockerConfig({
      auths: { 'good.example.com': { auth: 'cm9ib3Q6c2VjcmV0' } },
      credHelpers: {
        'broken.example.com': 'broken',
        'absent.example.com': 'nowhere',
        '123456789012.dkr.ecr.eu-central-1.amazonaws.com': 'ecr-login',
      },
    })
    const { stdout, code } = await bootstrap()
    expect(code).toBe(3)
    const line = /^MISSING +docker logins: good\.example\.com, but not (.*)$/m.exec(stdout)?.[1]
    expect(line).toContain('docker-credential-broken, which')
    expect(line).toContain('docker-credential-nowhere, which')
    expect(line).toContain('is made by docker-credential-ecr-login and ends soon')
    expect(Object.keys((await inside()).auths)).toEqual(['good.example.com'])
  })

  test('of a broken file are an error that does not quote it', async () => {
    await writeFile(join(folder.path, 'docker/config.json'), '{"auths": secret-in-here')
    const { stdout, code } = await bootstrap()
    expect(code).toBe(3)
    expect(stdout).toMatch(/^MISSING +docker logins: .*config\.json is not JSON\. Correct the file/m)
    expect(stdout).not.toContain('secret-in-here')
  })
})

describe('--bucket', () => {
  let aws: TestAws
  beforeAll(async () => {
    aws = await startAws()
  })
  afterAll(() => aws[Symbol.asyncDispose]())

  const object = async (Bucket: string, Key: string) =>
    (await aws.s3.send(new GetObjectCommand({ Bucket, Key }))).Body?.transformToString()

  test.each([
    ['the root', '', ''],
    ['a prefix', '/conveyor/prod/', 'conveyor/prod/'],
  ])('uploads the pair to %s, encrypted, once', async (_, given, prefix) => {
    const bucket = await aws.bucket()
    const args = ['--no-image', '--bucket', `s3://${bucket}${given}`]
    const first = await bootstrap(args, aws.env)
    expect(first.code).toBe(0)
    expect(stateOf(first.stdout, 'id_rsa and id_rsa.pub in s3://')).toBe('made')
    for (const name of ['id_rsa', 'id_rsa.pub']) {
      expect(await object(bucket, `${prefix}${name}`)).toBe(await file('data/ssh', name))
      const head = await aws.s3.send(new HeadObjectCommand({ Bucket: bucket, Key: `${prefix}${name}` }))
      expect(head.ContentType).toBe('text/plain')
    }
    expect(stateOf((await bootstrap(args, aws.env)).stdout, 'id_rsa and id_rsa.pub in s3://')).toBe(
      'there already',
    )
  })

  test('never replaces a key that is there', async () => {
    const bucket = await aws.bucket()
    const args = ['--no-image', '--bucket', `s3://${bucket}`]
    await bootstrap(args, aws.env)
    const there = await object(bucket, 'id_rsa')
    await rm(join(folder.path, 'data/ssh'), { recursive: true })
    const { stdout, code } = await bootstrap(args, aws.env)
    expect(code).toBe(3)
    expect(stdout).toMatch(
      /^MISSING +keys in the bucket: s3:\/\/.* has another id_rsa already\. Remove it there/m,
    )
    expect(await object(bucket, 'id_rsa')).toBe(there)
  })

  test('that is not there is named, and the rest is made', async () => {
    const { stdout, code } = await bootstrap(['--no-image', '--bucket', 's3://no-such-bucket'], aws.env)
    expect(code).toBe(3)
    expect(stdout).toMatch(/^MISSING +keys in the bucket: .*s3:\/\/no-such-bucket.*Create the bucket/m)
    expect(stateOf(stdout, 'container')).toBe('made')
  })
})

describe('the builder image', () => {
  afterAll(async () => {
    await docker.getImage(IMAGE).remove({ force: true })
  })

  test('whose base can not be had is named with what to do, and everything else is made', async () => {
    const absent = '127.0.0.1:1/node:24'
    const { stdout, code } = await bootstrap(['--build-arg', `NODE_IMAGE=${absent}`])
    expect(code).toBe(3)
    expect(stdout).toMatch(/^MISSING +builder image: .*127\.0\.0\.1:1.*--build-arg NODE_IMAGE=IMAGE/m)
    expect(stateOf(stdout, 'container')).toBe('made')
    expect(stateOf(stdout, 'settings')).toBe('made')
  })

  test('is built once, anew from other files or arguments, and one of somebody else is left alone', async () => {
    const buildArgs = Object.entries(await conveyorImageArguments(docker))
    const args = buildArgs.flatMap(([name, value]) => ['--build-arg', `${name}=${value}`])
    args.push('--build.network', engine().network ?? 'default')
    const first = await bootstrap(args)
    expect(first.code, first.stderr).toBe(0)
    expect(stateOf(first.stdout, 'builder image')).toBe('made')
    const { Id, Config } = await docker.getImage(IMAGE).inspect()
    expect(Config.Entrypoint).toEqual(['conveyor', 'builder'])

    expect(stateOf((await bootstrap(args)).stdout, 'builder image')).toBe('there already')
    expect((await docker.getImage(IMAGE).inspect()).Id).toBe(Id)
    const other = await bootstrap([...args, '--build-arg', 'OTHER=1'])
    expect(other.stdout).toMatch(/^changed +builder image .*, from newer files$/m)

    const [repo = '', tag = ''] = IMAGE.split(':')
    await docker.getImage(BUSYBOX_IMAGE).tag({ repo, tag })
    const theirs = await bootstrap(args)
    expect(theirs.stdout).toMatch(/^there already +builder image .*leaves as it is$/m)
    expect(theirs.code).toBe(0)
  })
})
