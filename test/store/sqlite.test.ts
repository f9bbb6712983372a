import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Kysely } from 'kysely'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { migrate } from '../../src/lib/db/migrate.ts'
import { LONGEST_LEASE_S } from '../../src/lib/store/fleet.ts'
import { NodeSqliteDialect } from '../../src/lib/store/sqlite/dialect.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { buildStoreContract } from './build-store.contract.ts'
import { EARLIER, expectGoesOn, LEFT } from './contract/earlier.ts'
import { type OpenedStore, type OpenOptions, push, SHA } from './contract/subject.ts'

const MODULE = new URL('../../src/lib/store/sqlite/sqlite.ts', import.meta.url).href

function openInChild(file: string): string {
  return `import { sqliteBuildStore } from ${JSON.stringify(MODULE)}
    const store = await sqliteBuildStore({ file: ${JSON.stringify(file)} })`
}

buildStoreContract('SQLite', async (options: OpenOptions): Promise<OpenedStore> => {
  const folder = await mkdtemp(join(tmpdir(), 'conveyor-store-'))
  const file = join(folder, 'conveyor.db')
  let store = await sqliteBuildStore({ file, ...options })
  return {
    store,
    openInChild: openInChild(file),
    async reopen() {
      await store.close()
      store = await sqliteBuildStore({ file, ...options })
      return store
    },
    async dispose() {
      await store.close()
      await rm(folder, { recursive: true })
    },
  }
})

