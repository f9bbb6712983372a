import { afterAll, beforeAll, expect, test } from 'vitest'
import { type GitMirrors, gitMirrors } from '../../src/lib/source/mirrors.ts'
import type { Commit } from '../../src/lib/source/source.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { basicEnv } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

let server: GitServer
let temp: TempDir
let source: GitMirrors
let [before, after] = [null, null] as unknown as [Commit, Commit]
/** More than git writes at a time. */
const MANY = Array.from({ length: 5000 }, (_, i) => `dir/new é ${i}\nfile`)
beforeAll(async () => {
  server = await startGitServer()
  temp = await tempDir('conveyor-changes-')
  source = gitMirrors({ dir: temp.path, url: server.urlTemplate, environment: basicEnv() })
  const repository = await server.create('acme/app')
  const old = await repository.commit({ kept: 'x', edited: 'x', gone: 'x' })
  const added = Object.fromEntries(MANY.map((path) => [path, 'x']))
  const sha = await repository.commit({ edited: 'y', gone: null, ...added })
  after = await source.fetch('acme/app', sha)
  before = await source.fetch('acme/app', old)
})
afterAll(async () => {
  await source.close()
  await server[Symbol.asyncDispose]()
  await temp[Symbol.asyncDispose]()
})

test('what changed between two commits', async () => {
  const changes = (await source.changes(after, before)) ?? []
  const added = changes.filter(({ kind }) => kind === 'added').map(({ path }) => path)
  expect(added.sort()).toEqual(MANY.toSorted())
  expect(changes.filter(({ kind }) => kind !== 'added')).toEqual([
    { kind: 'changed', path: 'edited' },
    { kind: 'removed', path: 'gone' },
  ])
  expect(await source.changes(after, { sha: 'f'.repeat(40), tree: null })).toBeNull()
})

test('a cancelled build does not wait for it', async () => {
  const reason = new Error('cancelled')
  await expect(source.changes(after, before, AbortSignal.abort(reason))).rejects.toBe(reason)
})
