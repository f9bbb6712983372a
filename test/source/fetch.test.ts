import { randomBytes } from 'node:crypto'
import { chmod, open, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { type GitMirrorsOptions, gitMirrors } from '../../src/lib/source/mirrors.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { basicEnv, freePort, killProcess, projectRoot, start } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'

/** A git server and mirrors of it, both disposed when the test is over. */
async function setUp(options: Partial<GitMirrorsOptions> & { token?: string; serverToken?: string } = {}) {
  const { serverToken, ...rest } = options
  const server = await startGitServer(serverToken === undefined ? {} : { token: serverToken })
  onTestFinished(() => server[Symbol.asyncDispose]())
  return { server, ...(await mirrorsOf({ url: server.urlTemplate, ...rest })) }
}

async function mirrorsOf(options: Omit<GitMirrorsOptions, 'dir'> & { dir?: string }) {
  const temp = await tempDir('conveyor-mirrors-')
  const dir = options.dir ?? temp.path
  const warnings: string[] = []
  const warn = (message: string) => warnings.push(message)
  const source = gitMirrors({ environment: basicEnv(), warn, ...options, dir })
  onTestFinished(async () => {
    await source.close()
    await temp[Symbol.asyncDispose]()
    expect(warnings).toEqual([])
  })
  const log: string[] = []
  const fetch = (repository: string, sha: string, signal?: AbortSignal) =>
    source.fetch(repository, sha, { log: (line) => log.push(line), ...(signal && { signal }) })
  return { source, dir, log, fetch }
}

async function failure(promise: Promise<unknown>): Promise<ConveyorError> {
  const error = await promise.then(
    () => undefined,
    (thrown) => thrown,
  )
  expect(error).toBeInstanceOf(ConveyorError)
  return error as ConveyorError
}

/** A tree of about 1.2 MB that does not compress. */
function someFiles(): Record<string, Buffer | string> {
  const names = Array.from({ length: 300 }, (_, i) => `src/part${i % 20}/file${i}.bin`)
  return {
    Dockerfile: 'FROM scratch\n',
    ...Object.fromEntries(names.map((name) => [name, randomBytes(4000)])),
  }
}

const NO_SHA = '0123456789abcdef0123456789abcdef01234567'

describe('what a commit says about itself', () => {
  test('is what git says, in any encoding, on one line', async () => {
    const { server, fetch } = await setUp()
    const repository = await server.create('acme/app')
    const first = await repository.commit({ Dockerfile: 'FROM scratch\n' })
    const tree = await repository.git('rev-parse', `${first}^{tree}`)
    const written = async (headers: string, message: string, encoding: BufferEncoding) => {
      await using folder = await tempDir('conveyor-commit-')
      const file = join(folder.path, 'commit')
      const when = '<a@example.com> 1700000000 +0100'
      const text = `tree ${tree}\nauthor Zoë Ünal ${when}\ncommitter C ${when}\n${headers}\n${message}`
      await writeFile(file, Buffer.from(text, encoding))
      const sha = await repository.git('hash-object', '-t', 'commit', '-w', file)
      await repository.git('update-ref', `refs/heads/${sha}`, sha)
      const [title = '', author = ''] = (
        await repository.git('log', '-1', '--encoding=UTF-8', '--format=%s%n%an', sha)
      ).split('\n')
      return { sha, expected: { title, author, login: null } }
    }
    const signature = 'gpgsig -----BEGIN SSH SIGNATURE-----\n author X <x> 1 +0000\n'
    for (const [headers, message, encoding] of [
      ['', 'Größe 🚀\n\nmore\n', 'utf8'],
      ['encoding ISO-8859-1\n', 'Größe\n', 'latin1'],
      [signature, 'Signed\n', 'utf8'],
      ['', '\n\nlate\n', 'utf8'],
      ['', '', 'utf8'],
    ] as const) {
      const { sha, expected } = await written(headers, message, encoding)
      expect((await fetch('acme/app', sha)).info).toEqual(expected)
    }
    // git shows these as they are.
    const odd = await written('encoding no-such\n', `a\x1b[31m\u202e${'b'.repeat(300)}`, 'utf8')
    expect((await fetch('acme/app', odd.sha)).info.title).toMatch(/^a \[31m b{190,200}$/)
  })
})

describe('a fetch', () => {
  test('fetches a commit, which needs no network from then on', async () => {
    const { server, source, fetch, log, dir } = await setUp()
    const repository = await server.create('Acme/app')
    const sha = await repository.commit(
      { Dockerfile: 'FROM scratch\n' },
      { date: new Date('2024-05-06T07:08:09Z') },
    )
    const commit = await fetch('Acme/app', sha)
    expect(commit).toEqual({
      repository: 'Acme/app',
      url: `${server.url}/Acme/app.git`,
      sha,
      tree: await repository.git('rev-parse', `${sha}^{tree}`),
      committedAt: '2024-05-06T07:08:09.000Z',
      info: { title: 'Commit 1', author: 'Ada Example', login: null },
      message: 'Commit 1',
      gitDir: join(dir, 'acme/app.git'),
    })
    expect(log).toEqual([
      `fetching Acme/app@${sha.slice(0, 7)} from ${new URL(server.url).host}`,
      expect.stringMatching(/^fetched 3 objects, \d+ bytes$/),
    ])

    server.requests.length = 0
    log.length = 0
    expect(await fetch('Acme/app', sha)).toEqual(commit)
    // Another process with the same folder, and a different spelling of the name.
    const other = gitMirrors({ dir, url: server.urlTemplate, environment: basicEnv() })
    expect(await other.fetch('ACME/APP', sha)).toEqual({
      ...commit,
      ...{ repository: 'ACME/APP', url: `${server.url}/ACME/APP.git` },
    })
    expect(server.requests).toEqual([])
    expect(log).toEqual([`Acme/app@${sha.slice(0, 7)} is already in the mirror`])
    expect(await readdir(dir)).toEqual(expect.arrayContaining(['acme']))
    expect((await readdir(join(dir, 'acme'))).sort()).toEqual(['app.git', 'app.lock'])
    await source.close()
  })

  test('of a one-line change transfers five objects, not the tree', async () => {
    const { server, fetch, log } = await setUp()
    const repository = await server.create('acme/app')
    const first = await repository.commit(someFiles())
    await fetch('acme/app', first)
    const whole = transferred(server)
    expect(whole).toBeGreaterThan(1_000_000)

    const second = await repository.commit({ 'src/part1/file1.bin': 'one line\n' })
    log.length = 0
    await fetch('acme/app', second)
    expect(transferred(server) - whole).toBeLessThan(10_000)
    // The commit, the root, src, src/part1 and the file.
    expect(log.at(-1)).toMatch(/^fetched 5 objects/)
  })

  test('transfers no history, and uses a commit of another branch as the base', async () => {
    const { server, fetch, log } = await setUp()
    const repository = await server.create('acme/app')
    for (let i = 0; i < 20; i += 1) await repository.commit({ history: `${i}` })
    const main = await repository.commit(someFiles())
    const commit = await fetch('acme/app', main)
    const branch = await repository.commit({ 'on-a-branch': 'x' }, { branch: 'topic', from: main })
    await fetch('acme/app', branch)
    expect(log.at(-1)).toMatch(/^fetched 3 objects/)
    const shallow = await readFile(join(commit.gitDir, 'shallow'), 'utf8')
    expect(shallow.trim().split('\n').sort()).toEqual([main, branch].sort())
  })

  test('of a commit that no ref contains works, as after a force push', async () => {
    const { server, fetch } = await setUp()
    const repository = await server.create('acme/app')
    const root = await repository.commit({ a: '1' })
    const gone = await repository.commit({ a: '2' })
    await repository.commit({ a: '3' }, { from: root })
    expect((await fetch('acme/app', gone)).sha).toBe(gone)
  })

  test('of SHA-256 commits works', async () => {
    const upstream = await tempDir()
    onTestFinished(() => upstream[Symbol.asyncDispose]())
    const dir = join(upstream.path, 'acme/app.git')
    const run = async (args: string[], input: string) => {
      const git = await start('git', args, { stdio: 'pipe' })
      git.child.stdin?.end(input)
      await git.exited
      return git.stdout().trim()
    }
    await run(['init', '--quiet', '--bare', '--object-format=sha256', dir], '')
    const stream =
      'commit refs/heads/main\nmark :1\ncommitter A <a@b> 1700000000 +0000\ndata 1\nx\nM 644 inline Dockerfile\ndata 1\nx\nget-mark :1\n'
    const sha = await run(['--git-dir', dir, 'fast-import', '--quiet'], stream)
    expect(sha).toHaveLength(64)
    const { source, fetch } = await mirrorsOf({ url: `file://${upstream.path}/{repository}.git` })
    const context = await source.context(await fetch('acme/app', sha))
    expect(context.entries.map(({ path }) => path)).toEqual(['Dockerfile'])
    await context.close()
  })

  test('that is requested twice at once happens once; others of the same repository wait', async () => {
    const { server, dir, fetch } = await setUp()
    const repository = await server.create('acme/app')
    const one = await repository.commit(someFiles())
    const two = await repository.commit({ extra: 'x' })
    // A second source on the same folder acts as a second process: they share no memory.
    const other = gitMirrors({ dir, url: server.urlTemplate, environment: basicEnv() })
    const all = [fetch('acme/app', one), other.fetch('acme/app', one), fetch('acme/app', one)]
    const more = [other.fetch('acme/app', two), fetch('acme/app', two)]
    expect(new Set((await Promise.all(all)).map(({ tree }) => tree)).size).toBe(1)
    expect(new Set((await Promise.all(more)).map(({ tree }) => tree)).size).toBe(1)
    await other.close()
    const packs = server.requests.filter(({ method }) => method === 'POST')
    const advertisements = server.requests.filter(({ method }) => method === 'GET')
    expect(advertisements).toHaveLength(2)
    expect(packs.length).toBeLessThanOrEqual(4)
  })
})

function transferred(server: GitServer): number {
  return server.requests.reduce((sum, { bytesSent }) => sum + bytesSent, 0)
}

describe('errors', () => {
  test('a missing commit', async () => {
    const { server, fetch } = await setUp()
    await (await server.create('acme/app')).commit({ a: '1' })
    const error = await failure(fetch('acme/app', NO_SHA))
    expect(error).toMatchObject({ kind: 'not_found', retryable: false })
    expect(error.advice).toBe(
      `${new URL(server.url).host} has no commit 0123456 in acme/app. Check the sha, and that it was pushed; a force push may have removed it`,
    )
  })

  test('a missing repository', async () => {
    const { server, fetch } = await setUp()
    const error = await failure(fetch('acme/nothing', NO_SHA))
    expect(error).toMatchObject({ kind: 'not_found', retryable: false })
    expect(error.message).toBe(`${new URL(server.url).host} has no repository acme/nothing`)
    expect(error.hint).toMatch(/GITHUB_TOKEN.*hides private repositories/)
  })

  test('an object that is not a commit', async () => {
    const { server, fetch } = await setUp()
    const repository = await server.create('acme/app')
    const sha = await repository.commit({ a: '1' })
    const blob = await repository.git('rev-parse', `${sha}:a`)
    expect(await failure(fetch('acme/app', blob))).toMatchObject({ kind: 'not_found', retryable: false })
    expect((await fetch('acme/app', sha)).sha).toBe(sha)
    expect(await failure(fetch('acme/app', blob))).toMatchObject({ kind: 'not_found' })
  })

  test('invalid names and shas never reach git', async () => {
    const { fetch, server } = await setUp()
    expect(await failure(fetch('../etc/passwd', NO_SHA))).toMatchObject({ kind: 'invalid' })
    expect(await failure(fetch('acme/--upload-pack=x;', NO_SHA))).toMatchObject({ kind: 'invalid' })
    expect(await failure(fetch('acme/app', 'main'))).toMatchObject({ kind: 'invalid' })
    expect(server.requests).toEqual([])
  })

  test.each([
    ['no token', undefined, /requires credentials for acme\/app$/],
    ['a wrong token', 'ghp_wrong_token', /refused the credentials for acme\/app$/],
  ])('%s', async (_, token, message) => {
    const { server, fetch } = await setUp({ serverToken: 's3cret', ...(token && { token }) })
    const sha = await (await server.create('acme/app')).commit({ a: '1' })
    const error = await failure(fetch('acme/app', sha))
    expect(error).toMatchObject({ kind: 'unauthorized', retryable: false })
    expect(error.message).toMatch(message)
    expect(error.hint).toContain('GITHUB_TOKEN')
  })

  test.each([
    [403, 'unauthorized', false],
    [404, 'not_found', false],
    [500, 'unavailable', true],
    [503, 'unavailable', true],
  ])('HTTP status %i', async (status, kind, retryable) => {
    const { server, fetch } = await setUp()
    const sha = await (await server.create('acme/app')).commit({ a: '1' })
    server.failNext(1, status)
    const error = await failure(fetch('acme/app', sha))
    expect(error).toMatchObject({ kind, retryable })
    expect(error.message).toContain('acme/app')
    // The mirror is still usable.
    expect((await fetch('acme/app', sha)).sha).toBe(sha)
  })

  test('connection refused', async () => {
    const { fetch } = await mirrorsOf({ url: `http://127.0.0.1:${await freePort()}/{repository}.git` })
    const error = await failure(fetch('acme/app', NO_SHA))
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(error.message).toMatch(/^could not fetch acme\/app@0123456 from 127\.0\.0\.1:\d+: /)
  })

  test('a server that accepts the connection but never responds', async () => {
    const sockets: Socket[] = []
    const mute = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1')
    await new Promise((resolve) => mute.once('listening', resolve))
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy()
      mute.close()
    })
    const { port } = mute.address() as { port: number }
    const { fetch } = await mirrorsOf({ url: `http://127.0.0.1:${port}/{repository}.git`, silenceMs: 500 })
    const error = await failure(fetch('acme/app', NO_SHA))
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(error.message).toContain('took too long')
    expect(await children('git')).toEqual([])
  })

  test('no git on the machine', async () => {
    const { fetch } = await mirrorsOf({
      url: 'https://127.0.0.1/{repository}',
      environment: { PATH: '/nowhere' },
    })
    const error = await failure(fetch('acme/app', NO_SHA))
    expect(error.advice).toMatch(/^git is not installed on this machine\. Install git/)
  })

  test.each([
    ['https://github.com/owner/name.git'],
    ['ftp://example.com/{repository}'],
    ['ext::sh -c true {repository}'],
    ['--upload-pack={repository}'],
    ['/srv/git/{repository}'],
  ])('a URL template like %s', (url) => {
    expect(() => gitMirrors({ dir: '/nowhere', url })).toThrow(expect.objectContaining({ kind: 'invalid' }))
  })

  test('a cancelled fetch stops at once, with its processes', async () => {
    const { server, fetch } = await setUp()
    const sha = await (await server.create('acme/app')).commit({ a: '1' })
    const gate = server.hold()
    const abort = new AbortController()
    const fetching = failure(fetch('acme/app', sha, abort.signal))
    const waiting = failure(fetch('acme/app', NO_SHA, abort.signal))
    await gate.arrived
    abort.abort()
    expect(await fetching).toMatchObject({ kind: 'cancelled', retryable: false })
    expect(await waiting).toMatchObject({ kind: 'cancelled' })
    expect(await children('git')).toEqual([])
    gate.release()
    expect((await fetch('acme/app', sha)).sha).toBe(sha)
  })

  test('a signal that carries its own reason', async () => {
    const { server, fetch } = await setUp()
    const sha = await (await server.create('acme/app')).commit({ a: '1' })
    const reason = new ConveyorError('timeout', 'the build took longer than 20 minutes')
    expect(await failure(fetch('acme/app', sha, AbortSignal.abort(reason)))).toBe(reason)
  })
})

