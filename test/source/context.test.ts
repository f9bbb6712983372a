import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { dockerfileText } from '../../src/lib/dockerfile/read.ts'
import { dockerfileKey } from '../../src/lib/pipeline/reuse/recipe.ts'
import { type GitMirrors, gitMirrors } from '../../src/lib/source/mirrors.ts'
import type { Context, ContextEntry } from '../../src/lib/source/source.ts'
import type { FileContent, Files } from '../support/git/repository.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { basicEnv, start } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

let server: GitServer
let temp: TempDir
let source: GitMirrors
let count = 0

beforeAll(async () => {
  server = await startGitServer()
  temp = await tempDir('conveyor-mirrors-')
  source = gitMirrors({ dir: temp.path, url: server.urlTemplate, environment: basicEnv() })
})

afterAll(async () => {
  await source.close()
  await server[Symbol.asyncDispose]()
  // All contexts were closed, so none of their files are left.
  expect(await readdir(join(temp.path, '.tmp'))).toEqual([])
  await temp[Symbol.asyncDispose]()
})

/** The context of one new commit in its own repository. */
async function contextOf(files: Files, options: { dockerfile?: string; signal?: AbortSignal } = {}) {
  count += 1
  const repository = await server.create(`acme/app${count}`)
  const sha = await repository.commit(files)
  const context = await source.context(await source.fetch(`acme/app${count}`, sha), options)
  onTestFinished(() => context.close())
  return context
}

async function refused(files: Files, options: { dockerfile?: string } = {}): Promise<ConveyorError> {
  const error = await contextOf(files, options).then(
    () => undefined,
    (thrown) => thrown,
  )
  expect(error).toBeInstanceOf(ConveyorError)
  return error as ConveyorError
}

const paths = (entries: readonly ContextEntry[]) =>
  entries.map(({ path, kind }) => (kind === 'directory' ? `${path}/` : path))

function entryOf(context: Context, path: string): ContextEntry {
  const entry = [...context.entries, ...context.dockerfileEntries].find((one) => one.path === path)
  if (!entry) throw new Error(`no ${path} in the context`)
  return entry
}

async function contentOf(context: Context, path: string): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of context.read(entryOf(context, path))) chunks.push(chunk)
  return Buffer.concat(chunks)
}

const NEVER = new AbortController().signal
const DOCKERFILE = { Dockerfile: 'FROM scratch\nCOPY . /\n' }

describe('entries', () => {
  test('are in walk order, with the modes of a checkout', async () => {
    const context = await contextOf({
      ...DOCKERFILE,
      'run.sh': { content: '#!/bin/sh\n', mode: 0o755 },
      a: { symlink: 'a.txt' },
      'a.txt': 'text',
      'b/c': 'c',
      'b-': '',
      'b.c': '',
      b0: '',
    })
    expect(paths(context.entries)).toEqual([
      'Dockerfile',
      'a',
      'a.txt',
      'b/',
      'b/c',
      'b-',
      'b.c',
      'b0',
      'run.sh',
    ])
    const none = new Uint8Array()
    expect(entryOf(context, 'b')).toEqual({
      path: 'b',
      rawPath: Buffer.from('b'),
      kind: 'directory',
      mode: 0o755,
      size: 0,
      contentId: '',
      linkTarget: none,
    })
    expect(entryOf(context, 'run.sh')).toMatchObject({
      kind: 'file',
      mode: 0o755,
      size: 10,
      linkTarget: none,
    })
    expect(entryOf(context, 'a.txt')).toMatchObject({ kind: 'file', mode: 0o644, size: 4 })
    const link = entryOf(context, 'a')
    expect(link).toMatchObject({ kind: 'symlink', mode: 0o777, size: 0 })
    expect(Buffer.from(link.linkTarget).toString()).toBe('a.txt')
    expect(await contentOf(context, 'a.txt')).toEqual(Buffer.from('text'))
    expect(await contentOf(context, 'b-')).toEqual(Buffer.alloc(0))
  })

  test('with the same content have the same id, whatever the commit', async () => {
    const one = await contextOf({ ...DOCKERFILE, a: 'same', b: 'same', c: 'other' })
    const two = await contextOf({ ...DOCKERFILE, sub: 'x', 'z/a': 'same' })
    const id = entryOf(one, 'a').contentId
    expect(entryOf(one, 'b').contentId).toBe(id)
    expect(entryOf(two, 'z/a').contentId).toBe(id)
    expect(entryOf(one, 'c').contentId).not.toBe(id)
  })

  test('of a commit with only a Dockerfile are only that', async () => {
    expect(paths((await contextOf(DOCKERFILE)).entries)).toEqual(['Dockerfile'])
  })
})

