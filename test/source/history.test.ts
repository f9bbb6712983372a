import { readdir } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Ref } from '../../src/lib/core/build.ts'
import { gitHistory } from '../../src/lib/source/git/history.ts'
import type { GitRepository } from '../support/git/repository.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

const REPOSITORY = 'Acme/App'
const TOKEN = 'ghp_the-token'

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

const open = (name: string, rest: { token?: string; limitsMs?: { refs: number; commits: number } } = {}) =>
  gitHistory({ dir: `${dir.path}/${name}`, url: server.urlTemplate, token: TOKEN, ...rest })
const branch = (name: string): Ref => ({ kind: 'branch', name })
const tag = (name: string): Ref => ({ kind: 'tag', name })

describe('querying a git server', () => {
  test('the commits of branches, tags and the default branch', async () => {
    const history = open('refs')
    expect(await history.head(REPOSITORY, null)).toBeNull()
    const sha = await git.commit({ file: 'x' })
    const other = await git.commit({ file: 'y' }, { branch: 'heads/main' })
    await git.git('tag', 'plain', sha)
    await git.git('-c', 'user.name=A', '-c', 'user.email=a@example', 'tag', '-a', '-m', 'x', 'annotated', sha)
    expect(await history.head(REPOSITORY, null)).toEqual({ ref: branch('main'), sha })
    // ls-remote itself finds every ref with this suffix.
    expect(await history.head(REPOSITORY, branch('main'))).toEqual({ ref: branch('main'), sha })
    expect(await history.head(REPOSITORY, branch('heads/main'))).toMatchObject({ sha: other })
    expect(await history.head(REPOSITORY, tag('plain'))).toEqual({ ref: tag('plain'), sha })
    expect(await history.head(REPOSITORY, tag('annotated'))).toEqual({ ref: tag('annotated'), sha })
    for (const ref of [branch('plain'), tag('main'), branch('mai'), branch('refs/heads/main')]) {
      expect(await history.head(REPOSITORY, ref)).toBeNull()
    }
  })

  test('whether a commit is in the history of another, without fetching files', async () => {
    const history = open('commits')
    const branchOf = { branch: 'line' }
    const line: string[] = []
    for (let i = 0; i < 5; i++) {
      line.push(await git.commit({ [`big-${i}`]: `${Math.random()}`.repeat(10_000) }, branchOf))
    }
    const [first = '', , , , last = ''] = line
    const stray = await git.commit({ stray: 'x' }, { branch: 'stray', from: first })
    server.requests.length = 0
    expect(await history.contains(REPOSITORY, last, first)).toBe(true)
    expect(await history.contains(REPOSITORY, last, last)).toBe(true)
    expect(await history.contains(REPOSITORY, last, stray)).toBe(false)
    expect(await history.contains(REPOSITORY, stray, first)).toBe(true)
    expect(await history.contains(REPOSITORY, stray, last)).toBe(false)
    expect(await history.contains(REPOSITORY, last, 'f'.repeat(40))).toBe(false)
    expect(server.requests.reduce((sum, { bytesSent }) => sum + bytesSent, 0)).toBeLessThan(10_000)
    const before = server.requests.length
    expect(await history.contains('acme/app', last, first)).toBe(true)
    expect(server.requests.length).toBe(before)
  })

  test('many concurrent queries', async () => {
    const history = open('many')
    const [older, newer] = [await git.commit({ a: '1' }), await git.commit({ a: '2' })]
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => history.contains(REPOSITORY, newer, older)),
    )
    expect(answers).toEqual(Array(6).fill(true))
    expect(await readdir(`${dir.path}/many/.tmp`)).toEqual([])
  })
})

describe('a server that does not', () => {
  test('know the repository, or accept the login', async () => {
    const missing = open('missing').head('acme/none', null)
    await expect(missing).rejects.toMatchObject({
      kind: 'not_found',
      message: expect.stringMatching(/^cannot look up HEAD of acme\/none from 127\.0\.0\.1:\d+: /),
    })
    const refused = open('refused', { token: 'wrong' }).head(REPOSITORY, branch('main'))
    await expect(refused).rejects.toMatchObject({ kind: 'unauthorized' })
    await expect(refused).rejects.not.toThrow(/wrong/)
  })

  test('respond in time, or at all', async () => {
    const limitsMs = { refs: 300, commits: 300 }
    const held = server.hold()
    try {
      const slow = open('slow', { limitsMs }).head(REPOSITORY, branch('main'))
      await expect(slow).rejects.toMatchObject({ kind: 'unavailable', retryable: true })
      const reason = new Error('stopped')
      const abort = new AbortController()
      setTimeout(() => abort.abort(reason), 50)
      await expect(open('slow').head(REPOSITORY, null, abort.signal)).rejects.toBe(reason)
    } finally {
      held.release()
    }
    server.failNext(1, 500)
    await expect(open('slow').head(REPOSITORY, null)).rejects.toMatchObject({ kind: 'unavailable' })
  })
})
