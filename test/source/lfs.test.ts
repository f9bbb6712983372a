import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { ConveyorError } from '../../src/lib/core/errors.ts'
import { dockerfileText } from '../../src/lib/dockerfile/read.ts'
import { NO_PROXIES } from '../../src/lib/net/proxies.ts'
import type { Git } from '../../src/lib/source/git/git.ts'
import type { Remote, RemoteToken } from '../../src/lib/source/git/remote.ts'
import { endpointOf } from '../../src/lib/source/lfs/endpoint.ts'
import { certificates, lfsHttp } from '../../src/lib/source/lfs/http.ts'
import { lfsOrigin } from '../../src/lib/source/lfs/origin.ts'
import { type GitMirrors, gitMirrors } from '../../src/lib/source/mirrors.ts'
import type { Context } from '../../src/lib/source/source.ts'
import { describeTree, materialise } from '../support/context/on-disk.ts'
import { oidIn, pointerTo } from '../support/git/lfs.ts'
import { type FileContent, type Files, gitEnv } from '../support/git/repository.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { startSshServer } from '../support/git/ssh-server.ts'
import { makeCertificates } from '../support/network/certificates.ts'
import { basicEnv, start } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'
import { threadTime } from '../support/timing/thread-time.ts'

const TOKEN = 'ghp_of-the-git-server-alone'
const LOGIN = `Basic ${Buffer.from(`x-access-token:${TOKEN}`).toString('base64')}`
const DOCKERFILE = { Dockerfile: 'FROM scratch\nCOPY . /\n' }
const TRACKED = { ...DOCKERFILE, '.gitattributes': '*.bin filter=lfs diff=lfs merge=lfs -text\n' }

let server: GitServer
let temp: TempDir
let source: GitMirrors
let count = 0

beforeAll(async () => {
  server = await startGitServer({ token: TOKEN })
  temp = await tempDir('conveyor-lfs-')
  source = mirrors('mirrors')
})
beforeEach(() => {
  server.lfs.batches.length = 0
  server.lfs.downloads.length = 0
})
afterAll(async () => {
  await source.close()
  await server[Symbol.asyncDispose]()
  await temp[Symbol.asyncDispose]()
})

function mirrors(
  dir: string,
  lfs: { cacheBytes?: number; hosts?: string[] } = {},
  token: RemoteToken = TOKEN,
): GitMirrors {
  const options = { dir: join(temp.path, dir), url: server.urlTemplate, environment: basicEnv() }
  return gitMirrors({ ...options, token, lfs: { backoffMs: [1, 1, 1], ...lfs } })
}

/** A new repository's name. */
const repository = () => `acme/app${++count}`

async function contextOf(
  name: string,
  files: Files,
  from = source,
  log?: (line: string) => void,
): Promise<Context> {
  const sha = await (await server.create(name)).commit(files)
  const context = await from.context(await from.fetch(name, sha), { log })
  onTestFinished(() => context.close())
  return context
}

