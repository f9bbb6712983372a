import { createHash, randomUUID } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { LogStore, ReadLogOptions } from '../../src/lib/logs/log-store.ts'
import { type Running, start } from '../support/processes.ts'

/** How a contract test accesses a kind of store. */
export interface LogStoreUnderTest {
  /** Opens a store; all stores opened in a test see the same logs. */
  open(): Promise<LogStore>
  /** JavaScript of a module that defines `const store` for the same logs, to run in another process. */
  script: string
  /** Removes the logs. */
  dispose(): PromiseLike<void>
}

const MiB = 1024 * 1024

/** What every LogStore promises. `make` is called before each test. */
export function logStoreContract(name: string, make: () => Promise<LogStoreUnderTest>): void {
  describe(`${name}: contract`, () => {
    let under: LogStoreUnderTest
    let store: LogStore
    let id: string
    beforeEach(async () => {
      under = await make()
      store = await under.open()
      id = randomUUID()
    })
    afterEach(async () => {
      await store.close()
      await under.dispose()
    })

    const readAll = async (options?: ReadLogOptions) => Buffer.concat(await pieces(store, id, options))
    const readText = async (options?: ReadLogOptions) => (await readAll(options)).toString()
    const inAnotherProcess = (body: string) => node(`${under.script}\nconst id = '${id}'\n${body}`)

    test('reads what was written, text and bytes in order, once closed and once ended', async () => {
      const writer = await store.open(id)
      await writer.write('one\n')
      await writer.write(Buffer.from('twö\n'))
      await writer.write('')
      for (let i = 0; i < 100; i++) void writer.write(`${i}\n`)
      await writer.close()
      const expected = `one\ntwö\n${Array.from({ length: 100 }, (_, i) => `${i}\n`).join('')}`
      expect(await readText({ follow: false })).toBe(expected)
      await writer.end()
      await writer.end()
      await writer.close()
      expect(await readText()).toBe(expected)
      await expect(writer.write('late')).rejects.toThrow(/closed/)
    })

    test('an empty log can end', async () => {
      await (await store.open(id)).end()
      expect(await readText()).toBe('')
    })

    test('a follower gets each write while the log grows, and its end', async () => {
      const writer = await store.open(id)
      const reader = store.read(id)[Symbol.asyncIterator]()
      for (const text of ['first\n', 'second\n', 'third\n']) {
        await writer.write(text)
        expect(String((await reader.next()).value)).toBe(text)
      }
      const last = reader.next()
      await writer.end()
      expect(await last).toEqual({ done: true, value: undefined })
    })

    test('flush stores everything, and the writer continues', async () => {
      const writer = await store.open(id)
      await writer.flush()
      void writer.write('at once\n')
      void writer.write('and what would wait for more\n')
      await writer.flush()
      const other = await under.open()
      const seen = Buffer.concat(await pieces(other, id, { follow: false }))
      await other.close()
      expect(seen.toString()).toBe('at once\nand what would wait for more\n')
      await writer.write('later\n')
      await writer.end()
      expect(await readText()).toBe('at once\nand what would wait for more\nlater\n')
    })

    test('several readers, from the start or late, see the same', async () => {
      const early = [readText(), readText({ offset: 3 })]
      const writer = await store.open(id)
      await writer.write('abc')
      const middle = readText()
      await writer.write('def')
      await writer.end()
      expect(await Promise.all([...early, middle, readText()])).toEqual(['abcdef', 'def', 'abcdef', 'abcdef'])
    })

    test('a reader resumes at any offset, even in the middle of a character', async () => {
      const text = 'naïve 🚀 déjà\n'
      const bytes = Buffer.from(text)
      const writer = await store.open(id)
      await writer.write(text)
      await writer.end()
      for (let offset = 0; offset <= bytes.length; offset++) {
        const [before, after] = [bytes.subarray(0, offset), await readAll({ offset })]
        expect(Buffer.concat([before, after]).toString()).toBe(text)
      }
    })

    test('past the end, nothing is read until the log reaches it', async () => {
      const writer = await store.open(id)
      await writer.write('12345')
      await writer.close()
      expect(await readText({ offset: 8, follow: false })).toBe('')
      const later = readText({ offset: 8 })
      const more = await store.open(id)
      await more.write('67890')
      await more.end()
      expect(await later).toBe('90')
      expect(await readText({ offset: 100 })).toBe('')
    })

    test('a log that does not exist is waited for, or empty', async () => {
      expect(await readText({ follow: false })).toBe('')
      const reader = readText()
      const writer = await store.open(id)
      await writer.write('here')
      await writer.end()
      expect(await reader).toBe('here')
    })

    test('every byte survives, even invalid UTF-8', async () => {
      const bytes = Buffer.from(Array.from({ length: 1024 }, (_, i) => i % 256))
      const writer = await store.open(id)
      for (const byte of bytes.subarray(0, 256)) await writer.write(Uint8Array.of(byte))
      await writer.write(bytes.subarray(256))
      await writer.end()
      expect(await readAll()).toEqual(bytes)
    })

    test('an abort ends a reader quietly: before, between and while it waits', async () => {
      const writer = await store.open(id)
      await writer.write('x'.repeat(MiB))
      expect(await readText({ signal: AbortSignal.abort() })).toBe('')

      const between = new AbortController()
      let seen = 0
      for await (const piece of store.read(id, { signal: between.signal })) {
        seen += piece.length
        between.abort()
      }
      expect(seen).toBeLessThanOrEqual(65_536)

      const waiting = new AbortController()
      const reader = store.read(id, { offset: MiB, signal: waiting.signal })[Symbol.asyncIterator]()
      const next = reader.next()
      waiting.abort()
      expect(await next).toEqual({ done: true, value: undefined })
      const never = new AbortController()
      const missing = pieces(store, randomUUID(), { signal: never.signal })
      never.abort()
      expect(await missing).toEqual([])
      await writer.end()
    })

    test('another attempt appends, and an ended log can be opened again', async () => {
      const first = await store.open(id)
      await first.write('attempt 1\n')
      await first.close()
      const follower = readText()
      const second = await store.open(id)
      await second.write('attempt 2\n')
      await second.end()
      expect(await follower).toBe('attempt 1\nattempt 2\n')

      const third = await store.open(id)
      const late = readText()
      await third.write('attempt 3\n')
      await third.end()
      expect(await late).toBe('attempt 1\nattempt 2\nattempt 3\n')
    })

    test('closing the store ends its readers and stores what its writers have', async () => {
      const writer = await store.open(id)
      void writer.write('last words')
      const reader = readText({ offset: 1000 })
      await store.close()
      expect(await reader).toBe('')
      store = await under.open()
      expect(await readText({ follow: false })).toBe('last words')
    })

    test.each(['', '../../etc/passwd', 'a'.repeat(36), `${'0'.repeat(36)}`, `${randomUUID()}\n`])(
      'the id %j never becomes a path',
      async (bad) => {
        await expect(store.open(bad)).rejects.toMatchObject({ kind: 'invalid' })
        await expect(pieces(store, bad, { follow: false })).rejects.toMatchObject({ kind: 'invalid' })
      },
    )

    test.each([-1, 0.5, Number.NaN])('the offset %d is refused', async (offset) => {
      await expect(pieces(store, id, { offset })).rejects.toMatchObject({ kind: 'invalid' })
    })

    test('a reader follows a writer in another process', async () => {
      const other = await inAnotherProcess(`
        const writer = await store.open(id)
        for await (const line of lines()) {
          if (line === 'end') break
          await writer.write(line + '\\n')
        }
        await writer.end()
      `)
      const reader = store.read(id)[Symbol.asyncIterator]()
      for (const text of ['hello', 'wörld']) {
        other.child.stdin?.write(`${text}\n`)
        expect(String((await reader.next()).value)).toBe(`${text}\n`)
      }
      const last = reader.next()
      other.child.stdin?.end('end\n')
      expect(await last).toEqual({ done: true, value: undefined })
      expect(await ended(other)).toBe(0)
    })

    test('a reader in another process follows a writer here', async () => {
      const other = await inAnotherProcess(`
        for await (const piece of store.read(id)) process.stderr.write(piece)
        process.stderr.write('THE END')
      `)
      const writer = await store.open(id)
      await writer.write('from here\n')
      await other.waitFor(/from here/)
      await writer.end()
      expect(await ended(other)).toBe(0)
      expect(other.stderr()).toBe('from here\nTHE END')
    })

    test('a writer that is killed leaves what it wrote, its readers wait, and the next attempt appends', async () => {
      const reader = store.read(id)[Symbol.asyncIterator]()
      const other = await inAnotherProcess(`
        const writer = await store.open(id)
        await writer.write('attempt 1 got this far\\n')
        for await (const line of lines()) await writer.write(line)
      `)
      expect(String((await reader.next()).value)).toBe('attempt 1 got this far\n')
      await other.kill('SIGKILL')
      expect(await readText({ follow: false })).toBe('attempt 1 got this far\n')

      const next = reader.next()
      const writer = await store.open(id)
      await writer.write('attempt 2\n')
      expect(String((await next).value)).toBe('attempt 2\n')
      await writer.end()
      expect(await reader.next()).toEqual({ done: true, value: undefined })
      expect(await readText()).toBe('attempt 1 got this far\nattempt 2\n')
    })

    test('100 MB with 50 readers: small pieces, little memory, and slow ones delay nobody', async () => {
      const line = Buffer.from(`${'0123456789abcdef'.repeat(1024)}\n`)
      const count = Math.ceil((100 * MiB) / line.length)
      const wanted = createHash('sha256')
      const before = arrayBuffers()
      const writer = await store.open(id)

      // 48 readers stop after their first piece, like a browser whose user has left.
      const slow = Array.from({ length: 48 }, () => store.read(id)[Symbol.asyncIterator]())
      const firsts = slow.map((reader) => reader.next())
      const fast = [digest(store, id), digest(store, id)]
      for (let i = 0; i < count; i++) {
        wanted.update(line)
        await writer.write(line)
      }
      await Promise.all(firsts)
      // Buffers are freed in the background: only what stays counts.
      await expect.poll(() => arrayBuffers() - before).toBeLessThan(16 * MiB)
      await writer.end()

      const expected = { sha256: wanted.digest('hex'), size: count * line.length }
      expect(await Promise.all(fast)).toEqual([expected, expected])
      await Promise.all(slow.map((reader) => reader.return?.()))
    })
  })
}