/** The command lines of this process's children that run this program. */
async function children(name: string): Promise<string[]> {
  const pids = await readFile(`/proc/self/task/${process.pid}/children`, 'utf8')
  const lines = await Promise.all(
    pids
      .split(' ')
      .filter(Boolean)
      .map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  )
  return lines.filter((line) => line.split('\0')[0]?.endsWith(name))
}

describe('secrets', () => {
  const TOKEN = 'ghp_VerySecretTokenOfTheTest'
  const ENCODED = Buffer.from(`x-access-token:${TOKEN}`).toString('base64')

  test('the token is sent, but never appears in a command line, file, log line or error', async () => {
    const { server, dir, fetch, log } = await setUp({ token: TOKEN, serverToken: TOKEN })
    const repository = await server.create('acme/app')
    const sha = await repository.commit({ a: '1' })
    const gate = server.hold()
    const fetching = fetch('acme/app', sha)
    await gate.arrived
    const seen = await commandLines()
    expect(seen.some((line) => line.includes('acme/app.git'))).toBe(true)
    expectNoSecret(seen.join('\n'))
    gate.release()
    await fetching

    server.failNext(1, 500)
    const error = await failure(fetch('acme/app', NO_SHA))
    expectNoSecret(`${error.stack} ${error.advice} ${JSON.stringify(error)} ${String(error.cause)}`)
    expectNoSecret(log.join('\n'))
    const grep = await start('grep', ['-rlaF', '-e', TOKEN, '-e', ENCODED, dir])
    expect(await grep.exited).toMatchObject({ code: 1 })
  })

  test('so are credentials in the URL template', async () => {
    const server = await startGitServer({ token: TOKEN })
    onTestFinished(() => server[Symbol.asyncDispose]())
    const { fetch, log } = await mirrorsOf({ url: server.urlTemplate.replace('://', `://robot:${TOKEN}@`) })
    const sha = await (await server.create('acme/app')).commit({ a: '1' })
    const gate = server.hold()
    const fetching = fetch('acme/app', sha)
    await gate.arrived
    expectNoSecret((await commandLines()).join('\n'))
    gate.release()
    await fetching
    expectNoSecret(log.join('\n'))
    const bad = `https://robot:${TOKEN}@example.com/name`
    expect(() => gitMirrors({ dir: '/nowhere', url: bad })).toThrow('[redacted]@example.com')
  })

  test("git gets neither the server's other variables nor settings from outside", async () => {
    const bin = await tempDir()
    onTestFinished(() => bin[Symbol.asyncDispose]())
    await writeFile(join(bin.path, 'git'), `#!/bin/sh\nenv > ${bin.path}/env\nexit 1\n`)
    await chmod(join(bin.path, 'git'), 0o755)
    const environment = {
      PATH: `${bin.path}:${process.env.PATH}`,
      GITHUB_SECRET: 'webhook secret',
      GIT_TRACE_CURL: '1',
      GIT_DIR: '/somewhere',
      HTTPS_PROXY: 'http://proxy.example:3128',
    }
    const { fetch } = await mirrorsOf({ url: 'https://127.0.0.1/{repository}', environment, token: TOKEN })
    await failure(fetch('acme/app', NO_SHA))
    const env = await readFile(join(bin.path, 'env'), 'utf8')
    expect(env).toContain('HTTPS_PROXY=http://proxy.example:3128')
    expect(env).not.toMatch(/GITHUB_SECRET|GIT_TRACE|\/somewhere/)
    expectNoSecret(env) // This was `git init`: only the fetch itself gets the token.
  })

  function expectNoSecret(text: string): void {
    expect(text).not.toContain(TOKEN)
    expect(text).not.toContain(ENCODED)
  }

  async function commandLines(): Promise<string[]> {
    const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
    return Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  }
})

