import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { originOf, submoduleUrl } from '../../src/lib/source/git/submodule-url.ts'
import { type GitMirrors, gitMirrors } from '../../src/lib/source/mirrors.ts'
import type { Context, ContextOptions } from '../../src/lib/source/source.ts'
import { describeTree, materialise } from '../support/context/on-disk.ts'
import { type Files, type GitRepository, gitEnv } from '../support/git/repository.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { basicEnv, start } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

/** A context must have in it what `git clone --recurse-submodules` writes. */

const TOKEN = 'ghp_of-our-server-alone'
const DOCKERFILE = { Dockerfile: 'FROM scratch\nCOPY . /\n' }

/** That of `--git.url`, which wants the token, and another one. */
let server: GitServer
let other: GitServer
let temp: TempDir
let source: GitMirrors
let allowed: Record<string, string[]>
let count = 0

beforeAll(async () => {
  server = await startGitServer({ token: TOKEN })
  other = await startGitServer()
  temp = await tempDir('conveyor-submodules-')
  allowed = { 'acme/two': [new URL(server.url).host, new URL(other.url).host] }
  source = gitMirrors({
    ...{ dir: join(temp.path, 'mirrors'), url: server.urlTemplate, token: TOKEN },
    environment: basicEnv(),
    submoduleHosts: (repository) => allowed[repository] ?? [],
  })
})

afterAll(async () => {
  await source.close()
  await server[Symbol.asyncDispose]()
  await other[Symbol.asyncDispose]()
  await temp[Symbol.asyncDispose]()
})

const gitmodules = (modules: Record<string, string>) =>
  Object.entries(modules)
    .map(([path, url]) => `[submodule "${path}"]\n\tpath = ${path}\n\turl = ${url}\n`)
    .join('')

async function repositoryWith(
  files: Files,
  on = server,
  name?: string,
): Promise<{ name: string; sha: string; repository: GitRepository }> {
  count += 1
  const repository = await on.create(name ?? `acme/r${count}`)
  return { name: name ?? `acme/r${count}`, sha: await repository.commit(files), repository }
}

async function contextOf(repository: string, sha: string, options: ContextOptions = {}): Promise<Context> {
  const context = await source.context(await source.fetch(repository, sha), options)
  onTestFinished(() => context.close())
  return context
}

async function refused(files: Files): Promise<ConveyorError> {
  const { name, sha } = await repositoryWith({ ...DOCKERFILE, ...files })
  const error = await contextOf(name, sha).then(
    () => undefined,
    (thrown) => thrown,
  )
  expect(error).toBeInstanceOf(ConveyorError)
  return error as ConveyorError
}

const paths = (context: Context) =>
  context.entries.map(({ path, kind }) => (kind === 'directory' ? `${path}/` : path))

/** Everything that git's own clone writes, without its metadata. */
async function cloned(repository: string, sha: string): Promise<string[]> {
  count += 1
  const folder = join(temp.path, `clone${count}`)
  const login = Buffer.from(`x-access-token:${TOKEN}`).toString('base64')
  const config = [
    [`http.${server.url}/.extraHeader`, `Authorization: Basic ${login}`],
    ['core.attributesFile', '/dev/null'],
  ].flatMap(([key, value]) => ['-c', `${key}=${value}`])
  const command = 'umask 022; git "$@"'
  const url = `${server.url}/${repository}.git`
  const args = [...config, 'clone', '--quiet', '--recurse-submodules', url, folder]
  const clone = await start('sh', ['-c', command, '-', ...args], { env: gitEnv(), stdio: 'pipe' })
  expect(await clone.exited, clone.stderr()).toMatchObject({ code: 0 })
  const head = await start('git', ['-C', folder, 'rev-parse', 'HEAD'], { env: gitEnv(), stdio: 'pipe' })
  await head.exited
  expect(head.stdout().trim()).toBe(sha)
  return (await describeTree(folder)).filter((line) => !/\/\.git[ /]/.test(line))
}

