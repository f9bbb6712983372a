import { execFile } from 'node:child_process'
import { chmod, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { settingsText } from '../../src/lib/bootstrap/settings.ts'
import { engine } from '../support/global-setup.ts'
import { machines, stateOf } from '../support/images/bootstrap.ts'
import { projectRoot } from '../support/processes.ts'

const run = promisify(execFile)
const { path, data, bootstrap, file, modeOf, inside } = machines()

describe('conveyor bootstrap', () => {
  test('creates everything once, and changes nothing the second time', async () => {
    const first = await bootstrap()
    expect(first.stderr).toBe('')
    expect(first.code).toBe(0)
    for (const what of ['data directory', 'SSH key', 'settings', 'container']) {
      expect(stateOf(first.stdout, what)).toBe('created')
    }
    const kept = async () =>
      Promise.all([file('.env'), file('data/ssh/id_rsa'), file('data/ssh/id_rsa.pub'), contentId()])
    const contentId = async () => (await engine().docker.getContainer(data()).inspect()).Id
    const before = await kept()

    const second = await bootstrap()
    expect(second.code).toBe(0)
    for (const what of [
      'data directory',
      'git version',
      'Docker engine',
      'SSH key',
      'settings',
      'container',
    ]) {
      expect(stateOf(second.stdout, what)).toBe('ok')
    }
    expect(second.stdout).not.toMatch(/^(created|updated|MISSING)/m)
    expect(await kept()).toEqual(before)
  })

  test('the key pair is RSA with 4096 bits, readable by its owner only; its public key is printed for GitHub', async () => {
    const { stdout } = await bootstrap()
    const key = path('data/ssh/id_rsa')
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

  test('the settings are readable by their owner only, with generated secrets; .env.sample is the same without them', async () => {
    await bootstrap()
    const written = await file('.env')
    expect(await modeOf('.env')).toBe(0o600)
    const [secret, password] = [...written.matchAll(/^\w+=([0-9a-f]{64})$/gm)].map(([, value]) => value)
    expect(secret).not.toBe(password)
    const socket = engine().dockerHost.replace('unix://', '')
    expect(written).toContain(`\nDOCKER_SOCKET=${socket}\nDOCKER_GID=${(await stat(socket)).gid}\n`)
    expect(written).toContain(`\n#GIT_SSH_KEY=${path('data/ssh/id_rsa')}\n`)
    const loaded = await run('sh', ['-ec', 'set -a; . ./.env; echo "$GITHUB_SECRET"'], { cwd: path() })
    expect(loaded.stdout).toBe(`${secret}\n`)

    const sample = { githubSecret: '', basicAuth: '', postgresPassword: '', dockerGid: '' }
    const paths = { dockerSocket: '/var/run/docker.sock', sshKey: '/var/lib/conveyor/ssh/id_rsa' }
    expect(await readFile(join(projectRoot, '.env.sample'), 'utf8')).toBe(
      settingsText({ ...sample, ...paths }),
    )
  })

  test('without DOCKER_HOST, the settings name the socket that Docker uses by default', async () => {
    await bootstrap(['--no-image'], { DOCKER_HOST: '', HOME: path() })
    expect(await file('.env')).toContain('\nDOCKER_SOCKET=/var/run/docker.sock\n')
  })

  test('the settings get a generated login; one is added to older settings without it', async () => {
    await bootstrap()
    const login = /^BASIC_AUTH=conveyor:[0-9a-f]{64}$/m
    const written = await file('.env')
    expect(written).toMatch(login)

    const old = written.replace(/^BASIC_AUTH=.*\n/m, '')
    await writeFile(path('.env'), old)
    await chmod(path('.env'), 0o644)
    const again = await bootstrap()
    expect(stateOf(again.stdout, 'settings')).toBe('updated')
    expect(again.stdout).not.toMatch(/[0-9a-f]{64}/)
    const added = await file('.env')
    expect(added.startsWith(old)).toBe(true)
    expect(added.slice(old.length)).toMatch(login)
    expect(added.match(login)?.[0]).not.toBe(written.match(login)?.[0])
    expect(await modeOf('.env')).toBe(0o600)
  })

  test.each([
    ['of another program', 'NAME=x\n'],
    ['that leave it out on purpose', 'GITHUB_SECRET=x\nBASIC_AUTH=\n'],
  ])('settings %s are unchanged', async (_, text) => {
    await writeFile(path('.env'), text)
    expect(stateOf((await bootstrap()).stdout, 'settings')).toBe('ok')
    expect(await file('.env')).toBe(text)
  })

  test('an existing key is used; permissions of a readable one are restricted, a missing public key is created', async () => {
    await mkdir(path('keys'))
    const key = path('keys/id_rsa')
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key])
    const publicKey = await file('keys/id_rsa.pub')
    await rm(`${key}.pub`)
    await chmod(key, 0o644)
    const { stdout, code } = await bootstrap(['--no-image', '--ssh-dir', 'keys'])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^updated +SSH key .*now readable only by its owner$/m)
    expect(await modeOf('keys/id_rsa')).toBe(0o600)
    expect((await file('keys/id_rsa.pub')).split(' ')[1]).toBe(publicKey.split(' ')[1])
  })

  test.each([
    ['a passphrase', ['-N', 'secret words'], /without a passphrase/],
    [
      'a public half of another',
      ['-N', ''],
      /id_rsa\.pub does not belong to the private key .*Remove the wrong one/,
    ],
  ])('a key with %s is not used, and the rest is created', async (name, args, reason) => {
    const dir = path('data/ssh')
    await mkdir(dir, { recursive: true })
    await run('ssh-keygen', ['-q', '-t', 'ed25519', ...args, '-f', join(dir, 'id_rsa')])
    if (name.includes('another')) await writeFile(join(dir, 'id_rsa.pub'), 'ssh-ed25519 AAAA somebody\n')
    const { stdout, code } = await bootstrap()
    expect(code).toBe(3)
    expect(stdout).toMatch(new RegExp(`^MISSING +SSH key: .*${reason.source}`, 'm'))
    expect(stateOf(stdout, 'settings')).toBe('created')
    expect(stateOf(stdout, 'container')).toBe('created')
    expect(await inside('ls -A /var/run/conveyor')).toBe('.docker\n')
  })

  test('without an engine, everything else is created, with a hint', async () => {
    const { stdout, code } = await bootstrap([], { DOCKER_HOST: 'unix:///nonexistent/docker.sock' })
    expect(code).toBe(3)
    expect(stdout).toMatch(/^MISSING +Docker engine: not reachable .*Start it, or set DOCKER_HOST$/m)
    expect(stdout).toMatch(/^MISSING +builder image: requires a Docker engine$/m)
    expect(stateOf(stdout, 'SSH key')).toBe('created')
    expect(stateOf(stdout, 'settings')).toBe('created')
    expect(stdout).toContain('ssh-rsa ')
  })

  test('settings that cannot be written do not prevent the rest', async () => {
    const { stdout, code } = await bootstrap(['--no-image', '--settings', 'no/such/folder/.env'])
    expect(code).toBe(3)
    expect(stdout).toMatch(/^MISSING +settings: .*--settings$/m)
    expect(stateOf(stdout, 'container')).toBe('created')
  })

  test.each([
    [['--bucket', 'acme-keys'], /--bucket is "acme-keys": expected s3:\/\/BUCKET\[\/PREFIX\]/],
    [['--build-arg', 'NODE_IMAGE'], /--build-arg is "NODE_IMAGE": expected NAME=VALUE/],
  ])('%j is refused before anything is created', async (args, reason) => {
    const { stderr, code } = await bootstrap(args)
    expect(code).toBe(2)
    expect(stderr.replace(/\s+›?\s*/g, ' ')).toMatch(reason)
    await expect(file('.env')).rejects.toThrow('ENOENT')
  })
})