describe('ssh', () => {
  /** Stands in for ssh: records its arguments, and runs git's server side here. */
  async function withSsh(script: string) {
    const upstream = await startGitServer()
    onTestFinished(() => upstream[Symbol.asyncDispose]())
    const repository = await upstream.create('acme/app')
    const bin = await tempDir()
    onTestFinished(() => bin[Symbol.asyncDispose]())
    const notes = join(bin.path, 'arguments')
    const body = script.replace('UPLOAD', `git upload-pack ${repository.dir}`)
    await writeFile(join(bin.path, 'ssh'), `#!/bin/sh\nprintf '%s\\n' "$@" > ${notes}\n${body}\n`)
    await chmod(join(bin.path, 'ssh'), 0o755)
    return {
      repository,
      environment: { PATH: `${bin.path}:${process.env.PATH}` },
      passed: async () => (await readFile(notes, 'utf8')).trim().split('\n'),
    }
  }

  test.each([
    ['git@git.example:{repository}.git', 'git@git.example', 'acme/app.git'],
    ['ssh://git@git.example/{repository}.git', 'git@git.example', '/acme/app.git'],
  ])('%s', async (url, destination, path) => {
    const { repository, environment, passed } = await withSsh('exec UPLOAD')
    const sha = await repository.commit({ a: '1' })
    const sshKey = "/keys/it's a key"
    const { fetch, log } = await mirrorsOf({ url, environment, sshKey, token: 'unused' })
    await fetch('acme/app', sha)
    const options = await passed()
    expect(options).toEqual(
      expect.arrayContaining([
        'BatchMode=yes',
        'StrictHostKeyChecking=yes',
        'UserKnownHostsFile="/keys/known_hosts" ~/.ssh/known_hosts',
        `IdentityFile="${sshKey}"`,
        'IdentitiesOnly=yes',
      ]),
    )
    expect(options.slice(-2)).toEqual([destination, `git-upload-pack '${path}'`])
    expect(log[0]).toMatch(/ from git\.example$/)
  })

  test.each([
    ['git@github.com: Permission denied (publickey).', 'unauthorized', /deploy key/],
    ['Host key verification failed.', 'unauthorized', /GIT_KNOWN_HOSTS/],
    ['No user exists for uid 12345', 'unavailable', /over HTTPS/],
    ['ERROR: Repository not found.', 'not_found', /private/],
    ['ssh: Could not resolve hostname git.example: Name or service not known', 'unavailable', /DNS settings/],
    ['ssh: connect to host git.example port 22: Connection timed out', 'unavailable', /^$/],
  ])('%s', async (message, kind, hint) => {
    const { environment } = await withSsh(`echo '${message}' >&2; exit 255`)
    const { fetch } = await mirrorsOf({ url: 'git@git.example:{repository}.git', environment })
    const error = await failure(fetch('acme/app', NO_SHA))
    expect(error.kind).toBe(kind)
    expect(error.hint ?? '').toMatch(hint)
  })
})