async function written(context: Context): Promise<string[]> {
  count += 1
  const folder = join(temp.path, `context${count}`)
  await materialise(context, folder)
  return describeTree(folder)
}

test('the files are those of git clone --recurse-submodules, in every byte and mode', async () => {
  const inner = await repositoryWith({
    'inner.txt': 'inner\n',
    '.gitattributes': '*.txt eol=crlf\n',
    'deep/run': { content: '#!/bin/sh\n', mode: 0o755 },
  })
  const lib = await repositoryWith({
    'lib.txt': 'lib\n',
    '.gitattributes': '*.id ident\n',
    'a.id': '$Id$\n',
    big: Buffer.alloc(700_000, 'big '),
    link: { symlink: '../Dockerfile' },
    nested: { submodule: inner.sha },
    '.gitmodules': gitmodules({ nested: `../${inner.name.split('/')[1]}.git` }),
  })
  // A commit that is on no branch any more.
  const pinned = await lib.repository.commit({ 'only-here': 'x' }, { branch: 'gone' })
  await lib.repository.git('branch', '-D', 'gone')
  const foreign = await repositoryWith({ 'foreign.txt': 'foreign\n' }, other, 'elsewhere/lib')
  const empty = await repositoryWith({}, server)
  const { name, sha } = await repositoryWith(
    {
      ...DOCKERFILE,
      '.gitattributes': '*.txt eol=crlf\n*.id ident\n',
      'top.txt': 'top\n',
      'vendor/lib': { submodule: pinned },
      'vendor/lib-again': { submodule: lib.sha },
      'vendor/lib.txt': 'between\n',
      'with space/ümläut': { submodule: inner.sha },
      foreign: { submodule: foreign.sha },
      empty: { submodule: empty.sha },
      stray: { submodule: '1'.repeat(40) },
      none: { submodule: inner.sha },
      '.gitmodules': `${gitmodules({
        'vendor/lib': `../${lib.name.split('/')[1]}.git`,
        'vendor/lib-again': `${server.url}/${lib.name}.git`,
        'with space/ümläut': `./../../${inner.name}.git`,
        foreign: foreign.repository.url,
        empty: empty.repository.url,
      })}[submodule "none"]\n\tpath = none\n\turl = ${inner.repository.url}\n\tupdate = none\n`,
    },
    server,
    'acme/two',
  )
  const lines: string[] = []
  const context = await contextOf(name, sha, { log: (line) => lines.push(line) })
  const expected = await cloned(name, sha)
  expect(expected.length).toBeGreaterThan(25)
  expect(expected.filter((line) => line.includes('only-here'))).toHaveLength(1)
  expect(await written(context)).toEqual(expected)
  expect(lines).toContain('the folder of the submodule stray is empty: it is not in .gitmodules')
  expect(lines).toContain('the folder of the submodule none is empty: .gitmodules says update = none')
  const keys = context.entries.map(({ rawPath }) =>
    Buffer.from(rawPath.map((byte) => (byte === 47 ? 0 : byte))),
  )
  expect(keys.toSorted(Buffer.compare)).toEqual(keys)

  expect(new Set(server.requests.map(({ login }) => login))).toContain(`x-access-token:${TOKEN}`)
  expect(other.requests.length).toBeGreaterThan(2)
  expect(other.requests.filter(({ login }) => login?.includes(TOKEN))).toEqual([])
  // The whole clone is known now, so that no server is needed.
  const [before, elsewhere] = [server.requests.length, other.requests.length]
  expect(paths(await contextOf(name, sha, { offline: true }))).toEqual(paths(context))
  expect([server.requests.length, other.requests.length]).toEqual([before, elsewhere])
})