describe('.dockerignore', () => {
  const files = {
    ...DOCKERFILE,
    'src/a.ts': 'a',
    'src/a.test.ts': 'b',
    'docs/x.md': 'c',
    'deep/er/est/keep': 'k',
  }

  test('filters the entries, but not the files that the build needs to start', async () => {
    const ignore = '*\n!src\n**/*.test.ts\n!deep/er/est/keep\n'
    const context = await contextOf({ ...files, '.dockerignore': ignore })
    expect(paths(context.entries)).toEqual([
      'deep/',
      'deep/er/',
      'deep/er/est/',
      'deep/er/est/keep',
      'src/',
      'src/a.ts',
    ])
    expect(paths(context.dockerfileEntries)).toEqual(['.dockerignore', 'Dockerfile'])
    expect((await contentOf(context, 'Dockerfile')).toString()).toBe(DOCKERFILE.Dockerfile)
  })

  test('next to the Dockerfile takes precedence over the one in the root, even when it is empty', async () => {
    const app = { ...files, 'docker/app.Dockerfile': 'FROM scratch\n', '.dockerignore': 'src\n' }
    const dockerfile = 'docker/app.Dockerfile'
    const plain = await contextOf(app, { dockerfile })
    expect(plain.dockerfile).toBe(dockerfile)
    expect(paths(plain.entries)).not.toContain('src/')
    expect(paths(plain.entries)).toContain('docs/')

    const own = await contextOf({ ...app, 'docker/app.Dockerfile.dockerignore': 'docs\n' }, { dockerfile })
    expect(paths(own.entries)).toContain('src/')
    expect(paths(own.entries)).not.toContain('docs/')
    expect(paths(own.dockerfileEntries)).toEqual([
      '.dockerignore',
      'docker/',
      'docker/app.Dockerfile',
      'docker/app.Dockerfile.dockerignore',
    ])

    const empty = await contextOf({ ...app, 'docker/app.Dockerfile.dockerignore': '' }, { dockerfile })
    expect(paths(empty.entries)).toContain('src/')
    // A frontend that takes an empty file for none reads the other one, which is in the context.
    expect(paths(empty.entries)).toContain('.dockerignore')
    const left = paths(await empty.entriesWithout(['src']))
    expect(left).toEqual(paths(empty.entries).filter((path) => !path.startsWith('src/')))
  })

  test('is not applied twice: what a frontend has read from the same file changes nothing', async () => {
    const ignore = '# a comment\n docs/ \n\n/src/a, b\nsrc/a, b\n! ./src/x y\n'
    const context = await contextOf({ ...files, '.dockerignore': ignore })
    // As BuildKit's reader cleans the lines; a value with a comma arrives as two.
    const read = ['docs', 'src/a', 'b', 'src/a', 'b', '!src/x y']
    expect(await context.entriesWithout(read)).toBe(context.entries)
    expect(await context.entriesWithout([])).toBe(context.entries)
  })

  test('more patterns exclude more, with exceptions; a malformed one is refused', async () => {
    const some = { 'a/b/c': '1', 'a/b/d': '2', 'a/e': '3', f: '4', '#g': '5' }
    const context = await contextOf({ ...DOCKERFILE, ...some })
    expect(paths(await context.entriesWithout(['a', '!a/b/d', '#g', 'Dockerfile']))).toEqual([
      'a/',
      'a/b/',
      'a/b/d',
      'f',
    ])
    // They are not read as lines of a file are.
    expect(await context.entriesWithout(['/f', '# g'])).toEqual(context.entries)
    await expect(context.entriesWithout(['[z-a]'])).rejects.toMatchObject({ kind: 'build_failed' })
  })

  test.each(['.gitignore', '.npmignore', 'A/ignore', 'z.dockerignore'])(
    'may be a symlink to %s, which is not part of the Dockerfile',
    async (target) => {
      const linked = { ...files, '.dockerignore': { symlink: target } }
      const context = await contextOf({ ...linked, [target]: 'docs\n' })
      expect(paths(context.entries)).not.toContain('docs/')
      expect(paths(context.entries)).toContain('src/')
      expect(await dockerfileText(context, NEVER)).toBe(DOCKERFILE.Dockerfile)
      const edited = await contextOf({ ...linked, [target]: 'src\n' })
      expect(dockerfileKey(edited)).toBe(dockerfileKey(context))
      expect(dockerfileKey(await contextOf(files))).toBe(dockerfileKey(context))
      const other = await contextOf({ ...linked, [target]: 'docs\n', Dockerfile: 'FROM scratch\n' })
      expect(dockerfileKey(other)).not.toBe(dockerfileKey(context))
    },
  )

  test('with a bad pattern: the error says where', async () => {
    const error = await refused({ ...files, '.dockerignore': 'ok\n[z-a]\n' })
    expect(error.kind).toBe('build_failed')
    expect(error.message).toMatch(/^\.dockerignore in acme\/app\d+@[0-9a-f]{7}, line 2: "\[z-a\]" is not/)
  })
})