describe('after a crash', () => {
  /** Fetches in another process, which is killed when `held` requests have arrived. */
  async function fetchElsewhere(dir: string, url: string, sha: string) {
    const mirrors = join(projectRoot, 'src/lib/source/mirrors.ts')
    const options = { dir, url, environment: basicEnv() }
    const code = `
      import { gitMirrors } from ${JSON.stringify(mirrors)}
      await gitMirrors(${JSON.stringify(options)}).fetch('acme/app', ${JSON.stringify(sha)})`
    return start(process.execPath, ['--input-type=module', '-e', code])
  }

  /** Ids of git processes that fetch from this server. */
  async function gitProcesses(url: string): Promise<number[]> {
    const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
    const found = await Promise.all(
      pids.map(async (pid) => {
        const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
        return /^[^\0]*git/.test(line) && line.includes(url) ? [Number(pid)] : []
      }),
    )
    return found.flat()
  }

  test('of Conveyor alone: the next fetch waits for the git process that it left behind', async () => {
    const { server, dir, fetch, log } = await setUp()
    const sha = await (await server.create('acme/app')).commit(someFiles())
    const gate = server.hold()
    const elsewhere = await fetchElsewhere(dir, server.urlTemplate, sha)
    await gate.arrived
    await elsewhere.kill('SIGKILL')
    const fetching = fetch('acme/app', sha)
    // It is still waiting for the lock when git's first request is answered.
    await expect.poll(() => children('flock')).toHaveLength(1)
    expect(log).toEqual([])
    gate.release()
    expect((await fetching).sha).toBe(sha)
    // That git may have finished, or died of its broken pipes.
    expect(log.at(-1)).toMatch(/is already in the mirror$|^fetched \d+ objects/)
  })

  test('of Conveyor and git in the middle of the transfer: the next fetch starts clean', async () => {
    const { server, dir, source, fetch, log } = await setUp()
    const repository = await server.create('acme/app')
    const before = await repository.commit({ ...someFiles(), Dockerfile: 'FROM scratch\n' })
    await fetch('acme/app', before)
    const sha = await repository.commit({ large: randomBytes(30_000_000) })
    const stalled = server.stall(1_000_000)
    const elsewhere = await fetchElsewhere(dir, server.urlTemplate, sha)
    const packs = join(dir, 'acme/app.git/objects/pack')
    // The pack has begun to arrive.
    await expect
      .poll(async () => (await readdir(packs)).filter((name) => name.startsWith('tmp_')))
      .not.toEqual([])
    const pids = await gitProcesses(server.url)
    expect(pids).not.toEqual([])
    await elsewhere.kill('SIGKILL')
    for (const pid of pids) await killProcess(pid)
    stalled.release()
    // Locks that a git leaves if it is killed at other moments.
    for (const lock of ['shallow.lock', 'packed-refs.lock', 'HEAD.lock', `refs/conveyor/${sha}.lock`]) {
      await (await open(join(dir, 'acme/app.git', lock), 'a')).close()
    }
    log.length = 0
    const context = await source.context(await fetch('acme/app', sha))
    expect(log[0]).toMatch(/^fetching/)
    let size = 0
    for (const entry of context.entries.filter(({ kind }) => kind === 'file')) {
      for await (const chunk of context.read(entry)) size += chunk.length
    }
    expect(size).toBeGreaterThan(31_000_000)
    await context.close()
    const left = [...(await readdir(packs)), ...(await readdir(join(dir, 'acme/app.git')))]
    expect(left.filter((name) => /^tmp_|\.lock$|\.keep$/.test(name))).toEqual([])
  })

  test('a commit object without its tree does not count as fetched', async () => {
    const { server, fetch, source } = await setUp()
    const repository = await server.create('acme/app')
    const first = await repository.commit({ Dockerfile: 'FROM scratch\n' })
    const { gitDir } = await fetch('acme/app', first)
    const second = await repository.commit({ more: 'x' })
    const object = await start('sh', [
      '-c',
      'git --git-dir "$1" cat-file commit "$3" | git --git-dir "$2" hash-object -t commit -w --stdin',
      '-',
      repository.dir,
      gitDir,
      second,
    ])
    await object.exited
    expect(object.stdout().trim()).toBe(second)
    const context = await source.context(await fetch('acme/app', second))
    expect(context.entries.map(({ path }) => path)).toEqual(['Dockerfile', 'more'])
    await context.close()
  })
})

