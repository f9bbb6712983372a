import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { type GitMirrors, gitMirrors } from '../../src/lib/source/mirrors.ts'
import type { Context, ContextOptions } from '../../src/lib/source/source.ts'
import { describeTree, materialise } from '../support/context/on-disk.ts'
import { type GitRepository, gitEnv } from '../support/git/repository.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { basicEnv } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

/** What git says in a context with a `.git` folder must be what it says in its own clone. */

const TOKEN = 'ghp_not-for-the-context'
let server: GitServer
let temp: TempDir
let count = 0

beforeAll(async () => {
  server = await startGitServer({ token: TOKEN })
  temp = await tempDir('conveyor-git-folder-')
})

afterAll(async () => {
  await server[Symbol.asyncDispose]()
  await temp[Symbol.asyncDispose]()
})

/** Mirrors of their own, as on another machine. */
async function newSource(): Promise<GitMirrors> {
  count += 1
  const source = gitMirrors({
    ...{ dir: join(temp.path, `mirrors${count}`), url: server.urlTemplate, token: TOKEN },
    ...{ environment: basicEnv(), gitFolder: (repository: string) => repository !== 'acme/without' },
  })
  onTestFinished(() => source.close())
  return source
}

async function contextOf(source: GitMirrors, repository: string, sha: string, options: ContextOptions = {}) {
  const context = await source.context(await source.fetch(repository, sha), options)
  onTestFinished(() => context.close())
  return context
}

async function written(context: Context): Promise<string> {
  count += 1
  const folder = join(temp.path, `context${count}`)
  await materialise(context, folder)
  return folder
}

/** What git prints; its exit status if it fails. */
async function git(folder: string, ...args: string[]): Promise<string> {
  try {
    const options = { cwd: folder, env: { ...gitEnv(), GIT_ALLOW_PROTOCOL: 'none' } }
    return (await promisify(execFile)('git', args, options)).stdout.trimEnd()
  } catch (error) {
    const { code, stderr } = error as { code: number; stderr: string }
    return `status ${code}: ${stderr}`
  }
}

/** git's own clone of a commit. */
async function cloned(repository: string, sha: string): Promise<string> {
  count += 1
  const folder = join(temp.path, `clone${count}`)
  const login = Buffer.from(`x-access-token:${TOKEN}`).toString('base64')
  const how = ['-c', `http.extraHeader=Authorization: Basic ${login}`]
  const env = { ...gitEnv() }
  const url = `${server.url}/${repository}.git`
  await promisify(execFile)('git', [...how, 'clone', '--quiet', '--recurse-submodules', url, folder], { env })
  await promisify(execFile)('git', [...how, '-C', folder, 'checkout', '--quiet', '--detach', sha], { env })
  return folder
}

const QUESTIONS = [
  ['rev-parse', 'HEAD', 'HEAD^{tree}'],
  ['describe', '--tags', '--dirty', '--long'],
  ['describe', '--dirty', '--match', 'v*'],
  ['rev-list', '--count', 'HEAD'],
  ['log', '--format=%H %P %an %aI %cI %s %D', '--decorate-refs=refs/tags'],
  ['shortlog', '-sn', 'HEAD'],
  ['tag', '--merged', 'HEAD', '-n3'],
  ['for-each-ref', '--format=%(objectname) %(refname) %(*objectname)', 'refs/tags'],
  ['ls-files', '--stage'],
  ['status', '--porcelain=v1'],
  ['diff', 'HEAD'],
  ['show', '--no-patch', 'HEAD'],
  ['diff', '--raw', 'HEAD~1', 'HEAD'],
  ['cat-file', 'blob', 'HEAD:big'],
  ['ls-tree', '-r', '-t', 'HEAD'],
  ['rev-parse', '--is-shallow-repository'],
  ['submodule', 'status', '--recursive'],
  ['config', 'remote.origin.url'],
]