describe('SQLite build store', () => {
  let folder: string
  let file: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'conveyor-store-'))
    file = join(folder, 'data', 'conveyor.db')
  })
  afterEach(() => rm(folder, { recursive: true }))

  /** Opens a store with one build in it, and closes it. */
  async function used(): Promise<string> {
    const store = await sqliteBuildStore({ file })
    const { build } = await store.accept(push('main'))
    await store.close()
    return build.id
  }

  it('checkpoints its write-ahead log when nothing is written for a while', async () => {
    const store = await sqliteBuildStore({ file })
    const { build } = await store.accept(push('main'))
    const copy = join(folder, 'copy.db')
    /** Reads the database without its log, in another process: closing a handle of ours would drop its lock. */
    const inDatabase = () => {
      // In one turn: a process that is slow to start must not give the checkpoint its time.
      execFileSync('cp', [file, copy])
      const database = new DatabaseSync(copy)
      try {
        return database.prepare('select id from builds').all()
      } catch {
        return [] // the tables do not exist yet, either
      } finally {
        database.close()
      }
    }
    expect(inDatabase()).toEqual([])
    await expect.poll(inDatabase).toEqual([{ id: build.id }])
    await store.close()
  })

  it('is in memory for tests, and starts empty', async () => {
    const [one, other] = [
      await sqliteBuildStore({ file: ':memory:' }),
      await sqliteBuildStore({ file: ':memory:' }),
    ]
    const { build } = await one.accept(push('main'))
    expect(await one.newest('acme/app', SHA)).toEqual(build)
    expect(await other.newest('acme/app', SHA)).toBeNull()
    await Promise.all([one.close(), other.close()])
  })

  it('makes its directory and files readable by its user only', async () => {
    const store = await sqliteBuildStore({ file })
    await store.accept(push('main'))
    const names = (await readdir(join(folder, 'data'))).toSorted()
    expect(names).toEqual(['conveyor.db', 'conveyor.db-wal', 'conveyor.db.holder'])
    for (const name of names) expect((await stat(join(folder, 'data', name))).mode & 0o777, name).toBe(0o600)
    expect((await stat(join(folder, 'data'))).mode & 0o777).toBe(0o700)
    await store.close()
    expect(await readdir(join(folder, 'data'))).toEqual(['conveyor.db'])
  })

  it('leaves an ordinary SQLite file in write-ahead mode', async () => {
    const id = await used()
    const database = new DatabaseSync(file)
    expect(database.prepare('pragma journal_mode').get()).toEqual({ journal_mode: 'wal' })
    expect(database.prepare('select id from builds').all()).toEqual([{ id }])
    database.close()
  })

  it('belongs to one process, and is free again when that is killed', async () => {
    const child = spawn(process.execPath, [
      '--input-type=module',
      '--eval',
      `${openInChild(file)}
      const { build } = await store.accept(${JSON.stringify(push('main'))})
      process.stdout.write(build.id)
      setInterval(() => {}, 1000)`,
    ])
    const exited = once(child, 'exit')
    try {
      const [id] = await once(child.stdout, 'data')
      await expect(sqliteBuildStore({ file })).rejects.toMatchObject({
        name: 'ConveyorError',
        message: expect.stringContaining(`in use by another Conveyor (process ${child.pid} on `),
        hint: expect.stringContaining('--data-dir'),
        retryable: false,
      })
      child.kill('SIGKILL')
      await exited
      const store = await sqliteBuildStore({ file })
      expect(await store.get(String(id))).not.toBeNull()
      await store.close()
    } finally {
      child.kill('SIGKILL')
      await exited
    }
  })

  it('ends the leases of the process that had it before', async () => {
    const before = await sqliteBuildStore({ file })
    expect(await before.leases.take('compare', 'one', LONGEST_LEASE_S)).toBe(true)
    await before.close()
    const store = await sqliteBuildStore({ file })
    expect(await store.leases.take('compare', 'two', 1)).toBe(true)
    await store.close()
  })

  it('cannot be opened twice in a process, and the first keeps its lock', async () => {
    const store = await sqliteBuildStore({ file })
    await expect(sqliteBuildStore({ file })).rejects.toThrow('is in use by another Conveyor')
    const child = spawn(process.execPath, ['--input-type=module', '--eval', openInChild(file)])
    const complaints = readAll(child.stderr)
    const [status] = await once(child, 'exit')
    expect(status).toBe(1)
    expect(await complaints).toContain('is in use by another Conveyor')
    await store.close()
  })

  it('reports a file that is not a database', async () => {
    await used()
    await writeFile(file, 'these are not the bytes of a database\n'.repeat(1000))
    await expect(sqliteBuildStore({ file })).rejects.toMatchObject({
      name: 'ConveyorError',
      message: expect.stringMatching(/^database .*conveyor\.db is corrupt: /),
      hint: expect.stringContaining('Restore it from a backup'),
      retryable: false,
    })
    expect(await readFile(file, 'utf8')).toContain('these are not the bytes')
  })

  it('reports overwritten pages of the database', async () => {
    await used()
    const handle = await open(file, 'r+')
    const { size } = await handle.stat()
    await handle.write(Buffer.alloc(size - 4096, 0xa5), 0, size - 4096, 4096)
    await handle.close()
    const reading = async () => {
      const store = await sqliteBuildStore({ file })
      try {
        await store.unfinished()
      } finally {
        await store.close()
      }
    }
    await expect(reading()).rejects.toMatchObject({
      name: 'ConveyorError',
      message: expect.stringContaining('is corrupt'),
    })
  })

  it('upgrades the data of an earlier version', async () => {
    file = join(folder, 'earlier.db')
    const database = new DatabaseSync(file)
    const db = new Kysely({ dialect: new NodeSqliteDialect(database, (thrown) => thrown as Error) })
    await migrate(db, { migrations: EARLIER, where: file })
    for (const statement of LEFT) database.exec(statement)
    await db.destroy()
    const store = await sqliteBuildStore({ file })
    await expectGoesOn(store)
    await store.close()
  })

  it('refuses the data of a newer version', async () => {
    await used()
    const database = new DatabaseSync(file)
    database.exec(`insert into kysely_migration values ('999_future', '2031-01-01T00:00:00.000Z')`)
    database.close()
    await expect(sqliteBuildStore({ file })).rejects.toMatchObject({
      name: 'ConveyorError',
      message: expect.stringContaining('was migrated by a newer version of Conveyor (it has 999_future)'),
      retryable: false,
    })
  })

  it('refuses the database of another program', async () => {
    file = join(folder, 'theirs.db')
    const database = new DatabaseSync(file)
    database.exec('create table recipes (name text)')
    database.close()
    await expect(sqliteBuildStore({ file })).rejects.toThrow('belongs to another program')
  })

  it('names the file that it cannot create', async () => {
    await writeFile(join(folder, 'data'), 'a file, not a folder')
    await expect(sqliteBuildStore({ file })).rejects.toMatchObject({
      name: 'ConveyorError',
      message: expect.stringContaining(`cannot create database ${file}: `),
    })
  })

  it('serves reads and timers while a burst is stored', async () => {
    const store = await sqliteBuildStore({ file })
    let ticks = 0
    const timer = setInterval(() => {
      ticks += 1
    }, 1)
    const asked = Array.from({ length: 500 }, (_, i) =>
      store.accept(push('main', { sha: i.toString(16).padStart(40, '0') })),
    )
    expect(await Promise.race([Promise.all(asked), store.newest('acme/app', SHA)])).toBeNull()
    const builds = new Set((await Promise.all(asked)).map(({ build }) => build.sequence))
    clearInterval(timer)
    expect(builds.size).toBe(500)
    expect(ticks).toBeGreaterThan(1)
    await store.close()
  })
})

async function readAll(stream: AsyncIterable<Buffer>): Promise<string> {
  let text = ''
  for await (const chunk of stream) text += chunk
  return text
}
