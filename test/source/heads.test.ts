import { readdir } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { gitHeads } from '../../src/lib/source/git/heads.ts'
import type { GitRepository } from '../support/git/repository.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

const REPOSITORY = 'Acme/App'
const TOKEN = 'ghp_the-token'
const AS_ADA = ['-c', 'user.name=Ada', '-c', 'user.email=ada@example.com']

let server: GitServer
let dir: TempDir
let git: GitRepository
beforeAll(async () => {
  ;[server, dir] = await Promise.all([startGitServer({ token: TOKEN }), tempDir()])
  git = await server.create(REPOSITORY)
})
afterAll(async () => {
  await server[Symbol.asyncDispose]()
  await dir[Symbol.asyncDispose]()
})

const open = (rest: { token?: string; limitsMs?: { refs: number; commits: number } } = {}) =>
  gitHeads({ dir: `${dir.path}/heads`, url: server.urlTemplate, token: TOKEN, ...rest })

describe('the heads of a repository', () => {
  test('are those that git for-each-ref shows, with the commits of annotated tags, and no other refs', async () => {
    expect(await open().heads(REPOSITORY)).toEqual([])
    const first = await git.commit({ file: 'x' })
    const second = await git.commit({ file: 'y' }, { branch: 'feature/ünï' })
    await git.git('tag', 'plain', first)
    await git.git(...AS_ADA, 'tag', '-a', '-m', 'x', 'v1', second)
    await git.git(...AS_ADA, 'tag', '-a', '-m', 'of a tag', 'v1-again', 'v1')
    await git.git('update-ref', 'refs/pull/7/head', first)
    await git.git('update-ref', 'refs/notes/x', first)
    server.requests.length = 0
    const heads = await open().heads(REPOSITORY)
    const format =
      '%(refname)\t%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)\t%(objectname)'
    const listed = await git.git('for-each-ref', `--format=${format}`, 'refs/heads', 'refs/tags')
    const shown = heads.map(({ ref, sha, object }) => {
      return `refs/${ref.kind === 'branch' ? 'heads' : 'tags'}/${ref.name}\t${sha}\t${object}`
    })
    // for-each-ref of this version peels a tag of a tag once; ls-remote does to the end.
    const expected = listed.trim().split('\n')
    expect(shown.toSorted().map((line) => line.split('\t')[0])).toEqual(
      expected.toSorted().map((line) => line.split('\t')[0]),
    )
    expect(heads.find(({ ref }) => ref.name === 'v1-again')).toMatchObject({ sha: second })
    expect(heads.find(({ ref }) => ref.name === 'v1')).toMatchObject({ sha: second })
    expect(heads.find(({ ref }) => ref.name === 'plain')).toMatchObject({ sha: first, object: first })
    expect(heads.find(({ ref }) => ref.name === 'v1')?.object).not.toBe(second)
    // Two requests over HTTP: what the server can do, and its refs.
    expect(server.requests.filter(({ status }) => status === 200)).toHaveLength(2)
  })

  test('come with what their commits say, read in one fetch without files, and leave nothing behind', async () => {
    const big = 'x'.repeat(1_000_000)
    const message = 'Title\n\nBody with [skip ci]\n\nskip-checks: true\n'
    const sha = await git.commit({ big }, { branch: 'told', message })
    server.requests.length = 0
    const found = await open().commits(REPOSITORY, [sha, sha])
    expect([...found.keys()]).toEqual([sha])
    expect(server.requests.reduce((sum, { bytesSent }) => sum + bytesSent, 0)).toBeLessThan(10_000)
    const shown = (await git.git('show', '-s', '--format=%T %cI', sha)).trim().split(' ')
    expect(found.get(sha)).toMatchObject({
      tree: shown[0],
      info: { title: 'Title' },
      message: expect.stringContaining('[skip ci]'),
    })
    expect(Date.parse(found.get(sha)?.committedAt ?? '')).toBe(Date.parse(shown[1] ?? ''))
    const tree = await git.resolve('main').then((main) => git.git('rev-parse', `${main}^{tree}`))
    expect([...(await open().commits(REPOSITORY, [tree, sha])).keys()]).toEqual([sha])
    expect(await readdir(`${dir.path}/heads/.tmp`)).toEqual([])
  })

  test('come with what their commits say, whatever git tags point to besides', async () => {
    const sha = await git.commit({ only: 'here' }, { branch: 'beside' })
    const objects = await Promise.all(
      [`${sha}^{tree}`, `${sha}:only`].map((one) => git.git('rev-parse', one)),
    )
    for (const [index, object] of objects.entries())
      await git.git('update-ref', `refs/tags/odd${index}`, object)
    expect([...(await open().commits(REPOSITORY, [sha, ...objects])).keys()]).toEqual([sha])
    expect(await open().commits(REPOSITORY, objects)).toEqual(new Map())
  })

  test('cannot be listed: each error says of what, and why', async () => {
    const error = (promise: Promise<unknown>) =>
      promise.then(
        () => null,
        (thrown: unknown) => thrown,
      )
    expect(await error(open().heads('acme/none'))).toMatchObject({ kind: 'not_found' })
    expect(await error(open({ token: 'wrong' }).heads(REPOSITORY))).toMatchObject({ kind: 'unauthorized' })
    expect(await error(open().commits(REPOSITORY, ['f'.repeat(40)]))).toBeInstanceOf(ConveyorError)
    const held = server.hold()
    const slow = error(open({ limitsMs: { refs: 200, commits: 200 } }).heads(REPOSITORY))
    const late = await slow
    held.release()
    expect(late).toMatchObject({
      kind: 'unavailable',
      message: expect.stringMatching(/list the branches of Acme\/App .*timed out/),
    })
    const end = new AbortController()
    end.abort(new Error('no longer wanted'))
    expect(await error(open().heads(REPOSITORY, end.signal))).toMatchObject({ message: 'no longer wanted' })
  })

  test('are refused if there are more than 100,000, and listed without blocking others if there are fewer', async () => {
    const many = await server.create('acme/many')
    const sha = await many.commit({ file: 'x' })
    const refs = (count: number) =>
      Array.from({ length: count }, (_, at) => `${sha} refs/tags/release-${String(at).padStart(6, '0')}`)
    const pack = async (count: number) => {
      const { writeFile } = await import('node:fs/promises')
      const lines = ['# pack-refs with: peeled fully-peeled sorted ', ...refs(count), '']
      await writeFile(`${many.dir}/packed-refs`, lines.join('\n'))
    }
    await pack(99_000)
    expect(await open().heads('acme/many')).toHaveLength(99_001)
    await pack(100_001)
    await expect(open().heads('acme/many')).rejects.toMatchObject({
      kind: 'invalid',
      message: 'acme/many has more than 100000 branches and git tags',
    })
  })
})