async function pieces(store: LogStore, id: string, options?: ReadLogOptions): Promise<Uint8Array[]> {
  const all: Uint8Array[] = []
  for await (const piece of store.read(id, options)) all.push(piece)
  return all
}

async function digest(store: LogStore, id: string): Promise<{ sha256: string; size: number }> {
  const hash = createHash('sha256')
  let size = 0
  for await (const piece of store.read(id)) {
    expect(piece.length).toBeLessThanOrEqual(65_536)
    hash.update(piece)
    size += piece.length
  }
  return { sha256: hash.digest('hex'), size }
}

/** Bytes in buffers that are still referenced. */
function arrayBuffers(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  return process.memoryUsage().arrayBuffers
}

/** Runs a module in another process; `lines()` there yields what the test writes to its stdin. */
async function node(body: string): Promise<Running> {
  const lines = `import { createInterface } from 'node:readline'
    const lines = () => createInterface({ input: process.stdin })`
  const args = ['--input-type=module', '--disable-warning=ExperimentalWarning', '--eval', `${lines}\n${body}`]
  const child = await start(process.execPath, args, { stdio: 'pipe' })
  onTestFinished(async () => void (await child.kill('SIGKILL')))
  return child
}

async function ended(child: Running): Promise<number | null> {
  const { code } = await child.exited
  if (code !== 0) throw new Error(child.stderr())
  return code
}