describe('a corrupt mirror', () => {
  test.each([
    ['HEAD', 'garbage'],
    ['config', '[core'],
    ['objects', null],
  ])('with a corrupt %s is recreated during the fetch', async (name, content) => {
    const { server, fetch, log } = await setUp()
    const repository = await server.create('acme/app')
    const { gitDir } = await fetch('acme/app', await repository.commit({ a: '1' }))
    const path = join(gitDir, name)
    if (content === null) await (await start('rm', ['-r', path])).exited
    else await writeFile(path, content)
    const sha = await repository.commit({ a: '2' })
    log.length = 0
    expect((await fetch('acme/app', sha)).sha).toBe(sha)
    expect(log).toContain('the mirror of acme/app is corrupt; recreating it')
  })

  test('with a ref whose commit is missing is recreated for that commit, too', async () => {
    const { server, fetch, source } = await setUp()
    const repository = await server.create('acme/app')
    const sha = await repository.commit({ Dockerfile: 'FROM scratch\n' })
    const { gitDir } = await fetch('acme/app', sha)
    await (await start('rm', ['-r', join(gitDir, 'objects/pack')])).exited
    const context = await source.context(await fetch('acme/app', sha))
    expect(context.entries).toHaveLength(1)
    await context.close()
  })

  test('that is noticed only when the tree is read fails once, and the next fetch recreates the mirror', async () => {
    const { server, fetch, source } = await setUp()
    const repository = await server.create('acme/app')
    const sha = await repository.commit({ Dockerfile: 'FROM scratch\n', ...someFiles() })
    const commit = await fetch('acme/app', sha)
    const packs = join(commit.gitDir, 'objects/pack')
    for (const name of (await readdir(packs)).filter((one) => one.endsWith('.pack'))) {
      await chmod(join(packs, name), 0o644)
      await truncate(join(packs, name), (await stat(join(packs, name))).size - 500_000)
    }
    const read = async () => {
      const context = await source.context(commit)
      try {
        for (const entry of context.entries.filter(({ kind }) => kind === 'file')) {
          for await (const _ of context.read(entry));
        }
      } finally {
        await context.close()
      }
    }
    const error = await failure(read())
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(error.message).toMatch(/^the local mirror of acme\/app is corrupt: /)
    await fetch('acme/app', sha)
    await read()
  })
})

