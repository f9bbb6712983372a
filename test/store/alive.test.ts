import { DatabaseSync } from 'node:sqlite'
import { Kysely } from 'kysely'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { migrate } from '../../src/lib/db/migrate.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { kyselyBuildStore } from '../../src/lib/store/sql/kysely-build-store.ts'
import { migrations } from '../../src/lib/store/sql/migrations.ts'
import { clockTime, type Schema } from '../../src/lib/store/sql/schema.ts'
import { NodeSqliteDialect } from '../../src/lib/store/sqlite/dialect.ts'
import { OTHER_SHA, push } from './contract/subject.ts'

/** Two workers on one database, the first of which is thought to be dead: its leases have ended. */

let db: Kysely<Schema>
let alive: BuildStore
let other: BuildStore
let ids: [string, string]
beforeEach(async () => {
  const database = new DatabaseSync(':memory:')
  db = new Kysely<Schema>({ dialect: new NodeSqliteDialect(database, (thrown) => thrown as Error) })
  await migrate(db, { migrations, where: 'test' })
  const open = () =>
    kyselyBuildStore(db, {
      write: (work) => db.transaction().execute(work),
      writeInOrder: (work) => db.transaction().execute(work),
      lockImage: (_name, work) => work(),
      time: clockTime(),
      close: async () => {},
    })
  ;[alive, other] = [open(), open()]
  const builds = [await alive.accept(push('main')), await alive.accept(push('dev', { sha: OTHER_SHA }))]
  ids = builds.map(({ build }) => build.id) as [string, string]
  for (const id of ids) await alive.claim(id)
})
afterEach(() => db.destroy())

it('its builds are suspects to others until it says that it is alive', async () => {
  expect(await other.claim(ids[0])).toMatchObject({ attempt: 2, spared: 1, suspect: true })
  expect(await alive.get(ids[1])).toMatchObject({ suspect: true })
  await alive.survived()
  for (const id of ids) expect((await alive.get(id))?.suspect).toBeUndefined()
})

it('a build that it takes back is no suspect, whatever another worker thought', async () => {
  await other.claim(ids[0])
  const again = await alive.claim(ids[1])
  expect(again).toMatchObject({ attempt: 2 })
  expect([again?.spared, again?.suspect]).toEqual([undefined, undefined])
})

it('a build that the other one ran alone meanwhile, and lost, counts', async () => {
  await other.claim(ids[0])
  await other.begin(ids[0], 2)
  const again = await alive.claim(ids[0])
  expect(again).toMatchObject({ attempt: 3, spared: 1 })
  expect(again?.suspect).toBeUndefined()
})
