import { mkdir, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { buildLocal } from '../../src/lib/app/build-local.ts'
import { parseConfig } from '../../src/lib/config/config.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { request, SHA } from '../store/contract/subject.ts'
import { tempDir } from '../support/temp.ts'

const order = { repository: 'acme/app', sha: SHA, ref: null }
const io = { stdout: new PassThrough(), log: () => {} }

/** Builds that fail at once: nothing listens there. */
function failing(dataDir: string) {
  return parseConfig({
    ...{ 'data-dir': dataDir, registry: 'registry.test', 'retry.delays': 'none' },
    ...{ 'git.url': 'http://127.0.0.1:1/{repository}.git', builder: 'buildkit' },
    'buildkit.addr': 'tcp://127.0.0.1:1',
  })
}

test('a build that was interrupted by a kill is continued by the same command', async () => {
  await using folder = await tempDir('conveyor-local-')
  const config = failing(folder.path)
  const killed = await sqliteBuildStore({ file: join(folder.path, 'local', 'conveyor.db') })
  const { build } = await killed.accept(request({ source: { kind: 'cli' } }))
  await killed.claim(build.id)
  await killed.close()

  const stop = AbortSignal.timeout(60_000)
  const outcome = await buildLocal(config, order, true, async () => {}, io, stop, { isVerified: true })
  expect(outcome.build).toMatchObject({ id: build.id, state: 'failed', attempt: 2 })
})

test('the log is passed on to its end, however slowly it is taken', async () => {
  await using folder = await tempDir('conveyor-local-')
  const pieces: Uint8Array[] = []
  const take = async (bytes: Uint8Array) => {
    await sleep(200)
    pieces.push(bytes)
  }
  const stop = AbortSignal.timeout(60_000)
  const options = { isVerified: true }
  const { logFile } = await buildLocal(failing(folder.path), order, true, take, io, stop, options)
  expect(Buffer.concat(pieces).toString()).toBe(await readFile(logFile, 'utf8'))
})

test('a build whose log cannot be opened ends all the same', async () => {
  await using folder = await tempDir('conveyor-local-')
  await mkdir(join(folder.path, 'local'))
  await symlink(join(folder.path, 'not', 'there'), join(folder.path, 'local', 'logs'))
  const stop = AbortSignal.timeout(60_000)
  const take = async () => {}
  const options = { isVerified: true }
  const { build } = await buildLocal(failing(folder.path), order, true, take, io, stop, options)
  expect(build).toMatchObject({ state: 'failed', errorKind: 'unavailable' })
})