/** A repository with releases, a merge, and a submodule that has releases, too. */
async function released(name: string): Promise<{ repository: GitRepository; sha: string }> {
  const lib = await server.create(`${name}-lib`)
  await lib.commit({ a: 'a', 'b/c': 'c' })
  await lib.git('tag', 'lib-1')
  const pinned = await lib.commit({ a: 'b' })
  const repository = await server.create(name)
  const files = {
    Dockerfile: 'FROM scratch\nCOPY . /\n',
    big: Buffer.alloc(200_000, 'big '),
    'dir/crlf.txt': 'one\ntwo\n',
    'dir/deep/run': { content: '#!/bin/sh\n', mode: 0o755 as const },
    '.gitattributes': '*.txt eol=crlf\n',
    link: { symlink: 'big' },
    lib: { submodule: pinned },
    '.gitmodules': `[submodule "l.i b"]\n\tpath = lib\n\turl = ../${name.split('/')[1]}-lib.git\n`,
  }
  await repository.commit(files, { message: 'First\n\nwith a body' })
  const who = ['-c', 'user.name=Ada', '-c', 'user.email=ada@example.com']
  await repository.git(...who, 'tag', '-a', 'v1.0', '-m', 'Release 1\n\nnotes', 'main')
  await repository.git('tag', 'light')
  for (let i = 0; i < 3; i++) await repository.commit({ [`file${i}`]: String(i) })
  await repository.git(...who, 'tag', '-a', 'nested', '-m', 'a tag of a tag', 'v1.0')
  await repository.git('tag', 'a-tree', 'main^{tree}')
  const sha = await repository.commit({ last: 'x' })
  await repository.commit({ later: 'x' }, { branch: 'other' })
  await repository.git('tag', 'elsewhere', 'other')
  return { repository, sha }
}

test('git answers as in its own clone, without a network', async () => {
  const { sha } = await released('acme/app')
  const source = await newSource()
  const context = await contextOf(source, 'acme/app', sha)
  const [ours, gits] = [await written(context), await cloned('acme/app', sha)]
  for (const tag of ['elsewhere', 'a-tree']) await git(gits, 'tag', '-d', tag)
  for (const folder of ['.', 'lib']) {
    for (const question of QUESTIONS.filter((one) => folder === '.' || !one.includes('HEAD:big'))) {
      const answers = [await git(join(ours, folder), ...question), await git(join(gits, folder), ...question)]
      expect([folder, ...question, answers[0]]).toEqual([folder, ...question, answers[1]])
    }
  }
  expect(await git(ours, 'describe', '--tags', '--dirty', '--match', 'v*')).toMatch(/^v1\.0-4-g\w{7}$/)
  expect(await git(join(ours, 'lib'), 'describe', '--tags', '--dirty')).toMatch(/^lib-1-1-g\w{7}$/)
  expect(await git(ours, 'fsck', '--connectivity-only', '--no-dangling')).toBe('')
  // setuptools-scm lists the files by this, and git reads every object for it.
  expect(await git(ours, 'archive', '--output=../ours.tar', 'HEAD')).toBe('')
  expect(await git(gits, 'archive', '--output=../gits.tar', 'HEAD')).toBe('')
  const tars = [join(temp.path, 'ours.tar'), join(temp.path, 'gits.tar')]
  expect((await readFile(tars[0] as string)).equals(await readFile(tars[1] as string))).toBe(true)

  // A change is seen, in a submodule, too.
  await writeFile(join(ours, 'lib/a'), 'changed')
  expect(await git(ours, 'describe', '--dirty', '--match', 'v*')).toMatch(/^v1\.0-4-g\w{7}-dirty$/)

  const everything = (await describeTree(ours)).join('\n')
  expect(everything).not.toContain(TOKEN)
  expect(everything).not.toContain(Buffer.from(`x-access-token:${TOKEN}`).toString('base64'))
})

test('the bytes are the same from every machine, and with other tags elsewhere', async () => {
  const { repository, sha } = await released('acme/same')
  const first = await contextOf(await newSource(), 'acme/same', sha)
  const older = await newSource()
  const before = await repository.resolve(`${sha}~2`)
  await contextOf(older, 'acme/same', before)
  await repository.commit({ even: 'later' }, { branch: 'other' })
  await repository.git('tag', 'another', 'other')
  const second = await contextOf(older, 'acme/same', sha)
  const ids = ({ entries }: Context) => entries.map(({ path, contentId, size }) => [path, contentId, size])
  expect(ids(second)).toEqual(ids(first))
  expect(await describeTree(await written(second))).toEqual(await describeTree(await written(first)))

  // A tag of this commit is news, and one that is gone.
  await repository.git('tag', 'v2.0', sha)
  await repository.git('tag', '-d', 'light')
  const third = await written(await contextOf(older, 'acme/same', sha))
  expect(await git(third, 'describe', '--tags')).toBe('v2.0')
  expect(await git(third, 'tag')).toBe('nested\nv1.0\nv2.0')
})