describe('.dockerignore', () => {
  test('a submodule that it excludes is not fetched', async () => {
    const { name, sha } = await repositoryWith({
      ...DOCKERFILE,
      'vendor/lib': { submodule: '2'.repeat(40) },
      '.gitmodules': gitmodules({ 'vendor/lib': 'https://git.invalid/x/y.git' }),
      '.dockerignore': 'vendor/*\n',
    })
    expect(paths(await contextOf(name, sha))).toEqual([
      '.dockerignore',
      '.gitmodules',
      'Dockerfile',
      'vendor/',
    ])
  })

  test('exceptions for files in a submodule count', async () => {
    const lib = await repositoryWith({ a: 'a', b: 'b' })
    const { name, sha } = await repositoryWith({
      ...DOCKERFILE,
      lib: { submodule: lib.sha },
      '.gitmodules': gitmodules({ lib: lib.repository.url }),
      '.dockerignore': '*\n!lib/b\n',
    })
    expect(paths(await contextOf(name, sha))).toEqual(['lib/', 'lib/b'])
  })

  test('it may be in a submodule itself, as the Dockerfile may', async () => {
    const shared = await repositoryWith({ ...DOCKERFILE, ignore: 'secret\n' })
    const { name, sha } = await repositoryWith({
      secret: 'x',
      Dockerfile: { symlink: 'shared/Dockerfile' },
      '.dockerignore': { symlink: 'shared/ignore' },
      shared: { submodule: shared.sha },
      '.gitmodules': gitmodules({ shared: shared.repository.url }),
    })
    const context = await contextOf(name, sha)
    expect(paths(context)).toEqual([
      '.dockerignore',
      '.gitmodules',
      'Dockerfile',
      'shared/',
      'shared/Dockerfile',
      'shared/ignore',
    ])
    expect(paths({ ...context, entries: context.dockerfileEntries })).toContain('shared/Dockerfile')
    expect((await contextOf(name, sha, { dockerfile: 'shared/Dockerfile' })).dockerfile).toBe(
      'shared/Dockerfile',
    )
  })
})

test('each submodule is fetched with the token of its own repository, in any form of its URL', async () => {
  const host = new URL(server.url).hostname
  const lib = await repositoryWith({ lib: 'lib' })
  const again = await repositoryWith({ again: 'again' })
  const { name, sha } = await repositoryWith({
    ...DOCKERFILE,
    lib: { submodule: lib.sha },
    again: { submodule: again.sha },
    '.gitmodules': gitmodules({
      lib: `git@${host}:${lib.name}.git`,
      again: `ssh://git@${host}/${again.name}`,
    }),
  })
  const asked: string[] = []
  const apps = gitMirrors({
    ...{ dir: join(temp.path, 'apps'), url: server.urlTemplate, environment: basicEnv() },
    token: async (repository) => {
      asked.push(repository)
      return TOKEN
    },
    submoduleHosts: () => [host],
  })
  onTestFinished(() => apps.close())
  const context = await apps.context(await apps.fetch(name, sha))
  onTestFinished(() => context.close())
  expect(paths(context)).toEqual(['.gitmodules', 'Dockerfile', 'again/', 'again/again', 'lib/', 'lib/lib'])
  expect([...new Set(asked)].sort()).toEqual([again.name, lib.name, name].sort())
})

test('a fork gets what is public, but no private submodule, though the mirror has it', async () => {
  const secret = await repositoryWith({ secret: 'secret' })
  const foreign = await repositoryWith({ 'foreign.txt': 'foreign\n' }, other)
  const commitWith = async (repository: GitRepository, sha: string, name: string) =>
    await repositoryWith(
      { ...DOCKERFILE, lib: { submodule: sha }, '.gitmodules': gitmodules({ lib: repository.url }) },
      server,
      name,
    )
  allowed['acme/fork'] = [new URL(other.url).host]
  const closed = await commitWith(secret.repository, secret.sha, 'acme/closed')
  expect(paths(await contextOf(closed.name, closed.sha))).toContain('lib/secret')
  const error = await contextOf(closed.name, closed.sha, { anonymous: true }).catch((thrown) => thrown)
  expect(error).toMatchObject({ kind: 'unauthorized' })
  expect(error.message).toMatch(
    /^the submodule lib of acme\/closed@\w{7}: 127.0.0.1:\d+ requires credentials for acme\/r\d+$/,
  )
  const open = await commitWith(foreign.repository, foreign.sha, 'acme/fork')
  expect(paths(await contextOf(open.name, open.sha, { anonymous: true }))).toContain('lib/foreign.txt')
})

