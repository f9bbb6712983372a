import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { buildLocal } from '../../src/lib/app/build-local.ts'
import { parseConfig } from '../../src/lib/config/config.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { request, SHA } from '../store/contract/subject.ts'
import { tempDir } from '../support/temp.ts'

test('a build that was interrupted by a kill is continued by the same command', async () => {
  await using folder = await tempDir('conveyor-local-')
  const config = parseConfig({
    ...{ 'data-dir': folder.path, registry: 'registry.test', 'retry.delays': 'none' },
    // Nothing listens there: that the build ends is enough.
    ...{ 'git.url': 'http://127.0.0.1:1/{repository}.git', builder: 'buildkit' },
    'buildkit.addr': 'tcp://127.0.0.1:1',
  })
  const killed = await sqliteBuildStore({ file: join(folder.path, 'local', 'conveyor.db') })
  const { build } = await killed.accept(request({ source: { kind: 'cli' } }))
  await killed.claim(build.id)
  await killed.close()

  const order = { repository: 'acme/app', sha: SHA, ref: null }
  const io = { stdout: new PassThrough(), log: () => {} }
  const stop = AbortSignal.timeout(60_000)
  const outcome = await buildLocal(config, order, true, async () => {}, io, stop, { isVerified: true })
  expect(outcome.build).toMatchObject({ id: build.id, state: 'failed', attempt: 2 })
})