describe('maintenance', () => {
  const refs = (gitDir: string) => readdir(join(gitDir, 'refs/conveyor'))
  const packs = async (gitDir: string) =>
    (await readdir(join(gitDir, 'objects/pack'))).filter((name) => name.endsWith('.pack'))

  test('keeps the most recently used commits, in few packs', async () => {
    const { server, fetch, source, log } = await setUp({ limits: { keepCommits: 4, maxPacks: 3 } })
    const repository = await server.create('acme/app')
    const shas: string[] = []
    let gitDir = ''
    for (let i = 0; i < 10; i += 1) {
      shas.push(
        await repository.commit({ ...(i === 0 && someFiles()), Dockerfile: `FROM scratch\n# ${i}\n` }),
      )
      gitDir = (await fetch('acme/app', shas.at(-1) as string)).gitDir
      await fetch('acme/app', shas[0] as string) // It stays in use.
    }
    await expect.poll(() => refs(gitDir)).toHaveLength(4)
    await expect.poll(async () => (await packs(gitDir)).length).toBeLessThanOrEqual(4)
    expect((await refs(gitDir)).sort()).toEqual([shas[0], ...shas.slice(-3)].sort())
    // It still serves as a base for the next fetch.
    const next = await repository.commit({ Dockerfile: 'FROM scratch\n# next\n' })
    const context = await source.context(await fetch('acme/app', next))
    expect(log.at(-1)).toMatch(/^fetched 3 objects/)
    expect(context.entries.length).toBeGreaterThan(300)
    await context.close()
  })

  test('drops objects that no kept commit needs, and is harmless when aborted', async () => {
    const limits = { keepCommits: 1, maxPacks: 1, pruneEveryMs: 0 }
    const { server, fetch, source } = await setUp({ limits })
    const repository = await server.create('acme/app')
    for (let i = 0; i < 8; i += 1) {
      const sha = await repository.commit({ Dockerfile: 'FROM scratch\n', data: randomBytes(100_000) })
      // Each fetch completes the maintenance that the previous one began.
      const context = await source.context(await fetch('acme/app', sha))
      expect(context.entries.map(({ path }) => path)).toEqual(['Dockerfile', 'data'])
      await context.close()
    }
    const gitDir = (await fetch('acme/app', await repository.resolve('main'))).gitDir
    await expect.poll(() => refs(gitDir)).toHaveLength(1)
    await source.close()
    const check = await start('git', ['--git-dir', gitDir, 'fsck', '--connectivity-only'])
    expect(await check.exited).toMatchObject({ code: 0 })
  })
})
