import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { accessTo, originOf } from '../../src/lib/source/git/submodule-url.ts'
import { type GitMirrors, gitMirrors } from '../../src/lib/source/mirrors.ts'
import type { Context } from '../../src/lib/source/source.ts'
import { type Files, gitEnv } from '../support/git/repository.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { basicEnv } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

/** One repository never reads what belongs to another, though the server's credentials could. */

const TOKEN = 'ghp_reads-everything'
/** Owner whose repositories everybody can read. */
const OPEN = 'open'
let server: GitServer
let temp: TempDir
let source: GitMirrors
let allowed: Record<string, string[]>
let host: string
let count = 0

beforeAll(async () => {
  server = await startGitServer({
    token: (password, repository) => password === TOKEN || repository.startsWith(`${OPEN}/`),
  })
  temp = await tempDir('conveyor-submodule-access-')
  host = new URL(server.url).host
  allowed = {}
  source = gitMirrors({
    ...{ dir: join(temp.path, 'mirrors'), url: server.urlTemplate, token: TOKEN },
    ...{ environment: basicEnv(), submoduleHosts: (repository: string) => allowed[repository] ?? [] },
    lfs: { backoffMs: [] },
  })
})

afterAll(async () => {
  await source.close()
  await server[Symbol.asyncDispose]()
  await temp[Symbol.asyncDispose]()
})

const commitOf = async (name: string, files: Files) => (await server.create(name)).commit(files)

/** A repository of acme with this one as its submodule. */
async function withSubmodule(repository: string, sha: string): Promise<{ name: string; sha: string }> {
  count += 1
  const name = `acme/app${count}`
  const gitmodules = `[submodule "lib"]\n\tpath = lib\n\turl = ../../${repository}.git\n`
  const files = { Dockerfile: 'FROM scratch\n', lib: { submodule: sha }, '.gitmodules': gitmodules }
  return { name, sha: await commitOf(name, files) }
}

async function contextOf({ name, sha }: { name: string; sha: string }): Promise<Context> {
  const context = await source.context(await source.fetch(name, sha))
  onTestFinished(() => context.close())
  return context
}

const inLib = ({ entries }: Context) =>
  entries.map(({ path }) => path).filter((path) => path.startsWith('lib/'))

/** The passwords that came with requests for a repository. */
const loginsFor = (repository: string) => [
  ...new Set(
    server.requests.filter(({ url }) => url.includes(`/${repository}.git`)).map(({ login }) => login),
  ),
]

test('a submodule of another owner is fetched without credentials', async () => {
  const pinned = await commitOf('open/lib', { public: 'x' })
  expect(inLib(await contextOf(await withSubmodule('open/lib', pinned)))).toEqual(['lib/public'])
  expect(loginsFor('open/lib')).toEqual([null])
})

test('one of the same owner is fetched with them, in any case of its letters', async () => {
  const pinned = await commitOf('acme/secret', { private: 'x' })
  expect(inLib(await contextOf(await withSubmodule('acme/secret', pinned)))).toEqual(['lib/private'])
  expect(loginsFor('acme/secret')).toContain(`x-access-token:${TOKEN}`)
})

test('a private one of another owner needs the option, which the error names', async () => {
  const pinned = await commitOf('globex/secret', { private: 'x' })
  // The mirror that has it is not for others.
  await source.fetch('globex/secret', pinned)
  const app = await withSubmodule('globex/secret', pinned)
  const refused = () => contextOf(app).catch((error) => error)
  expect(await refused()).toMatchObject({
    kind: 'unauthorized',
    message: `the submodule lib of ${app.name}@${app.sha.slice(0, 7)}: ${host} requires credentials for globex/secret`,
    hint: `The credentials are only for submodules of the same owner. If ${app.name} may read it: --git.submodules ${app.name}:${host}/globex/secret`,
  })
  for (const names of [[host], [`${host}/globex/secre`], [`${host}/glob`], ['none', `${host}/acme`]]) {
    allowed[app.name] = names
    expect(await refused()).toMatchObject({ hint: expect.stringContaining('--git.submodules') })
  }
  for (const names of [[`${host}/globex`], [`${host}/Globex/secret`], ['none', `${host}/globex`]]) {
    allowed[app.name] = names
    expect(inLib(await contextOf(app))).toEqual(['lib/private'])
  }
})