describe('the Dockerfile', () => {
  test('that is missing: the error names the commit', async () => {
    const error = await refused({ README: '' })
    expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
    expect(error.message).toMatch(/^no Dockerfile in the root of acme\/app\d+@[0-9a-f]{7}$/)
    expect(error.hint).toMatch(/^Add a file named Dockerfile/)
    expect((await refused(DOCKERFILE, { dockerfile: 'docker/app' })).message).toMatch(
      /^no docker\/app in acme/,
    )
    expect((await refused({ 'Dockerfile/x': '' })).message).toMatch(/^no Dockerfile in the root/)
  })

  test('may be in lower case, with an ignore file that is, too', async () => {
    const ignore = { 'dockerfile.dockerignore': 'docs\n', 'docs/a': '' }
    const context = await contextOf({ ...ignore, dockerfile: 'FROM scratch\n' })
    expect(context.dockerfile).toBe('dockerfile')
    expect(paths(context.entries)).toEqual(['dockerfile', 'dockerfile.dockerignore'])
  })

  test('that a checkout makes longer than 1 MiB is refused', async () => {
    const error = await refused({
      '.gitattributes': 'Dockerfile text eol=crlf\n',
      Dockerfile: `FROM scratch\n${'\n'.repeat(600_000)}`,
    })
    expect(error.message).toMatch(/^Dockerfile in .* is larger than 1 MiB$/)
  })

  test('may be a symlink, or below a symlink to a directory', async () => {
    const context = await contextOf({
      Dockerfile: { symlink: 'docker/current/Dockerfile' },
      'docker/current': { symlink: '../images/v2' },
      'images/v2/Dockerfile': 'FROM scratch\n',
      'images/v2/other': '',
    })
    expect(context.dockerfile).toBe('Dockerfile')
    expect(paths(context.dockerfileEntries)).toEqual([
      'Dockerfile',
      'docker/',
      'docker/current',
      'images/',
      'images/v2/',
      'images/v2/Dockerfile',
    ])
    expect(context.dockerfileEntry.path).toBe('images/v2/Dockerfile')
    expect(await dockerfileText(context, NEVER)).toBe('FROM scratch\n')
  })

  test('may be a symlink with .., which takes away the name before it, as in BuildKit', async () => {
    const files = { a: { symlink: 'x/y' }, 'x/y/z': '', ok: 'FROM a\n', 'x/ok': 'FROM b\n' }
    const context = await contextOf({ ...files, Dockerfile: { symlink: 'a/../ok' } })
    expect(await dockerfileText(context, NEVER)).toBe('FROM a\n')
    expect(paths(context.dockerfileEntries)).toEqual(['Dockerfile', 'ok'])
    // What BuildKit makes of this depends on whether it has been sent `a`.
    const unclear = await refused({ ...files, Dockerfile: { symlink: '/a/../ok' } })
    expect(unclear.message).toMatch(/ is a symlink that does not point to a file$/)
  })

  test('that is not read is not sent as an ignore file either', async () => {
    const broken = await contextOf({
      Dockerfile: { symlink: 'nowhere' },
      dockerfile: 'FROM scratch\n',
      '.dockerignore': { symlink: 'Dockerfile' },
    })
    expect(paths(broken.dockerfileEntries)).toEqual(['.dockerignore', 'dockerfile'])
    const other = { ...DOCKERFILE, dockerfile: 'FROM other\n', '.dockerignore': { symlink: 'dockerfile' } }
    expect(paths((await contextOf(other)).dockerfileEntries)).toEqual(['.dockerignore', 'Dockerfile'])
  })

  test('may be a symlink to a file of any name', async () => {
    const files = { Dockerfile: { symlink: 'x.dockerignore' }, '.dockerignore': 'docs\n' }
    const one = await contextOf({ ...files, 'x.dockerignore': 'FROM a\n' })
    expect(await dockerfileText(one, NEVER)).toBe('FROM a\n')
    const two = await contextOf({ ...files, 'x.dockerignore': 'FROM b\n' })
    expect(dockerfileKey(two)).not.toBe(dockerfileKey(one))
  })

  test.each<[string, Files]>([
    ['a broken symlink', { Dockerfile: { symlink: 'nowhere' } }],
    ['a symlink to a directory', { Dockerfile: { symlink: 'src' } }],
    ['a directory', { 'Dockerfile/x': '' }],
  ])('in lower case is read if there is %s in its place, with the ignore file of that', async (_, there) => {
    const context = await contextOf({
      ...there,
      dockerfile: 'FROM scratch\n',
      'Dockerfile.dockerignore': 'docs\n',
      'dockerfile.dockerignore': 'src\n',
      'docs/a': '',
      'src/a': '',
    })
    expect(context.dockerfile).toBe('Dockerfile')
    expect(await dockerfileText(context, NEVER)).toBe('FROM scratch\n')
    expect(paths(context.dockerfileEntries)).toEqual(['Dockerfile.dockerignore', 'dockerfile'])
    expect(paths(context.entries)).toContain('src/a')
    expect(paths(context.entries)).not.toContain('docs/a')
  })

  test.each(['nowhere', '/etc/passwd', '../../outside', 'Dockerfile'])(
    'may not be a symlink to %s',
    async (target) => {
      const error = await refused({ Dockerfile: { symlink: target }, other: '' })
      expect(error.kind).toBe('build_failed')
      expect(error.message).toMatch(/^Dockerfile in .* is a symlink that does not point to a file$/)
    },
  )

  test.each(['/etc/passwd', '../Dockerfile', 'a/../../b', '', '.', 'docker/'])(
    'is not at %j',
    async (dockerfile) => {
      expect((await refused(DOCKERFILE, { dockerfile })).kind).toBe('invalid')
    },
  )

  test('is found by a path that is not normalized', async () => {
    expect((await contextOf(DOCKERFILE, { dockerfile: './x/../Dockerfile' })).dockerfile).toBe('Dockerfile')
  })
})