async function contentOf(context: Context, path: string): Promise<Buffer> {
  const entry = context.entries.find((one) => one.path === path)
  if (!entry) throw new Error(`no ${path} in the context`)
  const chunks: Uint8Array[] = []
  for await (const chunk of context.read(entry)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => {
      throw new Error('it did not fail')
    },
    (error: ConveyorError) => error,
  )

describe('the context is what git-lfs checks out', () => {
  const LARGE = randomBytes(1_500_000)

  /** By path, for a repository with these objects. */
  const commits: [
    string,
    (put: (content: string | Uint8Array) => string) => [string | Buffer, FileContent][],
  ][] = [
    [
      'every kind of pointer, and what only looks like one',
      (put) => [
        ['Dockerfile', 'FROM scratch\nCOPY . /\n'],
        [
          '.gitattributes',
          [
            '*.bin filter=lfs diff=lfs merge=lfs -text',
            '*.txt filter=lfs text eol=crlf',
            '*.id filter=lfs ident',
            '*.utf16 filter=lfs text working-tree-encoding=UTF-16LE',
            '[attr]large filter=lfs',
            '*.psd large',
            '*.other filter=other',
            '',
          ].join('\n'),
        ],
        ['small.bin', put('small\n')],
        ['large.bin', put(LARGE)],
        ['again.bin', put('small\n')],
        ['run.bin', { content: put('#!/bin/sh\n'), mode: 0o755 }],
        ['empty.bin', ''],
        ['plain.bin', 'was committed before it was tracked\n'],
        ['long.bin', `${put('small\n')}${'x'.repeat(1500)}`],
        ['spaces.bin', `\n  ${put('small\n')}\n\n`],
        ['crlf.bin', put('small\n').replaceAll('\n', '\r\n')],
        ['old.bin', put('small\n').replace('git-lfs.github.com', 'hawser.github.com')],
        ['unknown.bin', put('small\n').replace('/v1', '/v9')],
        ['reordered.bin', put('small\n').split('\n').toReversed().join('\n')],
        ['extra.bin', `${put('small\n')}more x\n`],
        ['short.bin', put('small\n').replace(/oid .*\n/, 'oid sha256:0123\n')],
        ['a.txt', put('one\ntwo\n')],
        ['plain.txt', 'one\ntwo\n'],
        ['b.id', put('$Id$\n')],
        ['c.utf16', put('text')],
        ['d.psd', put('layers')],
        ['e.other', put('small\n')],
        ['untracked', put('small\n')],
        ['link.bin', { symlink: 'small.bin' }],
        ['sub/.gitattributes', '*.bin -filter\n*.dat filter=lfs\n'],
        ['sub/a.bin', put('small\n')],
        ['sub/a b\n"c".dat', put('odd name')],
        [Buffer.from('sub/\xff.dat', 'latin1'), put('not UTF-8')],
      ],
    ],
    [
      'files that .lfsconfig leaves out',
      (put) => [
        ['Dockerfile', 'FROM scratch\n'],
        ['.gitattributes', '* filter=lfs\n.* !filter\nDockerfile !filter\n'],
        ['.lfsconfig', '[lfs]\n\tfetchinclude = assets, *.c\n\tfetchexclude = *.psd ,assets/raw/**,/top\n'],
        ['assets/a', put('a')],
        ['assets/a.psd', put('p')],
        ['assets/raw/b', put('b')],
        ['assets/deep/raw/b', put('b')],
        ['other/a', put('a')],
        ['other/x.c', put('c')],
        ['top', put('top')],
      ],
    ],
  ]

  test.each(commits)('%s', async (_, filesOf) => {
    const name = repository()
    const git = await server.create(name)
    const files = filesOf((content) => server.lfs.put(name, content))
    const sha = await git.commit(new Map<string | Buffer, FileContent>(files))
    const context = await source.context(await source.fetch(name, sha))
    onTestFinished(() => context.close())
    const [ours, gits] = [join(temp.path, `${count}-ours`), join(temp.path, `${count}-gits`)]
    await materialise(context, ours)
    const asked = server.lfs.batches.flatMap(({ body }) => body.objects.map(({ oid }) => oid)).toSorted()

    server.lfs.batches.length = 0
    await clone(git.url, gits)
    expect(await describeTree(ours)).toEqual(await describeTree(gits))
    // git-lfs asked for the same objects.
    expect(
      [...new Set(server.lfs.batches.flatMap(({ body }) => body.objects.map(({ oid }) => oid)))].toSorted(),
    ).toEqual(asked)
  })

  /** A clone with git-lfs, without its `.git`. */
  async function clone(url: string, folder: string): Promise<void> {
    const filter = ['smudge=git-lfs smudge -- %f', 'required=true']
    const config = [...filter.map((one) => `filter.lfs.${one}`), `http.extraHeader=Authorization: ${LOGIN}`]
    const args = config.flatMap((one) => ['-c', one])
    const command = 'umask 022; git "$@" && rm -r "$0/.git"'
    const git = await start('sh', ['-c', command, folder, 'clone', '-q', ...args, url, folder], {
      env: gitEnv(),
    })
    expect(await git.exited, git.stderr()).toMatchObject({ code: 0 })
  }
})

/** A commit with objects in files a.bin, b.bin and so on. */
async function tracked(name: string, contents: (string | Uint8Array)[], from = source, more: Files = {}) {
  const pointers = contents.map((content) => server.lfs.put(name, content))
  const files = pointers.map((pointer, i): [string, FileContent] => [
    `${String.fromCharCode(97 + i)}.bin`,
    pointer,
  ])
  const log: string[] = []
  const context = await contextOf(
    name,
    new Map([...Object.entries(TRACKED), ...files, ...Object.entries(more)]),
    from,
    (line) => log.push(line),
  )
  return { context, pointers, log }
}

describe('downloads', () => {
  test('only what is read is downloaded, in few requests and a few at a time, and once', async () => {
    const name = repository()
    const contents = Array.from({ length: 230 }, (_, i) => `${name} ${i}`)
    const files = contents.map((content, i): [string, string] => [`${i}.bin`, server.lfs.put(name, content)])
    const log: string[] = []
    const context = await contextOf(name, new Map([...Object.entries(TRACKED), ...files]), source, (line) =>
      log.push(line),
    )
    expect(server.lfs.batches).toHaveLength(0)
    const read = await Promise.all(files.slice(0, 220).map(([path]) => contentOf(context, path)))
    expect(read.map(String)).toEqual(contents.slice(0, 220))
    expect(server.lfs.batches.map(({ body }) => body.objects.length)).toEqual([100, 100, 30])
    expect(server.lfs.downloads).toHaveLength(220)
    expect(server.lfs.atOnce).toBeLessThanOrEqual(8)
    expect(log.filter((line) => line.includes('LFS'))).toEqual([
      `downloading what is needed of 230 objects in Git LFS, 0.0 MB, from ${new URL(server.url).host}`,
    ])

    const again = await contextOf(repository(), DOCKERFILE)
    await again.close()
    const other = mirrors('mirrors')
    onTestFinished(() => other.close())
    const sha = await (await server.create(name)).resolve('main')
    const reopened = await other.context(await other.fetch(name, sha))
    onTestFinished(() => reopened.close())
    expect(String(await contentOf(reopened, '7.bin'))).toBe(contents[7])
    expect(server.lfs.downloads).toHaveLength(220)
  })

  test('the token goes to the LFS server of the repository alone', async () => {
    const { context, pointers } = await tracked(repository(), ['first', 'second'])
    const elsewhere: (string | undefined)[] = []
    const other = createServer((request, response) => {
      elsewhere.push(request.headers.authorization, request.headers['x-ticket'] as string | undefined)
      response.end('second')
    })
    await once(other.listen(0, '127.0.0.1'), 'listening')
    onTestFinished(() => void other.close())
    server.lfs.redirect(pointers[1] as string, `http://127.0.0.1:${(other.address() as AddressInfo).port}/`)
    expect(String(await contentOf(context, 'a.bin'))).toBe('first')
    expect(String(await contentOf(context, 'b.bin'))).toBe('second')
    expect(server.lfs.batches.map(({ authorization }) => authorization)).toEqual([LOGIN])
    expect(server.lfs.downloads.map(({ authorization }) => authorization)).toEqual([null, null])
    expect(elsewhere).toEqual([undefined, undefined])
  })

  test('failures that pass are waited for, with a new address for each attempt', async () => {
    const { context } = await tracked(repository(), ['content'])
    server.lfs.failNext('batches', 503)
    server.lfs.failNext('objects', 500, 403)
    expect(String(await contentOf(context, 'a.bin'))).toBe('content')
    expect(server.lfs.batches).toHaveLength(4)
    expect(server.lfs.downloads).toHaveLength(3)
  })

  test.each([
    [
      'another hash',
      'CONTENT',
      /a\.bin in acme\/app\d+@[0-9a-f]{7} from Git LFS: 127\.0\.0\.1:\d+ sent bytes whose SHA-256 is not /,
    ],
    ['too few bytes', 'conte', /sent 5 of its 7 bytes$/],
    ['too many bytes', 'contents', /sent more than its 7 bytes$/],
  ])('an object with %s is refused, and not kept', async (_, wrong, message) => {
    const { context, pointers } = await tracked(repository(), ['content'])
    server.lfs.corrupt(pointers[0] as string, wrong)
    const error = await failure(contentOf(context, 'a.bin'))
    expect(error).toMatchObject({ kind: 'unavailable', retryable: false })
    expect(error.message).toMatch(message)
    expect(server.lfs.downloads).toHaveLength(4)
    server.lfs.corrupt(pointers[0] as string, 'content')
    expect(String(await contentOf(context, 'a.bin'))).toBe('content')
  })

  test('a missing object is named', async () => {
    const pointer = pointerTo('never uploaded')
    const context = await contextOf(repository(), { ...TRACKED, 'assets/x.bin': pointer })
    const error = await failure(contentOf(context, 'assets/x.bin'))
    expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
    expect(error.message).toMatch(/^assets\/x\.bin in acme\/app\d+@[0-9a-f]{7} is missing in Git LFS: 127/)
    expect(error.message).toContain(`has no object ${oidIn(pointer).slice(0, 12)} (Object does not exist)`)
    expect(error.hint).toContain('git lfs push --all')
  })

  test('an object of another repository cannot be had by its id', async () => {
    const { context, pointers } = await tracked(repository(), ['private'])
    expect(String(await contentOf(context, 'a.bin'))).toBe('private')
    const other = await contextOf(repository(), { ...TRACKED, 'a.bin': pointers[0] as string })
    expect(await failure(contentOf(other, 'a.bin'))).toMatchObject({ kind: 'build_failed' })
  })

  test.each([
    [401, 'unauthorized', /refused the credentials \(HTTP 401 status 401 of the test\)$/],
    [403, 'unauthorized', /refused the credentials/],
    [404, 'not_found', /does not exist/],
    [413, 'unavailable', /HTTP 413/],
  ])('an answer of %i is reported', async (status, kind, message) => {
    const { context } = await tracked(repository(), ['content'])
    server.lfs.failNext('batches', status)
    const error = await failure(contentOf(context, 'a.bin'))
    expect(error).toMatchObject({ kind, retryable: false })
    expect(error.message).toMatch(message)
    expect(error.message).not.toContain(TOKEN)
  })

  test('closing the context ends its downloads', async () => {
    const { context } = await tracked(repository(), ['content'])
    const held = server.hold()
    const reading = failure(contentOf(context, 'a.bin'))
    await held.arrived
    await context.close()
    expect(String(await reading)).toContain('the context was closed')
    held.release()
  })

  test('an empty object is not downloaded', async () => {
    const context = await contextOf(repository(), { ...TRACKED, 'a.bin': pointerTo('') })
    expect(await contentOf(context, 'a.bin')).toHaveLength(0)
    expect(server.lfs.batches).toHaveLength(0)
  })

  test('a pointer of an extension is refused by name', async () => {
    const pointer = pointerTo('x').replace('oid', `ext-0-zip sha256:${'0'.repeat(64)}\noid`)
    const error = await failure(contextOf(repository(), { ...TRACKED, 'a.bin': pointer }))
    expect(error).toMatchObject({ kind: 'build_failed' })
    expect(error.message).toMatch(
      /^a\.bin in acme\/app\d+@[0-9a-f]{7} was stored by ext-0-zip, an extension of Git LFS$/,
    )
  })
})

test('files of a submodule come from its own LFS server', async () => {
  const [outer, inner] = [repository(), repository()]
  const lib = await server.create(inner)
  const sha = await lib.commit({ ...TRACKED, 'x.bin': server.lfs.put(inner, 'of the submodule') })
  const { context } = await tracked(outer, ['of the repository'], source, {
    '.gitmodules': `[submodule "lib"]\n\tpath = vendor/lib\n\turl = ../${inner.split('/')[1]}\n`,
    'vendor/lib': { submodule: sha },
  })
  expect(String(await contentOf(context, 'a.bin'))).toBe('of the repository')
  expect(String(await contentOf(context, 'vendor/lib/x.bin'))).toBe('of the submodule')
  expect(server.lfs.batches).toMatchObject([
    { repository: outer, authorization: LOGIN },
    { repository: inner, authorization: LOGIN },
  ])
})

test('a Dockerfile may be in Git LFS, and a .dockerignore not', async () => {
  const name = repository()
  const attributes = '* filter=lfs\n.gitattributes !filter\n'
  const files = { '.gitattributes': attributes, Dockerfile: server.lfs.put(name, 'FROM x\n') }
  const context = await contextOf(name, files)
  expect(await dockerfileText(context, new AbortController().signal)).toBe('FROM x\n')
  const other = repository()
  const long = server.lfs.put(other, `FROM x\n${'#'.repeat(1 << 20)}`)
  const tooLong = await failure(contextOf(other, { ...files, Dockerfile: long }))
  expect(tooLong.message).toMatch(/^Dockerfile in acme\/app\d+@\w{7} is larger than 1 MiB$/)
  const error = await failure(contextOf(repository(), { ...files, '.dockerignore': pointerTo('a\n') }))
  expect(error.message).toMatch(/^\.dockerignore in acme\/app\d+@\w{7} is stored in Git LFS$/)
})

test('a token that expired is replaced', async () => {
  const asked: (string | undefined)[] = []
  const token = async (_repository: string, _signal?: AbortSignal, refused?: string) => {
    asked.push(refused)
    return refused === 'expired' ? TOKEN : 'expired'
  }
  const renewing = mirrors('renewing', {}, token)
  onTestFinished(() => renewing.close())
  const { context } = await tracked(repository(), ['content'], renewing)
  asked.length = 0
  expect(String(await contentOf(context, 'a.bin'))).toBe('content')
  expect(asked).toEqual([undefined, 'expired'])
})

test('the certificates of git are trusted', async () => {
  const dir = await tempDir()
  onTestFinished(() => dir[Symbol.asyncDispose]())
  const files = (await makeCertificates(dir.path)).server
  const [key, cert] = [await readFile(files.key), await readFile(files.cert)]
  const secure = createSecureServer({ key, cert }, (_, response) => void response.end('content'))
  await once(secure.listen(0, '127.0.0.1'), 'listening')
  onTestFinished(() => void secure.close())
  const url = new URL(`https://127.0.0.1:${(secure.address() as AddressInfo).port}/`)
  const get = async (ca: string[] | undefined) => {
    const http = lfsHttp({ proxies: NO_PROXIES, ca, mayBeLocal: () => true })
    onTestFinished(() => http.close())
    const { signal } = new AbortController()
    return text((await http.send({ method: 'GET', url, headers: {}, own: {}, signal })).body)
  }
  expect(await get(certificates(files.ca))).toBe('content')
  await expect(get(certificates(undefined))).rejects.toMatchObject({
    transient: false,
    hint: expect.stringContaining('NODE_EXTRA_CA_CERTS'),
  })
})

describe('where the objects are', () => {
  test.each([
    ['https://github.com/acme/app.git', 'https://github.com/acme/app.git/info/lfs'],
    ['https://git.example.com:8443/scm/acme/app', 'https://git.example.com:8443/scm/acme/app.git/info/lfs'],
    ['http://127.0.0.1:3000/acme/app.git/', 'http://127.0.0.1:3000/acme/app.git/info/lfs'],
    ['git@github.com:acme/app.git', 'https://github.com/acme/app.git/info/lfs'],
    ['ssh://git@git.example.com:2222/acme/app', 'https://git.example.com/acme/app.git/info/lfs'],
  ])('for %s, as git-lfs says', async (remote, expected) => {
    expect(endpointOf(remote)?.href).toBe(expected)
    await using dir = await tempDir()
    const script = 'git init -q && git remote add origin "$1" && git lfs env'
    const env = await start('sh', ['-c', script, '-', remote], { env: gitEnv(), cwd: dir.path })
    await env.exited
    expect(/^Endpoint=(\S+)/m.exec(env.stdout())?.[1]).toBe(expected)
  })

  test('under the new name of a repository that was renamed', async () => {
    const [old, name] = [repository(), repository()]
    const sha = await (await server.create(name)).commit({
      ...TRACKED,
      'a.bin': server.lfs.put(name, 'renamed'),
    })
    server.move(old, `${server.url}/${name}`)
    const context = await source.context(await source.fetch(old, sha))
    onTestFinished(() => context.close())
    expect(String(await contentOf(context, 'a.bin'))).toBe('renamed')
    expect(server.lfs.batches).toMatchObject([{ repository: name, authorization: LOGIN }])
  })

  test('in the repository itself, where git-lfs has put them, if it is in a folder', async () => {
    await using dir = await tempDir()
    const work = join(dir.path, 'work')
    const script = [
      'set -e; git init -q --bare "$1/acme/app.git"; git init -q "$2"; cd "$2"; git config user.name x; git config user.email x@y',
      'git lfs install --local >&2; git lfs track "*.bin" >&2; echo content >a.bin; echo "FROM scratch" >Dockerfile',
      'git add . >&2; git commit -qm x; git remote add origin "file://$1/acme/app.git"; git push -q origin HEAD:main >&2; git rev-parse HEAD',
    ].join('; ')
    const pushed = await start('sh', ['-c', script, '-', dir.path, work], {
      env: { ...gitEnv(), HOME: dir.path },
    })
    expect(await pushed.exited, pushed.stderr()).toMatchObject({ code: 0 })
    const files = gitMirrors({
      ...{
        dir: join(dir.path, 'mirrors'),
        url: `file://${dir.path}/{repository}.git`,
        environment: basicEnv(),
      },
    })
    onTestFinished(() => files.close())
    const context = await files.context(await files.fetch('acme/app', pushed.stdout().trim()))
    onTestFinished(() => context.close())
    expect(String(await contentOf(context, 'a.bin'))).toBe('content\n')
    await rm(join(dir.path, 'acme/app.git/lfs'), { recursive: true })
    await rm(join(dir.path, 'mirrors/.lfs'), { recursive: true })
    expect(await failure(contentOf(context, 'a.bin'))).toMatchObject({
      kind: 'build_failed',
      message: expect.stringMatching(/^a\.bin in .* is missing in Git LFS: the repository has no object/),
    })
  })

  /** A commit with an object, fetched over SSH. */
  async function overSsh(name: string, answer: (repository: string) => string | undefined) {
    const git = await server.create(name)
    const sha = await git.commit({ ...TRACKED, 'a.bin': server.lfs.put(name, 'over SSH') })
    const ssh = await startSshServer(join(git.dir, '../..'), () => answer(name))
    onTestFinished(() => ssh[Symbol.asyncDispose]())
    await using dir = await tempDir()
    const knownHosts = join(dir.path, 'known_hosts')
    await writeFile(knownHosts, ssh.knownHosts)
    const client = gitMirrors({
      ...{ dir: join(temp.path, `ssh-${count}`), url: ssh.urlTemplate, environment: basicEnv() },
      ...{ knownHosts, lfs: { backoffMs: [1] } },
    })
    onTestFinished(() => client.close())
    const context = await client.context(await client.fetch(name, sha))
    onTestFinished(() => context.close())
    const content = await contentOf(context, 'a.bin').then(String, (error: ConveyorError) => error)
    return { content, commands: ssh.commands }
  }

  test('where the git server says so over SSH, with credentials for it', async () => {
    const name = repository()
    const { content, commands } = await overSsh(name, () =>
      JSON.stringify({
        href: `${server.url}/${name}.git/info/lfs`,
        header: { Authorization: LOGIN, Host: 'elsewhere' },
        expires_in: 3600,
      }),
    )
    expect(content).toBe('over SSH')
    expect(commands).toEqual([`git-lfs-authenticate '${name}.git' download`])
    expect(server.lfs.batches).toMatchObject([{ repository: name, authorization: LOGIN }])
  })

  test('at the derived address if the server of SSH does not know', async () => {
    const { content, commands } = await overSsh(repository(), () => undefined)
    expect(commands).toHaveLength(1)
    expect(content).toMatchObject({
      kind: 'unavailable',
      message: expect.stringMatching(
        /^the Git LFS server of acme\/app\d+@\w{7} at 127\.0\.0\.1 does not respond/,
      ),
    })
  })
})

describe('.lfsconfig', () => {
  const lfsconfig = (url: string) => ({ '.lfsconfig': `[lfs]\n\turl = ${url}\n` })

  test('names a server only if that is allowed, which gets no credentials', async () => {
    const other = await startGitServer()
    onTestFinished(() => other[Symbol.asyncDispose]())
    const { host } = new URL(other.url)
    const name = repository()
    const pointer = other.lfs.put(name, 'elsewhere')
    const files = { ...TRACKED, ...lfsconfig(`${other.url}/${name}.git/info/lfs`), 'a.bin': pointer }
    const error = await failure(contextOf(name, files))
    expect(error).toMatchObject({ kind: 'build_failed' })
    expect(error.message).toMatch(
      new RegExp(`^\\.lfsconfig in ${name}@\\w{7} names ${host}, which is not allowed$`),
    )

    const allowing = mirrors('allowing', { hosts: [host] })
    onTestFinished(() => allowing.close())
    const context = await contextOf(`${name}-2`, files, allowing)
    expect(String(await contentOf(context, 'a.bin'))).toBe('elsewhere')
    expect(other.lfs.batches).toMatchObject([{ authorization: null }])
    expect(server.lfs.batches).toHaveLength(0)
  })

  test.each(['.git/info/lfs', '/info/lfs/'])(
    'may name the server of the repository itself, by %s',
    async (path) => {
      const name = repository()
      const url = `${server.url}/${name.replace('acme', 'Acme')}${path}`
      const { context } = await tracked(name, ['content'], source, lfsconfig(url))
      expect(String(await contentOf(context, 'a.bin'))).toBe('content')
      expect(server.lfs.batches).toMatchObject([{ repository: name, authorization: LOGIN }])
    },
  )

  test('does not get at another repository with the token', async () => {
    const secret = repository()
    const pointer = server.lfs.put(secret, 'secret')
    const url = `${server.url}/${secret}.git/info/lfs`
    const context = await contextOf(repository(), { ...TRACKED, ...lfsconfig(url), 'a.bin': pointer })
    const error = await failure(contentOf(context, 'a.bin'))
    expect(error).toMatchObject({ kind: 'unauthorized' })
    expect(error.message).toContain('refused a request without credentials')
    expect(server.lfs.batches).toHaveLength(0)
  })

  test.each(['ssh://git@127.0.0.1/x', 'https://user:password@127.0.0.1/x', 'file:///etc', 'x'])(
    '%s is refused',
    async (url) => {
      const error = await failure(
        contextOf(repository(), { ...TRACKED, ...lfsconfig(url), 'a.bin': pointerTo('a') }),
      )
      expect(error).toMatchObject({ kind: 'build_failed' })
      expect(error.message).toContain('.lfsconfig')
      expect(error.message).not.toContain('password')
    },
  )

  /** The LFS server that this address means in a repository of GitHub, and whether it gets the login. */
  async function meant(configured: string, url = 'https://github.com/acme/app.git') {
    const remote = {
      url: () => url,
      token: async () => TOKEN,
      connection: () => ({ authorization: LOGIN }),
    } as unknown as Remote
    const rest = { git: {} as Git, repository: 'acme/app', name: 'acme/app@0123456', hosts: ['lfs.example'] }
    const origin = lfsOrigin({ ...rest, remote, configured })
    if (!('access' in origin)) throw new Error('it is a folder')
    const { url: found, headers } = await origin.access(new AbortController().signal)
    return [found.href, headers.authorization === LOGIN]
  }

  test('may name a repository by its address of ssh, as git-lfs reads it', async () => {
    const [own, other] = ['app', 'assets'].map((name) => `https://github.com/acme/${name}.git/info/lfs`)
    expect(await meant('ssh://git@github.com/acme/app.git')).toEqual([own, true])
    expect(await meant('git@github.com:acme/app.git')).toEqual([own, true])
    expect(await meant('git@github.com:acme/assets')).toEqual([other, false])
    expect(await meant('ssh://git@github.com:22/acme/assets.git')).toEqual([other, false])
    expect((await meant('git@lfs.example:acme/app.git'))[1]).toBe(false)
    await expect(meant('git@elsewhere.example:acme/app.git')).rejects.toThrow('which is not allowed')
    await expect(meant('ssh://git:password@github.com/acme/app.git')).rejects.toThrow('[redacted]')
    await expect(meant('git://github.com/acme/app.git')).rejects.toThrow('a server that is not used')
  })

  test('does not include files of the worker', async () => {
    const name = repository()
    const file = join(temp.path, 'config')
    await writeFile(file, '[lfs]\n\turl = https://elsewhere.example/\n')
    const config = { '.lfsconfig': `[include]\n\tpath = ${file}\n` }
    const { context } = await tracked(name, ['content'], source, config)
    expect(String(await contentOf(context, 'a.bin'))).toBe('content')
  })

  test('a path of many slashes is read in no time', () => {
    const slashes = '/'.repeat(60_000)
    const taken = threadTime()
    expect(endpointOf(`https://git.example${slashes}x`)?.pathname).toBe(`${slashes}x.git/info/lfs`)
    expect(taken()).toBeLessThan(1000)
  })

  test('of a server without a path is on that server', () => {
    expect(endpointOf('https://git.example')?.host).toBe('git.example')
  })

  test('is refused if git cannot read it', async () => {
    const files = { ...TRACKED, '.lfsconfig': '[lfs', 'a.bin': pointerTo('a') }
    await expect(contextOf(repository(), files)).rejects.toMatchObject({
      kind: 'build_failed',
      message: expect.stringContaining('.lfsconfig'),
    })
  })
})

describe('the cache', () => {
  /** The objects in a cache, by their ids. */
  async function cached(dir: string): Promise<string[]> {
    const found = await readdir(join(temp.path, dir, '.lfs'), { recursive: true, withFileTypes: true })
    return found
      .filter((entry) => entry.isFile())
      .map(({ name }) => name)
      .toSorted()
  }

  test('keeps what was used last, within its limit', async () => {
    const limited = mirrors('limited', { cacheBytes: 2500 })
    const name = repository()
    const { context, pointers } = await tracked(
      name,
      ['a', 'b', 'c'].map((letter) => letter.repeat(1000)),
      limited,
    )
    await contentOf(context, 'a.bin')
    await contentOf(context, 'b.bin')
    await utimes(
      join(temp.path, 'limited', '.lfs', ...(await pathOf('limited', pointers[0] as string))),
      1,
      1,
    )
    await contentOf(context, 'c.bin')
    await limited.close()
    expect(await cached('limited')).toEqual(pointers.slice(1).map(oidIn).toSorted())
  })

  /** Path of an object below the cache. */
  async function pathOf(dir: string, pointer: string): Promise<string[]> {
    const found = await readdir(join(temp.path, dir, '.lfs'), { recursive: true })
    return (found.find((path) => path.endsWith(oidIn(pointer))) ?? '').split('/')
  }

  test('a damaged object is not used, and downloaded again', async () => {
    const damaged = mirrors('damaged')
    onTestFinished(() => damaged.close())
    const { context, pointers } = await tracked(repository(), ['content'], damaged)
    await contentOf(context, 'a.bin')
    const file = join(temp.path, 'damaged', '.lfs', ...(await pathOf('damaged', pointers[0] as string)))
    await writeFile(file, 'CONTENT')
    const error = await failure(contentOf(context, 'a.bin'))
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(error.message).toMatch(/^the cached copy of a\.bin in /)
    expect(String(await contentOf(context, 'a.bin'))).toBe('content')
    await writeFile(file, 'cut')
    expect(String(await contentOf(context, 'a.bin'))).toBe('content')
  })
})
