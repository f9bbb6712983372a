import { randomUUID } from 'node:crypto'
import { readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough, Writable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { fileLogStore } from '../../src/lib/logs/file.ts'
import type { LogStore } from '../../src/lib/logs/log-store.ts'
import { stdoutLogStore } from '../../src/lib/logs/stdout.ts'
import { projectRoot, start } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'
import { logStoreContract } from './log-store.contract.ts'

const moduleOf = (name: string) => JSON.stringify(`${projectRoot}src/lib/logs/${name}.ts`)

logStoreContract('fileLogStore', async () => {
  const folder = await tempDir()
  const dir = join(folder.path, 'logs')
  return {
    open: async () => fileLogStore({ dir }),
    script: `import { fileLogStore } from ${moduleOf('file')}
      const store = fileLogStore({ dir: ${JSON.stringify(dir)} })`,
    dispose: () => folder[Symbol.asyncDispose](),
  }
})

logStoreContract('stdoutLogStore', async () => {
  const folder = await tempDir()
  const dir = join(folder.path, 'spool')
  return {
    open: async () => stdoutLogStore({ dir, out: new PassThrough().resume() }),
    script: `import { stdoutLogStore } from ${moduleOf('stdout')}
      const store = stdoutLogStore({ dir: ${JSON.stringify(dir)}, out: process.stdout })`,
    dispose: () => folder[Symbol.asyncDispose](),
  }
})

let folder: TempDir
let id: string
beforeEach(async () => {
  folder = await tempDir()
  id = randomUUID()
})
afterEach(() => folder[Symbol.asyncDispose]())

async function textOf(store: LogStore, buildId = id): Promise<string> {
  let text = ''
  for await (const piece of store.read(buildId, { follow: false })) text += Buffer.from(piece)
  return text
}

describe('fileLogStore', () => {
  let store: LogStore
  beforeEach(() => {
    store = fileLogStore({ dir: folder.path })
  })
  afterEach(() => store.close())

  test('the file name tells whether the log has ended', async () => {
    const writer = await store.open(id)
    await writer.write('x')
    expect(await readdir(folder.path)).toEqual([`${id}.log.part`])
    await writer.end()
    expect(await readdir(folder.path)).toEqual([`${id}.log`])
    await (await store.open(id)).close()
    expect(await readdir(folder.path)).toEqual([`${id}.log.part`])
  })

  test('two writers that end one log: the second has nothing to do', async () => {
    const [one, two] = [await store.open(id), await store.open(id)]
    await one.write('a worker that lost its lease\n')
    await one.end()
    await two.write('and the one that took over\n')
    await two.end()
    expect(await textOf(store)).toBe('a worker that lost its lease\nand the one that took over\n')
  })

  test('a full disk fails the writer with a hint, and ends the readers', async () => {
    await symlink('/dev/full', join(folder.path, `${id}.log.part`))
    const writer = await store.open(id)
    // These are not awaited: a failure must not end the process.
    void writer.write('lost')
    void writer.write('lost')
    const problem = {
      name: 'ConveyorError',
      kind: 'unavailable',
      message: expect.stringMatching(`${id}.*ENOSPC`),
    }
    await expect(writer.end()).rejects.toMatchObject({
      ...problem,
      hint: expect.stringContaining(folder.path),
    })
    await expect(writer.write('more')).rejects.toThrow()
    await expect(writer.close()).rejects.toMatchObject(problem)
    expect(await readdir(folder.path)).toEqual([`${id}.log`])
  })

  test('a writer waiting for buffer space gets the error of a full disk', async () => {
    await symlink('/dev/full', join(folder.path, `${id}.log.part`))
    const writer = await store.open(id)
    const chunk = Buffer.alloc(4 << 20)
    const writes = await Promise.allSettled([writer.write(chunk), writer.write(chunk), writer.write(chunk)])
    expect(writes.at(-1)?.status).toBe('rejected')
    await expect(writer.close()).rejects.toMatchObject({ kind: 'unavailable' })
  })

  test('a directory that cannot be created', async () => {
    const file = join(folder.path, 'file')
    await writeFile(file, '')
    const problem = { kind: 'unavailable', message: expect.stringContaining(id) }
    await expect(fileLogStore({ dir: join(file, 'logs') }).open(id)).rejects.toMatchObject(problem)
    await expect(textOf(fileLogStore({ dir: join(file, 'logs') }))).rejects.toMatchObject(problem)
  })

  test('deleting a log ends its readers', async () => {
    const writer = await store.open(id)
    await writer.write('x')
    const reader = store.read(id)[Symbol.asyncIterator]()
    await reader.next()
    await writer.close()
    const next = reader.next()
    await rm(join(folder.path, `${id}.log.part`))
    expect((await next).done).toBe(true)
  })

  test('no file stays open', async () => {
    const openFiles = async () => {
      const names = await readdir('/proc/self/fd')
      const links = await Promise.all(names.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')))
      return links.filter((link) => link.startsWith(folder.path))
    }
    const writer = await store.open(id)
    await writer.write('x'.repeat(200_000))
    for await (const _ of store.read(id)) break
    await expect(
      (async () => {
        for await (const _ of store.read(id)) throw new Error('a reader that fails')
      })(),
    ).rejects.toThrow('a reader that fails')
    const abort = new AbortController()
    for await (const _ of store.read(id, { signal: abort.signal })) abort.abort()
    expect(await openFiles()).toHaveLength(1)
    await writer.end()
    await textOf(store)
    expect(await openFiles()).toEqual([])
  })
})

describe('stdoutLogStore', () => {
  test('echoes whole lines prefixed with the build, and keeps the log as written', async () => {
    const out = new PassThrough()
    const store = stdoutLogStore({ dir: folder.path, out })
    const other = randomUUID()
    const [one, two] = [await store.open(id), await store.open(other)]
    await one.write('fir')
    await two.write('other build\n')
    await one.write('st\n\nthird')
    await one.end()
    await two.end()
    const [a, b] = [id.slice(0, 8), other.slice(0, 8)]
    expect(String(out.read())).toBe(`[${b}] other build\n[${a}] first\n[${a}] \n[${a}] third\n`)
    expect(await textOf(store)).toBe('first\n\nthird')
    await store.close()
  })

  test('an endless line is echoed in parts', async () => {
    const out = new PassThrough({ highWaterMark: 1 << 20 })
    const store = stdoutLogStore({ dir: folder.path, out })
    const writer = await store.open(id)
    for (let i = 0; i < 20; i++) await writer.write('x'.repeat(1000))
    await writer.end()
    const lines = String(out.read()).trimEnd().split('\n')
    expect(lines.map((line) => line.length - '[01234567] '.length)).toEqual([8192, 8192, 3616])
    await store.close()
  })

  test('a slow reader misses lines, is told how many, and delays no build', async () => {
    let shown = ''
    const paused = Promise.withResolvers<void>()
    const out = new Writable({
      write(chunk, _encoding, done) {
        shown += chunk
        void paused.promise.then(() => done())
      },
    })
    const store = stdoutLogStore({ dir: folder.path, out })
    const writer = await store.open(id)
    const line = `${'x'.repeat(1000)}\n`
    for (let i = 0; i < 5_000; i++) await writer.write(line)
    expect(out.writableLength).toBeLessThan(2 << 20)
    const drained = new Promise((resolve) => out.once('drain', resolve))
    paused.resolve()
    await drained
    await writer.write('and on\n')
    await writer.end()
    const lines = shown.trimEnd().split('\n')
    const left = /\((\d+) lines not shown/.exec(lines.at(-2) ?? '')?.[1]
    expect(Number(left) + lines.length - 2).toBe(5_000)
    expect(lines.at(-1)).toBe(`[${id.slice(0, 8)}] and on`)
    expect(await textOf(store)).toBe(`${line.repeat(5_000)}and on\n`)
    await store.close()
  })

  test('a reader that disconnects ends the echo, not the build', async () => {
    const script = `import { stdoutLogStore } from ${moduleOf('stdout')}
      const store = stdoutLogStore({ dir: ${JSON.stringify(folder.path)}, out: process.stdout })
      const writer = await store.open('${id}')
      for (let i = 0; i < 1000; i++) {
        await writer.write('line ' + i + '\\n')
        await new Promise(setImmediate)
      }
      await writer.end()
      process.exitCode = 7`
    const child = await start(process.execPath, ['--input-type=module', '--eval', script], { stdio: 'pipe' })
    child.child.stdout?.destroy()
    expect(await child.exited).toEqual({ code: 7, signal: null })
    expect(await readFile(join(folder.path, `${id}.log`), 'utf8')).toMatch(/^line 0\n.*line 999\n$/s)
  })
})
