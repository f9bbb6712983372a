import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { gitEnv } from '../support/git/repository.ts'
import { startGitServer } from '../support/git/server.ts'
import { freePort, isRunning, projectRoot, runConveyor, start, startConveyor } from '../support/processes.ts'
import { startRegistry } from '../support/registry/registry.ts'
import { tempDir } from '../support/temp.ts'

async function git(cwd: string, ...args: string[]) {
  const command = await start('git', args, { cwd, env: { ...gitEnv(), GIT_TRACE_PACKET: '1' } })
  const exit = await command.exited
  return { ...exit, stdout: command.stdout(), stderr: command.stderr() }
}

const basic = (user: string, password: string) => ({
  authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
})

describe('registry', () => {
  it('keeps its address and data over a restart', async () => {
    await using registry = await startRegistry()
    const upload = await fetch(`${registry.url}/v2/a/b/blobs/uploads/`, { method: 'POST' })
    const digest = 'sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824' // of "hello"
    const put = await fetch(`${upload.headers.get('location')}&digest=${digest}`, {
      method: 'PUT',
      body: 'hello',
      headers: { 'content-type': 'application/octet-stream' },
    })
    expect(put.status).toBe(201)

    const { pid } = registry
    await registry.stop()
    expect(await isRunning(pid)).toBe(false)
    await expect(fetch(registry.url)).rejects.toThrow()
    await registry.start()
    expect(registry.pid).not.toBe(pid)
    const blob = await fetch(`${registry.url}/v2/a/b/blobs/${digest}`)
    expect(await blob.text()).toBe('hello')
    const deleted = await fetch(`${registry.url}/v2/a/b/blobs/${digest}`, { method: 'DELETE' })
    expect(deleted.status).toBe(202)
  })

  it('accepts only the right login', async () => {
    const password = 'p ä$s:word'
    await using registry = await startRegistry({ htpasswd: { username: 'ada', password } })
    const ask = async (headers = {}) => (await fetch(`${registry.url}/v2/`, { headers })).status
    expect(await ask()).toBe(401)
    expect(await ask(basic('ada', 'wrong'))).toBe(401)
    expect(await ask(basic('ada', password))).toBe(200)
  })

  it('reports why it does not start', async () => {
    await using first = await startRegistry()
    const port = Number(first.host.split(':')[1])
    await expect(startRegistry({ port })).rejects.toThrow('address already in use')
  })
})