test('what is named does not open what it contains itself', async () => {
  const deepest = await commitOf('globex/deepest', { private: 'x' })
  const gitmodules = '[submodule "deep"]\n\tpath = deep\n\turl = ../deepest.git\n'
  const pinned = await commitOf('globex/outer', { deep: { submodule: deepest }, '.gitmodules': gitmodules })
  const app = await withSubmodule('globex/outer', pinned)
  allowed[app.name] = [`${host}/globex/outer`]
  await expect(contextOf(app)).rejects.toMatchObject({
    kind: 'unauthorized',
    message: expect.stringContaining('the submodule lib/deep of acme/'),
  })
  allowed[app.name] = [`${host}/globex`]
  expect(inLib(await contextOf(app))).toContain('lib/deep/private')
})

/** The content of a file in Git LFS of the submodule. */
async function objectOf(app: { name: string; sha: string }): Promise<string> {
  const context = await contextOf(app)
  const entry = context.entries.find(({ path }) => path === 'lib/a.bin')
  if (!entry) throw new Error('there is no file in Git LFS')
  const pieces: Uint8Array[] = []
  for await (const piece of context.read(entry)) pieces.push(piece)
  return Buffer.concat(pieces).toString()
}

const media = (repository: string, content: string) => ({
  '.gitattributes': '*.bin filter=lfs\n',
  'a.bin': server.lfs.put(repository, content),
})

test('objects in Git LFS of a submodule are downloaded as its commits are fetched', async () => {
  const open = await commitOf('open/media', media('open/media', 'public'))
  const own = await commitOf('acme/media', media('acme/media', 'private'))
  expect(await objectOf(await withSubmodule('open/media', open))).toBe('public')
  expect(await objectOf(await withSubmodule('acme/media', own))).toBe('private')
  const batches = server.lfs.batches.map(({ repository, authorization }) => [
    repository,
    authorization !== null,
  ])
  expect(batches).toEqual([
    ['open/media', false],
    ['acme/media', true],
  ])
})

test('objects in Git LFS that were downloaded with credentials are not for those without', async () => {
  const pinned = await commitOf('open/guarded', media('open/guarded', 'guarded'))
  const [trusted, other] = [
    await withSubmodule('open/guarded', pinned),
    await withSubmodule('open/guarded', pinned),
  ]
  allowed[trusted.name] = [`${host}/open`]
  expect(await objectOf(trusted)).toBe('guarded')
  const context = await contextOf(other)
  // Everybody may read the commits, but not the objects.
  server.failNext(1, 401)
  const entry = context.entries.find(({ path }) => path === 'lib/a.bin')
  const reading = entry && context.read(entry)[Symbol.asyncIterator]().next()
  await expect(reading).rejects.toMatchObject({
    kind: 'unauthorized',
    hint: expect.stringContaining(`--git.submodules ${other.name}:${host}/open/guarded`),
  })
})

test('a folder of repositories is read by its owners only', async () => {
  const pinned = await commitOf('globex/files', { private: 'x' })
  const root = (await server.create('acme/root')).dir.slice(0, -'/acme/root.git'.length)
  const app = await withSubmodule('globex/files', pinned)
  const names: string[] = []
  const files = gitMirrors({
    ...{ dir: join(temp.path, 'files'), url: `file://${root}/{repository}.git`, environment: gitEnv() },
    submoduleHosts: () => names,
  })
  onTestFinished(() => files.close())
  const read = async () => {
    const context = await files.context(await files.fetch(app.name, app.sha))
    await context.close()
    return inLib(context)
  }
  await expect(read()).rejects.toMatchObject({ kind: 'unauthorized' })
  names.push('localhost/globex')
  expect(await read()).toEqual(['lib/private'])
})

const HTTPS = 'https://github.com/{repository}.git'
const SSH = 'git@github.com:{repository}.git'