test('only what is new is another file: the next commit shares the rest', async () => {
  const { repository, sha } = await released('acme/next')
  const source = await newSource()
  const first = await contextOf(source, 'acme/next', sha)
  const next = await contextOf(source, 'acme/next', await repository.commit({ 'dir/new': 'new' }))
  const known = new Set(first.entries.map(({ path, contentId }) => `${path} ${contentId}`))
  const news = next.entries.filter(({ path, contentId }) => !known.has(`${path} ${contentId}`))
  const ids = /[0-9a-f]{38,}/
  expect(news.map(({ path }) => path.replace(ids, 'ID')).sort()).toEqual([
    '.git/HEAD',
    '.git/index',
    // Commits and folders, and the pack with the new file.
    '.git/objects/pack/pack-ID.idx',
    '.git/objects/pack/pack-ID.idx',
    '.git/objects/pack/pack-ID.pack',
    '.git/objects/pack/pack-ID.pack',
    '.git/objects/pack/pack-ID.promisor',
    'dir/new',
  ])
})

test('files are in packs as git writes them, of which a commit changes those with its changes', async () => {
  const repository = await server.create('acme/packs')
  const sizes = [
    0,
    1,
    15,
    16,
    2047,
    2048,
    65_534,
    65_535,
    65_536,
    131_070,
    256 * 1024,
    256 * 1024 + 1,
    800_000,
  ]
  const files = Object.fromEntries(sizes.map((size) => [`of-${size}`, randomBytes(size)]))
  for (let i = 0; i < 100; i++) files[`many/${i}`] = randomBytes(60_000)
  const sha = await repository.commit({ Dockerfile: 'FROM scratch\n', ...files })
  const next = await repository.commit({ 'many/7': 'changed' })
  const source = await newSource()
  const [first, second] = [
    await contextOf(source, 'acme/packs', sha),
    await contextOf(source, 'acme/packs', next),
  ]
  // Read by many at once, as BuildKit does.
  const folder = await written(first)
  expect(await git(folder, 'fsck', '--full', '--no-dangling')).toBe('')
  expect(await git(folder, 'status', '--porcelain')).toBe('')
  for (const [path, content] of Object.entries(files)) {
    const { stdout } = await promisify(execFile)('git', ['-C', folder, 'cat-file', 'blob', `HEAD:${path}`], {
      ...{ env: gitEnv(), encoding: 'buffer', maxBuffer: 1e7 },
    })
    expect([path, (stdout as unknown as Buffer).equals(content)]).toEqual([path, true])
  }
  const indexes = (await readdir(join(folder, '.git/objects/pack'))).filter((name) => name.endsWith('.idx'))
  expect(indexes).toHaveLength(9)
  // The same index as git makes of the pack itself.
  for (const name of indexes) {
    const path = join(folder, '.git/objects/pack', name)
    const again = join(temp.path, name)
    await git(folder, 'index-pack', '--no-rev-index', '-o', again, path.replace(/idx$/, 'pack'))
    expect([name, (await readFile(again)).equals(await readFile(path))]).toEqual([name, true])
  }
  const loose = first.entries.filter(({ path }) => /objects\/\w\w\//.test(path))
  expect(loose).toHaveLength(2)
  const packs = ({ entries }: Context) => entries.flatMap(({ path }) => (/pack$/.test(path) ? [path] : []))
  const kept = packs(second).filter((path) => packs(first).includes(path))
  expect([packs(second).length - kept.length <= 3, kept.length >= 6]).toEqual([true, true])
})

test('files that .dockerignore excludes do not make the tree dirty', async () => {
  const repository = await server.create('acme/ignoring')
  await repository.commit({
    Dockerfile: 'FROM scratch\n',
    '.dockerignore': 'docs\n*.md\n',
    'docs/a': 'a',
    'README.md': 'x',
    b: 'b',
  })
  await repository.git('tag', 'v1')
  const folder = await written(
    await contextOf(await newSource(), 'acme/ignoring', await repository.resolve('main')),
  )
  expect((await readdir(folder)).sort()).toEqual(['.dockerignore', '.git', 'Dockerfile', 'b'])
  expect(await git(folder, 'describe', '--tags', '--dirty')).toBe('v1')
  expect(await git(folder, 'status', '--porcelain')).toBe('')
  await rm(join(folder, 'b'))
  expect(await git(folder, 'describe', '--tags', '--dirty')).toBe('v1-dirty')
})

test('files in Git LFS do not make the tree dirty where there is no git-lfs', async () => {
  const repository = await server.create('acme/lfs')
  const content = randomBytes(2000)
  const sha = await repository.commit({
    Dockerfile: 'FROM scratch\n',
    '.gitattributes': '*.bin filter=lfs diff=lfs merge=lfs -text\n',
    'a.bin': server.lfs.put('acme/lfs', content),
  })
  const folder = await written(await contextOf(await newSource(), 'acme/lfs', sha))
  expect((await readFile(join(folder, 'a.bin'))).equals(content)).toBe(true)
  expect(await git(folder, 'describe', '--always', '--dirty')).toBe(sha.slice(0, 7))
  expect(await git(folder, 'status', '--porcelain')).toBe('')
})

test('a submodule without files has a .git folder as others do', async () => {
  const lib = await server.create('acme/nothing')
  const repository = await server.create('acme/with-nothing')
  const sha = await repository.commit({
    Dockerfile: 'FROM scratch\n',
    'vendor/lib': { submodule: await lib.commit({}) },
    '.gitmodules': '[submodule "lib"]\n\tpath = vendor/lib\n\turl = ../nothing.git\n',
  })
  const context = await contextOf(await newSource(), 'acme/with-nothing', sha)
  const paths = context.entries.map(({ path }) => path)
  expect(paths.filter((path, index) => paths.indexOf(path) !== index)).toEqual([])
  const folder = await written(context)
  expect(await readdir(join(folder, 'vendor/lib'))).toEqual(['.git'])
  expect(await git(folder, 'status', '--porcelain')).toBe('')
  expect(await git(join(folder, 'vendor/lib'), 'log', '--format=%s')).toBe('Commit 1')
})

test('.dockerignore may exclude .git, which the log then says', async () => {
  const repository = await server.create('acme/excluding')
  const sha = await repository.commit({ Dockerfile: 'FROM scratch\n', '.dockerignore': '.git\n' })
  const lines: string[] = []
  const context = await contextOf(await newSource(), 'acme/excluding', sha, {
    log: (line) => lines.push(line),
  })
  expect(context.entries.map(({ path }) => path)).toEqual(['.dockerignore', 'Dockerfile'])
  expect(lines).toContain('.git is excluded by .dockerignore')
})

test('a history that is corrupt is fetched again', async () => {
  const { sha } = await released('acme/corrupt')
  const source = await newSource()
  const commit = await source.fetch('acme/corrupt', sha)
  await (await source.context(commit)).close()
  const packs = join(temp.path, `mirrors${count}`, '.histories/acme/corrupt.git/objects/pack')
  for (const name of await readdir(packs)) await rm(join(packs, name))
  await expect(source.context(commit)).rejects.toMatchObject({ kind: 'unavailable', retryable: true })
  const context = await contextOf(source, 'acme/corrupt', sha)
  expect(await git(await written(context), 'describe', '--tags')).toMatch(/^nested-4-g/)
})

test('without the option there is none', async () => {
  const repository = await server.create('acme/without')
  const sha = await repository.commit({ Dockerfile: 'FROM scratch\n' })
  const context = await contextOf(await newSource(), 'acme/without', sha)
  expect(context.entries.map(({ path }) => path)).toEqual(['Dockerfile'])
})

test('more than a thousand commits are in two packs, of which the first stays', async () => {
  const repository = await server.create('acme/long')
  await repository.commit({ Dockerfile: 'FROM scratch\n' })
  await repository.git('tag', 'root')
  const tree = await repository.git('rev-parse', 'main^{tree}')
  let stream = `reset refs/heads/main\nfrom ${await repository.resolve('main')}\n`
  for (let i = 0; i < 1200; i++)
    stream += `commit refs/heads/main\ncommitter A <a@b> ${1_800_000_000 + i} +0000\ndata 1\nx\n`
  await mkdir(join(temp.path, 'import'), { recursive: true })
  const load = execFile('git', ['--git-dir', repository.dir, 'fast-import', '--quiet'], { env: gitEnv() })
  load.stdin?.end(stream)
  await new Promise((resolve) => load.once('close', resolve))
  expect(await repository.git('rev-parse', 'main^{tree}')).toBe(tree)
  const source = await newSource()
  const packs = ({ entries }: Context) =>
    entries.flatMap(({ path }) => (path.endsWith('.promisor') ? [path] : []))
  const first = await contextOf(source, 'acme/long', await repository.resolve('main'))
  const second = await contextOf(source, 'acme/long', await repository.commit({ a: 'a' }))
  expect(packs(first)).toHaveLength(2)
  expect(packs(second).filter((path) => packs(first).includes(path))).toHaveLength(1)
  const folder = await written(second)
  expect(await git(folder, 'describe', '--tags')).toMatch(/^root-1201-g\w{7}$/)
  expect(await git(folder, 'rev-list', '--count', 'HEAD')).toBe('1202')
  expect(await git(folder, 'fsck', '--full', '--no-dangling')).toBe('')
  // Where the first pack is made for this commit, its bytes are the same.
  const ids = ({ entries }: Context) => entries.map(({ path, contentId, size }) => [path, contentId, size])
  const elsewhere = await contextOf(await newSource(), 'acme/long', await repository.resolve('main'))
  expect(ids(elsewhere)).toEqual(ids(second))
  expect(await describeTree(await written(elsewhere))).toEqual(await describeTree(folder))
})