describe('git server', () => {
  it('serves clones with protocol v2, compressed requests, any commit by id, and pushes', async () => {
    await using server = await startGitServer()
    await using work = await tempDir()
    const repository = await server.create('acme/app')
    const first = await repository.commit({ 'readme.md': 'one\n' })
    // git compresses requests larger than 1 kB: a few dozen refs are enough.
    for (let n = 0; n < 40; n++) await repository.commit({ n: String(n) }, { branch: `b${n}` })
    const clone = await git(work.path, 'clone', '--quiet', repository.url, 'app')
    expect(clone).toMatchObject({ code: 0 })
    expect(clone.stderr).toContain('version 2')
    expect(await readFile(join(work.path, 'app/readme.md'), 'utf8')).toBe('one\n')
    expect(server.requests.every(({ status, bytesSent }) => status === 200 && bytesSent > 0)).toBe(true)

    const second = await repository.commit({ 'readme.md': 'two\n' })
    await repository.commit({ 'readme.md': 'three\n' })
    await mkdir(join(work.path, 'bare'))
    const bare = join(work.path, 'bare')
    await git(bare, 'init', '--quiet', '--bare')
    expect(await git(bare, 'fetch', '--quiet', '--depth=1', repository.url, second)).toMatchObject({
      code: 0,
    })

    const app = join(work.path, 'app')
    const large = Buffer.alloc(3 << 20, 'not compressible? it is, but not by the chunk\n')
    await writeFile(join(app, 'large'), large)
    await git(app, 'config', 'core.compression', '0')
    await git(app, 'add', '.')
    await git(app, '-c', 'user.name=A', '-c', 'user.email=a@example.com', 'commit', '--quiet', '-m', 'large')
    server.requests.length = 0
    expect(await git(app, 'push', '--quiet', 'origin', 'HEAD:refs/heads/pushed')).toMatchObject({ code: 0 })
    expect(server.requests.reduce((sum, { bytesReceived }) => sum + bytesReceived, 0)).toBeGreaterThan(
      3 << 20,
    )
    expect(await repository.git('cat-file', '-s', 'pushed:large')).toBe(String(large.length))
    expect(await repository.git('merge-base', 'pushed', 'main')).toBe(first)
  })

  it('unpacks a compressed request', async () => {
    await using server = await startGitServer()
    const repository = await server.create('acme/app')
    const sha = await repository.commit({ a: '1' })
    const line = (text: string) => `${(text.length + 4).toString(16).padStart(4, '0')}${text}`
    const response = await fetch(`${repository.url}/git-upload-pack`, {
      method: 'POST',
      headers: {
        'content-type': 'application/x-git-upload-pack-request',
        'content-encoding': 'gzip',
        'git-protocol': 'version=2',
      },
      body: gzipSync(`${line('command=ls-refs\n')}0000`),
    })
    expect(await response.text()).toContain(`${sha} refs/heads/main`)
  })

  it('requires the token, and has no other repositories', async () => {
    await using server = await startGitServer({ token: 's3cret' })
    await server.create('acme/app')
    const ask = async (path: string, headers = {}) => {
      const response = await fetch(`${server.url}/${path}/info/refs?service=git-upload-pack`, { headers })
      await response.body?.cancel()
      return response
    }
    const refused = await ask('acme/app.git')
    expect(refused.status).toBe(401)
    expect(refused.headers.get('www-authenticate')).toMatch(/^Basic /)
    expect((await ask('acme/app.git', basic('x', 'guess'))).status).toBe(401)
    expect((await ask('acme/app.git', basic('x-access-token', 's3cret'))).status).toBe(200)
    expect((await ask('acme/none.git', basic('x', 's3cret'))).status).toBe(404)
    expect((await ask('acme', basic('x', 's3cret'))).status).toBe(404)
  })

  it('fails and waits when configured to', async () => {
    await using server = await startGitServer()
    const repository = await server.create('acme/app')
    await repository.commit({ a: '1' })
    server.failNext(2, 503)
    const ask = async () => (await fetch(`${repository.url}/info/refs?service=git-upload-pack`)).status
    expect([await ask(), await ask(), await ask()]).toEqual([503, 503, 200])

    const gate = server.hold()
    let answered = false
    const asking = ask().then((status) => {
      answered = true
      return status
    })
    await gate.arrived
    expect(answered).toBe(false)
    gate.release()
    expect(await asking).toBe(200)

    server.hold()
    const left = expect(ask()).rejects.toThrow()
    await server[Symbol.asyncDispose]() // does not wait for requests that it holds
    await left
  })
})