describe('contents that git objects alone cannot provide', () => {
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 9\n`

  test('a file that only looks like a pointer, or is only marked as one, is a normal file', async () => {
    const context = await contextOf({
      ...DOCKERFILE,
      '.gitattributes': '*.bin filter=lfs\n',
      'real.bin': 'content',
      'sample.txt': pointer,
    })
    expect((await contentOf(context, 'real.bin')).toString()).toBe('content')
    expect((await contentOf(context, 'sample.txt')).toString()).toBe(pointer)
  })

  test('a forged path is refused', async () => {
    count += 1
    const repository = await server.create(`acme/app${count}`)
    const sha = await repository.commit({ ...DOCKERFILE, 'x/config': '[core]\n' })
    const tree = await start('sh', [
      '-c',
      'git -C "$1" ls-tree "$2" | sed "s/\\tx$/\\t.git/" | git -C "$1" mktree',
      '-',
      repository.dir,
      sha,
    ])
    await tree.exited
    const forged = await repository.git(
      ...['-c', 'user.name=x', '-c', 'user.email=x@y', 'commit-tree', '-m', 'x', tree.stdout().trim()],
    )
    const commitOf = await source.fetch(`acme/app${count}`, forged)
    await expect(source.context(commitOf)).rejects.toMatchObject({
      kind: 'build_failed',
      message: 'the commit has a path that git refuses to check out: ".git/config"',
    })
  })

  test.each([
    ['a file and a symlink to a file of this machine', ['100644 a.bat file', '120000 a.bat link'], 'a.bat'],
    ['a symlink and a file', ['120000 a.bat link', '100644 a.bat file'], 'a.bat'],
    ['a symlink to a folder of this machine, and a folder', ['120000 x link', '40000 x tree'], 'x'],
  ])('two entries of one path are refused by name: %s', async (_, forged, path) => {
    count += 1
    const repository = await server.create(`acme/app${count}`)
    await repository.commit({ ...DOCKERFILE, '.gitattributes': '*.bat eol=crlf\n' })
    const write = (type: string, input: string | Buffer) => {
      const args = ['-C', repository.dir, 'hash-object', '-t', type, '-w', '--stdin', '--literally']
      return execFileSync('git', args, { input }).toString().trim()
    }
    const entry = (mode: string, name: string, oid: string) =>
      Buffer.concat([Buffer.from(`${mode} ${name}\0`), Buffer.from(oid, 'hex')])
    const objects: Record<string, string> = {
      file: write('blob', 'one\n'),
      link: write('blob', path === 'x' ? '/etc' : '/etc/passwd'),
      tree: write('tree', entry('100644', 'passwd', write('blob', 'one\n'))),
    }
    const attributes = write('blob', '*.bat eol=crlf\npasswd eol=crlf\n')
    const dockerfile = write('blob', DOCKERFILE.Dockerfile)
    const tree = write(
      'tree',
      Buffer.concat([
        entry('100644', '.gitattributes', attributes),
        entry('100644', 'Dockerfile', dockerfile),
        ...forged.map((line) => {
          const [mode = '', name = '', kind = ''] = line.split(' ')
          return entry(mode, name, objects[kind] ?? '')
        }),
      ]),
    )
    const sha = await repository.git(
      ...['-c', 'user.name=x', '-c', 'user.email=x@y', 'commit-tree', '-m', 'x', tree],
    )
    const commitOf = await source.fetch(`acme/app${count}`, sha)
    await expect(source.context(commitOf)).rejects.toMatchObject({
      kind: 'build_failed',
      message: `the commit has two entries for the path "${path}"`,
    })
  })
})

describe('reading', () => {
  test('many files at once, each with its own content', async () => {
    const contents = new Map<string, Buffer>(
      Array.from(
        { length: 1500 },
        (_, i) => [`src/d${i % 40}/f${i}`, randomBytes((i * 37) % 20_000)] as const,
      ),
    )
    const context = await contextOf(
      new Map<string, FileContent>([...contents, ['Dockerfile', 'FROM scratch\n']]),
    )
    const read = await Promise.all(
      [...contents.keys()].map(async (path) => [path, await contentOf(context, path)]),
    )
    for (const [path, content] of read as [string, Buffer][]) {
      if (!content.equals(contents.get(path) as Buffer)) throw new Error(`${path} differs`)
    }
  })

  test('small and large files in parallel, some of them abandoned or aborted', async () => {
    const large = randomBytes(3_000_000)
    const context = await contextOf({ ...DOCKERFILE, large, small: 'small', other: randomBytes(2_000_000) })
    const abort = new AbortController()
    const aborted = context.read(entryOf(context, 'other'), abort.signal)[Symbol.asyncIterator]()
    await aborted.next()
    abort.abort(new Error('enough'))
    await expect(drain(aborted)).rejects.toThrow('enough')
    for (let i = 0; i < 10; i += 1) {
      for await (const chunk of context.read(entryOf(context, 'large'))) {
        expect(chunk).toEqual(large.subarray(0, chunk.length))
        break
      }
      const [one, two] = await Promise.all([contentOf(context, 'large'), contentOf(context, 'small')])
      expect(one.equals(large)).toBe(true)
      expect(two.toString()).toBe('small')
    }
    const before = AbortSignal.abort(new Error('too late'))
    await expect(
      drain(context.read(entryOf(context, 'small'), before)[Symbol.asyncIterator]()),
    ).rejects.toThrow('too late')
  })

  test('a stalled reader does not block others', async () => {
    const names = Array.from({ length: 30 }, (_, i) => `small${i}`)
    const small = Object.fromEntries(names.map((name) => [name, randomBytes(300_000)]))
    const context = await contextOf({ ...DOCKERFILE, ...small })
    const stalled = names
      .slice(0, 20)
      .map((name) => context.read(entryOf(context, name))[Symbol.asyncIterator]())
    await Promise.all(stalled.map((reader) => reader.next()))
    for (const name of names.slice(20))
      expect((await contentOf(context, name)).equals(small[name] as Buffer)).toBe(true)
  })

  test('200 MB is streamed with backpressure', async () => {
    const size = 200_000_000
    count += 1
    const repository = await server.create(`acme/app${count}`)
    await fastImport(repository.dir, size)
    const commit = await source.fetch(`acme/app${count}`, await repository.resolve('main'))
    const context = await source.context(commit)
    onTestFinished(() => context.close())
    const entry = entryOf(context, 'large')
    expect(entry.size).toBe(size)
    collectGarbage()
    const before = memory()
    let most = 0
    let seen = 0
    let chunks = 0
    for await (const chunk of context.read(entry)) {
      expect(chunk.length).toBeLessThanOrEqual(1024 * 1024)
      seen += chunk.length
      chunks += 1
      if (chunks % 500 === 0) {
        await delay(20) // The reader is slow now and then.
        collectGarbage() // What it has read is not held.
      }
      most = Math.max(most, memory() - before)
    }
    expect(seen).toBe(size)
    expect(most).toBeLessThan(100_000_000)
  })

  test('closing or aborting a context ends its processes and readers', async () => {
    const files = { ...DOCKERFILE, large: randomBytes(3_000_000) }
    const context = await contextOf(files)
    const reader = context.read(entryOf(context, 'large'))[Symbol.asyncIterator]()
    await reader.next()
    await contentOf(context, 'Dockerfile')
    expect(await gitChildren()).not.toEqual([])
    await context.close()
    await context.close()
    await expect(drain(reader)).rejects.toThrow('the context was closed')
    await expect(contentOf(context, 'Dockerfile')).rejects.toThrow('the context was closed')
    expect(await gitChildren()).toEqual([])

    const abort = new AbortController()
    const other = await contextOf(files, { signal: abort.signal })
    const second = other.read(entryOf(other, 'large'))[Symbol.asyncIterator]()
    await second.next()
    abort.abort(new Error('build cancelled'))
    await expect(drain(second)).rejects.toThrow('build cancelled')
    await other.close()
    expect(await gitChildren()).toEqual([])
    await expect(contextOf(files, { signal: abort.signal })).rejects.toMatchObject({ kind: 'cancelled' })
  })
})

async function drain(reader: AsyncIterator<Uint8Array>): Promise<void> {
  while (!(await reader.next()).done);
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
}

function memory(): number {
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return arrayBuffers + heapUsed
}

async function gitChildren(): Promise<string[]> {
  const pids = (await readFile(`/proc/self/task/${process.pid}/children`, 'utf8')).split(' ').filter(Boolean)
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  return lines.filter((line) => line.includes('cat-file'))
}

/** Commits one large file without holding it in memory. */
async function fastImport(dir: string, size: number): Promise<void> {
  const git = await start('git', ['--git-dir', dir, 'fast-import', '--quiet'], { stdio: 'pipe' })
  const stdin = git.child.stdin
  if (!stdin) throw new Error('no pipe')
  stdin.write('commit refs/heads/main\ncommitter A <a@b> 1700000000 +0000\ndata 1\nx\n')
  stdin.write('M 644 inline Dockerfile\ndata 13\nFROM scratch\n\n')
  stdin.write(`M 644 inline large\ndata ${size}\n`)
  const piece = Buffer.concat([randomBytes(10_000), Buffer.alloc(990_000)])
  for (let left = size; left > 0; left -= piece.length) {
    if (!stdin.write(piece.subarray(0, left))) await new Promise((resolve) => stdin.once('drain', resolve))
  }
  stdin.end('\n')
  expect(await git.exited).toMatchObject({ code: 0 })
}