describe('what is refused, by path', () => {
  const lib = { lib: { submodule: '3'.repeat(40) } }
  const about = /^the submodule lib of acme\/r\d+@[0-9a-f]{7}/

  test('a host that is not allowed', async () => {
    const error = await refused({ ...lib, '.gitmodules': gitmodules({ lib: `${other.url}/x/y.git` }) })
    expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
    expect(error.message).toMatch(
      new RegExp(`${about.source} is at 127.0.0.1:\\d+/x/y, which is not allowed$`),
    )
    expect(error.hint).toContain('--git.submodules')
  })

  test.each([
    ['/etc/passwd'],
    ['file:///etc'],
    ['ext::sh -c touch% /tmp/x'],
    ['git://127.0.0.1/a/b'],
    ['ftp://127.0.0.1/a/b'],
    ['../../../../../../a'],
    ['https://user:pass word@host/x'],
  ])('the URL %s', async (url) => {
    const error = await refused({ ...lib, '.gitmodules': gitmodules({ lib: url }) })
    expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
    expect(error.message).toMatch(about)
    expect(error.message).not.toContain('pass word')
  })

  test.each([
    ['\\\\@', 'a backslash'],
    ['?@', 'a question mark'],
    ['#@', 'a hash'],
  ])('a URL in which git reads another host than we do: %s', async (between) => {
    const foreign = await repositoryWith({ 'foreign.txt': 'foreign\n' }, other)
    const url = `"${server.url}${between}${new URL(other.url).host}/${foreign.name}.git"`
    const error = await refused({
      lib: { submodule: foreign.sha },
      '.gitmodules': gitmodules({ lib: url }),
    })
    expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
    expect(error.message).toMatch(about)
  })

  test('a URL of 3000 characters', async () => {
    const error = await refused({
      ...lib,
      '.gitmodules': gitmodules({ lib: `https://x/${'x'.repeat(3000)}` }),
    })
    expect(error.message).toMatch(about)
    expect(error.message.length).toBeLessThan(400)
  })

  test.each([
    ['-x', /^\.gitmodules has no URL for the submodule lib$/],
    [
      'https://x/y\n\tupdate = !touch /tmp/x',
      /^\.gitmodules has an invalid value for submodule\.lib\.update/,
    ],
    ['https://x/y\n[', /^\.gitmodules is malformed$/],
    // git repeats the name for each line.
    [`x\n[submodule "${'x'.repeat(1000)}"]\n${'url\n'.repeat(20_000)}`, /^\.gitmodules is malformed$/],
  ])('what git refuses in .gitmodules: %j', async (url, message) => {
    expect((await refused({ ...lib, '.gitmodules': gitmodules({ lib: url }) })).message).toMatch(message)
  })

  test('a .gitmodules that is a symlink', async () => {
    const error = await refused({ ...lib, '.gitmodules': { symlink: 'Dockerfile' } })
    expect(error.message).toBe('.gitmodules is a symlink, not a file')
  })

  test('a commit that the server does not have, and a repository', async () => {
    const there = await repositoryWith({ a: 'a' })
    const commit = await refused({ ...lib, '.gitmodules': gitmodules({ lib: there.repository.url }) })
    expect(commit).toMatchObject({ kind: 'not_found', retryable: false })
    expect(commit.message).toMatch(
      new RegExp(`${about.source}: 127.0.0.1:?\\d* has no commit 3333333 in ${there.name}$`),
    )
    const gone = await refused({ ...lib, '.gitmodules': gitmodules({ lib: '../gone' }) })
    expect(gone.message).toMatch(new RegExp(`${about.source}: .* has no repository acme/gone$`))
  })

  test('more than 500 submodules', async () => {
    const empty = await repositoryWith({})
    const names = Array.from({ length: 501 }, (_, i) => `m${String(i).padStart(3, '0')}`)
    const error = await refused({
      ...Object.fromEntries(names.map((name) => [name, { submodule: empty.sha }])),
      '.gitmodules': gitmodules(Object.fromEntries(names.map((name) => [name, empty.repository.url]))),
    })
    expect(error.message).toBe('the commit has more than 500 submodules, which exceeds the limit: m000')
  })

  test('submodules that are nested more than 16 deep', async () => {
    let last = await repositoryWith({ a: 'a' })
    for (let depth = 0; depth < 16; depth++) {
      last = await repositoryWith({
        n: { submodule: last.sha },
        '.gitmodules': gitmodules({ n: last.repository.url }),
      })
    }
    const files = { n: { submodule: last.sha }, '.gitmodules': gitmodules({ n: last.repository.url }) }
    const error = await refused(files)
    expect(error.message).toMatch(
      /^the commit has submodules nested more than 16 deep, which exceeds the limit: n\/n/,
    )
  })
})