describe('git repository', () => {
  it('commits any name, kind and content, with the same ids every time', async () => {
    await using server = await startGitServer()
    const odd = Buffer.from([0x62, 0xff, 0x0a, 0x22, 0x5c])
    const write = async (name: string) => {
      const repository = await server.create(name)
      const first = await repository.commit([
        ['dir/ü "quoted"\t\\x', 'text'],
        [odd, new Uint8Array([0, 255, 10])],
        ['run.sh', { content: '#!/bin/sh\n', mode: 0o755 }],
        ['link', { symlink: 'dir/../run.sh' }],
        ['empty', ''],
        ['lib', { submodule: '1'.repeat(40) }],
      ])
      const second = await repository.commit({ empty: null, lib: null }, { message: 'less [docker nocache]' })
      return { repository, first, second }
    }
    const { repository, first, second } = await write('acme/one')
    expect(await write('acme/two')).toMatchObject({ first, second })

    const list = await repository.git('ls-tree', '-r', '-z', first)
    const modes = list.split('\0').map((line) => line.slice(0, 6))
    expect(modes.sort()).toEqual(['', '100644', '100644', '100644', '100755', '120000', '160000'])
    expect(list).toContain('dir/ü "quoted"\t\\x')
    expect(await repository.git('cat-file', 'blob', `${first}:link`)).toBe('dir/../run.sh')
    expect(await repository.git('ls-tree', '-r', first)).toContain('"b\\377\\n\\"\\\\"')
    expect(await repository.git('log', '--format=%s %cI', second)).toBe(
      'less [docker nocache] 2024-01-01T00:00:02+00:00\nCommit 1 2024-01-01T00:00:01+00:00',
    )
  })

  it('creates a branch, and moves a branch back', async () => {
    await using server = await startGitServer()
    const repository = await server.create('acme/app')
    const base = await repository.commit({ a: '1' })
    const side = await repository.commit({ b: '1' }, { branch: 'feature/x', from: 'main' })
    const later = await repository.commit({ a: '2' }, { date: new Date('2025-05-05T05:05:05Z') })
    expect(await repository.git('show', '-s', '--format=%cI', later)).toBe('2025-05-05T05:05:05+00:00')
    const forced = await repository.commit({ a: '3' }, { from: base })
    expect(await repository.resolve('feature/x')).toBe(side)
    expect(await repository.resolve('main')).toBe(forced)
    expect(await repository.git('rev-list', 'main', 'feature/x')).not.toContain(later)
  })
})

describe('processes', () => {
  it('reports what a process printed instead of the expected output', async () => {
    await using shell = await start('sh', ['-c', 'echo out; echo why >&2; exit 3'])
    await expect(shell.waitFor(/ready/)).rejects.toThrow(/ended without printing \/ready\/.*\nout\nwhy/s)
    expect(await shell.exited).toEqual({ code: 3, signal: null })
    await expect(start('/no/such/program', [])).rejects.toThrow('ENOENT')
  })

  it('ends a process that ignores the signal', async () => {
    await using shell = await start('sh', ['-c', 'trap "" TERM; echo ready; while :; do sleep 0.1; done'])
    await shell.waitFor(/ready/)
    expect(await shell.kill('SIGTERM', 50)).toEqual({ code: null, signal: 'SIGKILL' })
    expect(await isRunning(shell.pid)).toBe(false)
  })

  it('passes nothing of the environment on', async () => {
    process.env.CONVEYOR_TEST_SECRET = 'x'
    await using printed = await start('env', [])
    delete process.env.CONVEYOR_TEST_SECRET
    await printed.exited
    expect(printed.stdout()).toContain('PATH=')
    expect(printed.stdout()).not.toContain('CONVEYOR_TEST_SECRET')
  })

  it('runs conveyor, and waits for what it prints', async () => {
    expect(await runConveyor(['--version'])).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^conveyor\/\d/),
    })
    await using started = await startConveyor(['--version'], { ready: /conveyor\/(\S+)/ })
    expect(started.url).toMatch(/^\d+\.\d+/)
    await expect(startConveyor(['--version'], { ready: /http/ })).rejects.toThrow('ended without printing')
  })

  it('finds ports outside the range of outgoing connections', async () => {
    const port = await freePort()
    expect(port).toBeLessThan(32_768)
  })

  it('fails a test file that leaves a process running, and ends that process', async () => {
    await mkdir(join(projectRoot, '.conveyor'), { recursive: true })
    await using folder = await tempDir()
    const support = JSON.stringify(join(projectRoot, 'test/support/processes.ts'))
    await writeFile(
      join(folder.path, 'leak.test.ts'),
      `import { writeFileSync } from 'node:fs'
       import { start } from ${support}
       test('leaks', async () => writeFileSync('pid', String((await start('sleep', ['600'])).pid)))`,
    )
    const vitest = join(projectRoot, 'node_modules/vitest/vitest.mjs')
    await using run = await start(process.execPath, [vitest, 'run', '--globals', '--root', folder.path], {
      cwd: folder.path,
    })
    expect((await run.exited).code).toBe(1)
    expect(run.stderr()).toContain('still running at the end of the file: sleep 600')
    expect(await isRunning(Number(await readFile(join(folder.path, 'pid'), 'utf8')))).toBe(false)
  })
})