test.each([
  [HTTPS, 'https://github.com/acme/lib', [], 'credentials'],
  [HTTPS, 'git@github.com:ACME/lib.git', [], 'credentials'],
  [HTTPS, 'ssh://git@ssh.github.com:443/acme/lib', [], 'credentials'],
  [HTTPS, 'https://github.com/globex/lib', [], 'public'],
  [HTTPS, 'https://github.com/acme-corp/lib', [], 'public'],
  [HTTPS, 'https://github.com/acme/lib/deeper', [], 'public'],
  [HTTPS, 'https://github.com/globex/lib', ['github.com'], 'public'],
  [HTTPS, 'https://github.com/globex/lib', ['github.com/globex'], 'credentials'],
  [HTTPS, 'https://github.com/globex/lib', ['github.com/globex/lib'], 'credentials'],
  [HTTPS, 'https://github.com/globex/lib', ['github.com/globex/li'], 'public'],
  [HTTPS, 'git@github.com:globex/lib', ['GitHub.com/Globex'], 'credentials'],
  [HTTPS, 'https://github.com/acme/lib', ['none'], 'none'],
  [HTTPS, 'https://github.com/acme/lib', ['none', 'github.com/acme/other'], 'none'],
  [HTTPS, 'https://github.com/acme/lib', ['none', 'github.com'], 'credentials'],
  [HTTPS, 'https://gitlab.com/acme/lib', [], 'none'],
  [HTTPS, 'https://gitlab.com/acme/lib', ['gitlab.com'], 'public'],
  [HTTPS, 'git@gitlab.com:acme/lib', ['gitlab.com'], 'public'],
  [HTTPS, 'git@gitlab.com:acme/lib', ['gitlab.com/acme'], 'credentials'],
  [HTTPS, 'https://gitlab.com/group/sub/lib', ['gitlab.com/group/sub'], 'credentials'],
  [SSH, 'git@github.com:acme/lib', [], 'credentials'],
  [SSH, 'git@github.com:globex/lib', [], 'public'],
  [SSH, 'https://github.com/globex/lib', [], 'public'],
  [
    'https://git.example.com:8443/scm/{repository}.git',
    'https://git.example.com:8443/scm/acme/lib',
    [],
    'credentials',
  ],
  [
    'https://git.example.com:8443/scm/{repository}.git',
    'https://git.example.com:8443/scm/globex/lib.git',
    ['git.example.com:8443/globex'],
    'credentials',
  ],
])('with --git.url %s, acme/app reads %s with %j: %s', (template, url, names, expected) => {
  const origin = originOf(url, template)
  expect(origin && accessTo(origin, { repository: 'acme/app', template, allowed: names })).toBe(expected)
})

test.each([
  [HTTPS, 'git@github.com:acme/../globex/lib.git'],
  [SSH, 'git@github.com:acme/../globex/lib.git'],
  [SSH, 'ssh://git@github.com/acme/%2e%2e%2fglobex/lib'],
  [SSH, 'git@github.com:~globex/lib'],
  [SSH, 'git@github.com:acme//lib'],
  [HTTPS, 'https://github.com/acme/..%2fglobex/lib'],
  [HTTPS, 'https://github.com/acme/lib?x=/../../globex/lib'],
  [HTTPS, 'https://github.com\\@git.example.com/acme/lib'],
])('with --git.url %s, %s could lead anywhere', (template, url) => {
  expect(originOf(url, template)).toBeNull()
})

test('without credentials, SSH becomes HTTPS, and nobody logs in', () => {
  const publicUrl = (url: string, template: string) => originOf(url, template)?.publicUrl
  expect(publicUrl('git@github.com:globex/lib', SSH)).toBe('https://github.com/globex/lib.git')
  expect(publicUrl('ssh://git@git.example.com:2222/a/b.git', SSH)).toBe('https://git.example.com/a/b.git')
  expect(publicUrl('https://who:word@gitlab.com/a/b', SSH)).toBe('https://gitlab.com/a/b')
  expect(publicUrl('git@github.com:globex/lib', 'https://bot@github.com/{repository}.git')).toBe(
    'https://github.com/globex/lib.git',
  )
  expect(publicUrl('file:///srv/git/a/b.git', 'file:///srv/git/{repository}.git')).toBeNull()
})