test.each([
  // git decodes this to the host `evil.example`.
  ['ssh://evil.example%2Fx@github.com/a/b/c', 'https://github.com/{repository}.git', null],
  ['ssh://github.com?@evil.example/a/b', 'https://github.com/{repository}.git', null],
  ['https://github.com/', 'https://github.com/{repository}.git', null],
  // The token would be readable on the network.
  ['http://github.com/a/b/c', 'https://github.com/{repository}.git', false],
  ['https://github.com/a/b/c', 'https://github.com/{repository}.git', true],
  ['http://git.example/a/b/c', 'http://git.example/{repository}.git', true],
  // Another program of the same machine.
  ['https://git.example:8443/a/b', 'git@git.example:{repository}.git', false],
  ['https://git.example/a/b', 'git@git.example:{repository}.git', true],
  ['ssh://git@git.example:2222/a/b.git', 'https://git.example:8443/{repository}.git', true],
])('the credentials for %s, if --git.url is %s', (url, template, ours) => {
  expect(originOf(url, template)?.ours ?? null).toBe(ours)
})

test('relative URLs are resolved as git submodule does', async () => {
  const folder = join(temp.path, 'urls')
  await mkdir(folder)
  const run = async (...args: string[]) => {
    const command = await start('git', ['-C', folder, ...args], { env: gitEnv(), stdio: 'pipe' })
    const { code } = await command.exited
    return code === 0 ? command.stdout().trim() : null
  }
  await run('init', '--quiet', '.')
  await run('update-index', '--add', '--cacheinfo', `160000,${'4'.repeat(40)},lib`)
  await run('config', '--file', '.gitmodules', 'submodule.lib.path', 'lib')
  await run('remote', 'add', 'origin', 'x')
  const parents = [
    'https://github.com/acme/app.git',
    'https://github.com/acme/app/',
    'git@github.com:acme/app.git',
    'git@github.com:app.git',
    'ssh://git@github.com/acme/app',
    'file:///srv/git/acme/app.git',
  ]
  const urls = [
    '../lib.git',
    '../../other/lib',
    './lib/',
    '../../../x',
    './../x',
    '../x/../y',
    '.././lib',
    '../',
  ]
  let compared = 0
  for (const parent of parents) {
    for (const url of urls) {
      await run('config', 'remote.origin.url', parent)
      await run('config', '--file', '.gitmodules', 'submodule.lib.url', url)
      await run('config', '--unset', 'submodule.lib.url')
      await run('submodule', '--quiet', 'init', 'lib')
      const expected = await run('config', 'submodule.lib.url')
      expect([parent, url, submoduleUrl(parent, url)]).toEqual([parent, url, expected])
      if (expected) compared += 1
    }
  }
  expect(compared).toBeGreaterThan(40)
})
