import { execFile } from 'node:child_process'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { type GitMirrorsOptions, gitMirrors } from '../../src/lib/source/mirrors.ts'
import { createGitRepository } from '../support/git/repository.ts'
import { type SshServer, startSshServer } from '../support/git/ssh-server.ts'
import { basicEnv } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

/** Which ssh servers are trusted, with a real ssh and a server that presents a host key. */

const run = promisify(execFile)

let scratch: TempDir
let server: SshServer
let sha: string
beforeAll(async () => {
  scratch = await tempDir()
  const repository = await createGitRepository(join(scratch.path, 'acme/app.git'), '')
  sha = await repository.commit({ a: '1' })
  server = await startSshServer(scratch.path)
})
afterAll(async () => {
  await server[Symbol.asyncDispose]()
  await scratch[Symbol.asyncDispose]()
})

async function fetchWith(options: Partial<GitMirrorsOptions>) {
  const dir = await tempDir()
  onTestFinished(() => dir[Symbol.asyncDispose]())
  const source = gitMirrors({
    dir: dir.path,
    url: server.urlTemplate,
    environment: { ...basicEnv(), ...options.environment },
    ...options,
  })
  const before = server.logins
  return {
    dir: dir.path,
    fetched: await source.fetch('acme/app', sha).then(
      (commit) => commit.sha,
      ({ kind, message, hint }) => ({ kind, message, hint }),
    ),
    loggedIn: server.logins > before,
  }
}

async function file(content: string, name = 'known_hosts'): Promise<string> {
  const dir = await tempDir()
  onTestFinished(() => dir[Symbol.asyncDispose]())
  await writeFile(join(dir.path, name), content)
  return join(dir.path, name)
}

/** The key of another server. */
async function strangeKey(): Promise<string> {
  const key = join(dirname(await file('')), 'key')
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key])
  return (await readFile(`${key}.pub`, 'utf8')).split(' ').slice(0, 2).join(' ')
}

test('an unknown host key is refused, before any login', async () => {
  const { fetched, loggedIn } = await fetchWith({})
  expect(fetched).toEqual({
    kind: 'unauthorized',
    message: 'unknown SSH host key of 127.0.0.1, while fetching acme/app',
    hint: `Add it to the file of --git.known-hosts (GIT_KNOWN_HOSTS): get it with ssh-keyscan -p ${server.port} 127.0.0.1, and verify it with the operators of 127.0.0.1. Or set accept-new to trust the first key`,
  })
  expect(loggedIn).toBe(false)
})

test('a host key in the file is accepted', async () => {
  const { fetched } = await fetchWith({ knownHosts: await file(server.knownHosts) })
  expect(fetched).toBe(sha)
})

test('and so is one in the known_hosts next to the private key, as in builder images', async () => {
  const sshKey = join(dirname(await file(server.knownHosts)), 'id_ed25519')
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', sshKey])
  expect((await fetchWith({ sshKey })).fetched).toBe(sha)
})

test('a host key that differs from the file is refused', async () => {
  const knownHosts = await file(`[127.0.0.1]:${server.port} ${await strangeKey()}\n`)
  const { fetched, loggedIn } = await fetchWith({ knownHosts })
  expect(fetched).toMatchObject({
    kind: 'unauthorized',
    message:
      'the SSH host key of 127.0.0.1 has changed, while fetching acme/app; this may be a man-in-the-middle attack',
  })
  expect(loggedIn).toBe(false)
})

test('accept-new trusts the first key, and remembers it', async () => {
  const { fetched, dir } = await fetchWith({ knownHosts: 'accept-new' })
  expect(fetched).toBe(sha)
  // Debian's ssh hashes the names.
  const { stdout } = await run('ssh-keygen', [
    ...['-F', `[127.0.0.1]:${server.port}`, '-f', join(dir, 'known_hosts')],
  ])
  expect(stdout).toContain(server.knownHosts.trim().split(' ')[2])
})

test('github.com must have a host key that GitHub has published', async () => {
  // Redirects ssh to our server, as an attacker on the network could.
  const ssh = await file(
    `#!/bin/sh\nexec /usr/bin/ssh -o HostName=127.0.0.1 -o Port=${server.port} -o HostKeyAlias=github.com "$@"\n`,
    'ssh',
  )
  await chmod(ssh, 0o755)
  const PATH = `${dirname(ssh)}:${process.env.PATH}`
  const url = 'git@github.com:{repository}.git'
  const { fetched, loggedIn, dir } = await fetchWith({ url, environment: { ...basicEnv(), PATH } })
  expect(fetched).toMatchObject({
    kind: 'unauthorized',
    message: expect.stringContaining('has changed'),
  })
  expect(loggedIn).toBe(false)

  // The fingerprints from GitHub's documentation.
  const { stdout } = await run('ssh-keygen', ['-l', '-f', join(dir, 'github_known_hosts')])
  expect(stdout.match(/SHA256:\S+/g)).toEqual([
    'SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU',
    'SHA256:p2QAMXNIC1TJYWeIOttrVc98/R1BUFWu3/LiyKgUfQM',
    'SHA256:uNiVztksCsDhcc0u9e8BujQXVUpKZIDTMczCvj3tD2s',
  ])
  const own = await file(`github.com ${server.knownHosts.split(' ').slice(1).join(' ')}`)
  const known = await fetchWith({ url, environment: { ...basicEnv(), PATH }, knownHosts: own })
  expect(known.fetched).toBe(sha)
})
