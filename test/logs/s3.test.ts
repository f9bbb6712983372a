import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  paginateListObjectsV2,
} from '@aws-sdk/client-s3'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { LogStore, ReadLogOptions } from '../../src/lib/logs/log-store.ts'
import { layoutOf, leftovers, rangesOf } from '../../src/lib/logs/s3/layout.ts'
import { s3LogStore } from '../../src/lib/logs/s3/log-store.ts'
import { startAws, type TestAws } from '../support/aws/aws.ts'
import { type S3Front, startS3Front } from '../support/aws/s3-front.ts'
import { projectRoot } from '../support/processes.ts'
import { logStoreContract } from './log-store.contract.ts'

const MiB = 1024 * 1024

let aws: TestAws
beforeAll(async () => {
  aws = await startAws()
})
afterAll(() => aws[Symbol.asyncDispose]())

logStoreContract('s3LogStore', async () => {
  const options = { bucket: await aws.bucket(), prefix: 'ci', clientConfig: aws.clientConfig }
  return {
    open: async () => s3LogStore(options),
    script: `import { s3LogStore } from ${JSON.stringify(`${projectRoot}src/lib/logs/s3/log-store.ts`)}
      const store = s3LogStore(${JSON.stringify(options)})`,
    dispose: async () => {},
  }
})

describe('the layout of a log', () => {
  const segment = (offset: number, size: number) => ({ offset, size })
  const text = (size: number) => ({ size, etag: '"e"' })

  test.each([
    ['nothing', { text: null, segments: [], openings: [] }, { size: 0, ended: false }],
    [
      'segments',
      { text: null, segments: [segment(0, 3), segment(3, 4)], openings: [] },
      { size: 7, ended: false },
    ],
    ['a text', { text: text(7), segments: [], openings: [] }, { size: 7, ended: true }],
    ['an empty text', { text: text(0), segments: [], openings: [] }, { size: 0, ended: true }],
    [
      'a text and what it was made of',
      { text: text(7), segments: [segment(0, 3), segment(3, 4)], openings: [3, 0] },
      { size: 7, ended: true },
    ],
    [
      'one that goes on',
      { text: text(7), segments: [segment(7, 2)], openings: [7] },
      { size: 9, ended: false },
    ],
    ['one that was opened again', { text: text(7), segments: [], openings: [7] }, { size: 7, ended: false }],
    [
      'a gap',
      { text: null, segments: [segment(0, 3), segment(4, 1)], openings: [] },
      { size: 3, ended: false },
    ],
  ])('%s', (_, listing, expected) => {
    expect(layoutOf(listing)).toMatchObject(expected)
  })

  test('grows segment by segment, until a text replaces them', () => {
    const first = layoutOf({ text: null, segments: [segment(0, 3), segment(3, 4)], openings: [] })
    const more = layoutOf({ text: null, segments: [segment(7, 1)], openings: [] }, first)
    expect(more).toMatchObject({ size: 8, segments: [segment(0, 3), segment(3, 4), segment(7, 1)] })
    expect(layoutOf({ text: text(7), segments: [], openings: [] }, more)).toEqual({
      text: text(7),
      segments: [segment(7, 1)],
      size: 8,
      ended: false,
    })
    expect(layoutOf({ text: text(20), segments: [], openings: [] }, more)).toMatchObject({
      segments: [],
      size: 20,
      ended: true,
    })
  })

  test('locates bytes', () => {
    const layout = layoutOf({
      text: text(10),
      segments: [segment(10, 5), segment(15, 5), segment(20, 5)],
      openings: [],
    })
    expect(rangesOf(layout, 8, 9)).toEqual([
      { object: 'text', position: 8, start: 8, length: 2 },
      { object: 10, position: 10, start: 0, length: 5 },
      { object: 15, position: 15, start: 0, length: 2 },
    ])
    expect(rangesOf(layout, 21, 2)).toEqual([{ object: 20, position: 21, start: 1, length: 2 }])
    for (let from = 0; from < 25; from++) {
      for (let to = from; to <= 25; to++) {
        const ranges = rangesOf(layout, from, to - from)
        expect(ranges.reduce((sum, { length }) => sum + length, 0)).toBe(to - from)
      }
    }
  })

  test('only objects covered by the text may be deleted', () => {
    const listing = { text: text(7), segments: [segment(3, 4), segment(7, 2)], openings: [3, 7, 9] }
    expect(leftovers(listing, 7)).toEqual({ segments: [segment(3, 4)], openings: [3, 7] })
  })
})

describe('s3LogStore', () => {
  let bucket: string
  let front: S3Front
  let store: LogStore
  let id: string
  const make = (overrides = {}) => {
    const made = s3LogStore({
      bucket,
      clientConfig: { ...aws.clientConfig, endpoint: front.url },
      ...overrides,
    })
    onTestFinished(() => made.close().catch(() => {}))
    return made
  }
  beforeEach(async () => {
    bucket = await aws.bucket()
    front = await startS3Front(aws.url)
    store = s3LogStore({ bucket, clientConfig: { ...aws.clientConfig, endpoint: front.url } })
    id = randomUUID()
  })
  afterEach(async () => {
    front.decide = () => 'pass'
    await store.close()
    await front[Symbol.asyncDispose]()
  })

  async function read(options: ReadLogOptions = { follow: false }, from = store): Promise<Buffer> {
    const pieces: Uint8Array[] = []
    for await (const piece of from.read(id, options)) pieces.push(piece)
    return Buffer.concat(pieces)
  }

  async function keys(): Promise<string[]> {
    const all: string[] = []
    for await (const page of paginateListObjectsV2({ client: aws.s3 }, { Bucket: bucket })) {
      all.push(...(page.Contents ?? []).map(({ Key = '' }) => Key))
    }
    return all.sort()
  }

  const segment = (offset: number) => `logs/${id}-${String(offset).padStart(16, '0')}`
  const put = (Key: string, Body: string) =>
    aws.s3.send(new PutObjectCommand({ Bucket: bucket, Key, Body: Buffer.from(Body) }))
  const count = (pattern: RegExp) => front.requests.filter(({ line }) => pattern.test(line)).length
  async function write(text: string | Buffer, how: 'close' | 'end', to = store): Promise<void> {
    const writer = await to.open(id)
    await writer.write(text)
    await writer[how]()
  }

  describe("on a server with fewer features than Amazon's", () => {
    const LONG = Buffer.alloc(6 * MiB, 'a line of a log\n')

    test('uploads without new checksums, and deletes with Content-MD5', async () => {
      const refused = { status: 400, code: 'InvalidRequest' }
      front.decide = async (line, headers, body) => {
        const names = Object.keys(headers).filter((name) =>
          /^x-amz-(checksum|sdk-checksum|trailer)/.test(name),
        )
        if (names.length > 0 || /aws-chunked/.test(headers['content-encoding'] ?? '')) return refused
        if (!/^POST \S+\?delete/.test(line)) return 'pass'
        const md5 = createHash('md5')
          .update(await body())
          .digest('base64')
        return headers['content-md5'] === md5 ? 'pass' : { status: 400, code: 'MissingContentMD5' }
      }
      await write('one\n', 'close')
      await write('two\n', 'end')
      expect(await keys()).toEqual([`logs/${id}.txt`])
      expect(String(await read())).toBe('one\ntwo\n')
      expect(count(/^POST \S+\?delete/)).toBe(1)

      id = randomUUID()
      await write(LONG, 'end')
      expect((await read()).equals(LONG)).toBe(true)
      expect(count(/partNumber/)).toBeGreaterThan(0)
    })

    const check = (trace: boolean) =>
      store.checkWrites?.({ trace }).then(
        () => null,
        (error: unknown) => error,
      )

    test('is distinguished from one that supports conditional writes', async () => {
      expect(await check(false)).toBeNull()
      expect(await keys()).toEqual([])
      expect(await check(true)).toBeNull()
      expect(await check(true)).toBeNull()
      expect(await keys()).toEqual(['logs/conveyor-writes.txt'])
    })

    test.each([
      ['conditions', ['if-match', 'if-none-match']],
      ['If-Match', ['if-match']],
    ])('is refused if it ignores %s', async (_, ignored) => {
      front.ignored = ignored
      for (const trace of [false, true]) {
        expect(await check(trace)).toMatchObject({
          kind: 'invalid',
          message: expect.stringMatching(
            /^bucket \S+ cannot store logs: its server does not support conditional writes/,
          ),
          hint: expect.stringContaining('--logger postgres://'),
        })
        if (!trace) expect(await keys()).toEqual([])
      }
    })

    test('is refused if it ignores If-None-Match, before anything is built', async () => {
      front.ignored = ['if-none-match']
      expect(await check(true)).toMatchObject({ kind: 'invalid' })
    })

    test('is refused if it responds that conditional writes are not implemented', async () => {
      front.decide = (_line, headers) =>
        headers['if-match'] || headers['if-none-match'] ? { status: 501, code: 'NotImplemented' } : 'pass'
      for (const trace of [false, true]) expect(await check(trace)).toMatchObject({ kind: 'invalid' })
    })

    test('cannot be distinguished from one that is down or denies writes', async () => {
      front.decide = () => ({ status: 403, code: 'AccessDenied' })
      expect(await check(true)).toMatchObject({ kind: 'unauthorized' })
      const nobody = make({ clientConfig: { ...aws.clientConfig, endpoint: 'http://127.0.0.1:1' } })
      await expect(nobody.checkWrites?.({ trace: true })).rejects.toMatchObject({ kind: 'unavailable' })
    })
  })

  test('segments while it is written; then one private text that browsers display', async () => {
    await write('one\n', 'close')
    await write('two, twö\n', 'close')
    expect(await keys()).toEqual([segment(0), segment(4)])
    await (await store.open(id)).end()
    expect(await keys()).toEqual([`logs/${id}.txt`])
    const object = await aws.s3.send(new GetObjectCommand({ Bucket: bucket, Key: `logs/${id}.txt` }))
    expect(object.ContentType).toBe('text/plain; charset=utf-8')
    expect(await object.Body?.transformToString()).toBe('one\ntwo, twö\n')
    // No access is requested, so the default applies, which is private.
    const names = front.requests.flatMap(({ headers }) => Object.keys(headers))
    expect(names.filter((name) => /acl|grant/.test(name))).toEqual([])
  })

  test.each([
    ['', ''],
    ['ci', 'ci/'],
    ['/a b/ü/', 'a b/ü/'],
  ])('the prefix %j', async (prefix, expected) => {
    const prefixed = make({ prefix })
    await write(Buffer.alloc(6 * MiB, 'x'), 'end', prefixed)
    await write('more', 'end', prefixed)
    expect(await keys()).toEqual([`${expected}logs/${id}.txt`])
    expect((await read({}, prefixed)).length).toBe(6 * MiB + 4)
  })

  test('constant output becomes visible continuously, in few segments', async () => {
    const writer = await store.open(id)
    let stop = false
    let lines = 0
    const began = performance.now()
    const writing = (async () => {
      for (; !stop; lines++) {
        await writer.write(`line ${lines}\n`)
        await sleep(5)
      }
    })()
    await expect.poll(async () => (await keys()).length).toBeGreaterThanOrEqual(5)
    stop = true
    await writing
    await writer.end()
    const seconds = (performance.now() - began) / 1_000
    // Immediately, after 0.25 s, 0.5 s, 1 s, and then every 1.5 s.
    expect(count(/^PUT .*-\d{16}/)).toBeLessThanOrEqual(5 + seconds / 1.5)
    expect(String(await read({})).split('\n')).toHaveLength(lines + 1)
  })

  test('readers of one log share a poll, which is one LIST of new objects', async () => {
    await write('first\n', 'close')
    const readers = Array.from({ length: 30 }, () => read({}))
    await expect.poll(() => count(/^GET .*list-type/)).toBeGreaterThan(0)
    const before = count(/^GET .*list-type/)
    const began = performance.now()
    await sleep(3_000)
    const seconds = (performance.now() - began) / 1_000
    expect(count(/^GET .*list-type/) - before).toBeLessThanOrEqual(seconds / 0.5 + 3)
    expect(front.requests.at(-1)?.line).toContain(`start-after=logs%2F${id}-0000000000000005`)
    const other = make()
    const writer = await other.open(id)
    await writer.write('last\n')
    await writer.end()
    for (const bytes of await Promise.all(readers)) expect(String(bytes)).toBe('first\nlast\n')
    // Once for all of them, and once for the text.
    expect(count(new RegExp(`^GET .*${id}-0000000000000000`))).toBe(2)
  })

  test('a log of one writer, up to 1 MiB, becomes a text without being fetched', async () => {
    const writer = await store.open(id)
    const bytes = randomBytes(MiB)
    for (let at = 0; at < MiB; at += 100_000) await writer.write(bytes.subarray(at, at + 100_000))
    await writer.end()
    expect(count(/^GET .*(txt|-\d{16}\?)/)).toBe(0)
    expect((await read({})).equals(bytes)).toBe(true)
  })

  test('readers lose nothing when segments become a text while they read', async () => {
    const bytes = randomBytes(3 * MiB)
    const elsewhere = make()
    const writer = await store.open(id)
    await writer.write(bytes.subarray(0, 2 * MiB))
    const readers = [store, elsewhere, make()].map((from) => from.read(id)[Symbol.asyncIterator]())
    const got = await Promise.all(readers.map(async (reader) => [(await reader.next()).value]))
    await writer.write(bytes.subarray(2 * MiB))
    await writer.end()
    expect(await keys()).toEqual([`logs/${id}.txt`])
    await Promise.all(
      readers.map(async (reader, i) => {
        for await (const piece of { [Symbol.asyncIterator]: () => reader }) got[i]?.push(piece)
        expect(Buffer.concat(got[i] ?? []).equals(bytes)).toBe(true)
      }),
    )
  })

  test('a reader that requests a deleted segment continues in the text', async () => {
    const released = Promise.withResolvers<'pass'>()
    const held = Promise.withResolvers<void>()
    front.decide = (line) => {
      if (!new RegExp(`^GET .*${id}-\\d{16}\\?`).test(line)) return 'pass'
      held.resolve()
      return released.promise
    }
    const writer = await store.open(id)
    await writer.write('one\n')
    const reading = read({ offset: 1 })
    await held.promise
    await writer.write('two\n')
    await writer.end()
    expect(await keys()).toEqual([`logs/${id}.txt`])
    released.resolve('pass')
    expect(String(await reading)).toBe('ne\ntwo\n')
    expect(count(/^GET .*txt/)).toBe(1)
  })

  test('an abort and a close end readers even while S3 does not respond', async () => {
    const released = Promise.withResolvers<'pass'>()
    await write('one\n', 'close')
    for (const pattern of [/list-type/, /^GET .*-\d{16}\?/]) {
      front.decide = (line) => (pattern.test(line) ? released.promise : 'pass')
      const other = make()
      const stop = new AbortController()
      const before = count(pattern)
      const readings = [read({ signal: stop.signal }, other), read({}, other)]
      await expect.poll(() => count(pattern)).toBeGreaterThan(before)
      stop.abort()
      expect(await readings[0]).toEqual(Buffer.alloc(0))
      await other.close()
      expect(await readings[1]).toEqual(Buffer.alloc(0))
    }
    released.resolve('pass')
  })

  test('a large text is uploaded in parts; a log that continues after it keeps its content', async () => {
    const bytes = randomBytes(13 * MiB)
    const writer = await store.open(id)
    for (let at = 0; at < bytes.length; at += 777_777) await writer.write(bytes.subarray(at, at + 777_777))
    await writer.end()
    expect(count(/partNumber/)).toBe(3)
    expect(await keys()).toEqual([`logs/${id}.txt`])
    await write('and more\n', 'end')
    expect(count(/partNumber/)).toBe(5)
    expect(count(/^GET .*txt/)).toBe(0)
    const object = await aws.s3.send(new HeadObjectCommand({ Bucket: bucket, Key: `logs/${id}.txt` }))
    expect(object.ContentType).toBe('text/plain; charset=utf-8')
    expect((await read({})).equals(Buffer.concat([bytes, Buffer.from('and more\n')]))).toBe(true)
    expect(String(await read({ offset: bytes.length + 4 }))).toBe('more\n')
  })

  test('a log of more segments than one LIST returns', async () => {
    const lines = Array.from({ length: 1_010 }, (_, i) => `line ${i}\n`)
    let size = 0
    for (const line of lines) {
      await fetch(`${aws.url}/${bucket}/${segment(size)}`, { method: 'PUT', body: line })
      size += line.length
    }
    expect(String(await read({ offset: size - 100, follow: false }))).toBe(lines.join('').slice(-100))
    await write('end\n', 'end')
    expect(await keys()).toEqual([`logs/${id}.txt`])
    expect(String(await read())).toBe(`${lines.join('')}end\n`)
  })

  test('two concurrent writers of one log interleave by segments, and nothing is lost', async () => {
    const [one, two] = [await store.open(id), await make().open(id)]
    const line = (name: string, i: number) => `${name} ${i} ${'x'.repeat(2_000)}\n`
    await Promise.all(
      [one, two].map(async (writer, w) => {
        for (let i = 0; i < 3_000; i++) await writer.write(line(`writer${w}`, i))
        await writer.end()
      }),
    )
    // One of them came second at the first byte.
    expect(count(/^HEAD .*-\d{16}/)).toBeGreaterThan(0)
    const text = String(await read())
    for (const w of [0, 1]) {
      const lines = Array.from({ length: 3_000 }, (_, i) => line(`writer${w}`, i))
      expect(text.length - text.replaceAll(new RegExp(`writer${w} \\d+ x+\n`, 'g'), '').length).toBe(
        lines.join('').length,
      )
    }
    expect(await keys()).toEqual([`logs/${id}.txt`])
  })

  test('a writer that returns after its log was ended appends to the text, not where segments were', async () => {
    const late = await make().open(id)
    await write('the whole log\n', 'end')
    expect(await keys()).toEqual([`logs/${id}.txt`])
    await late.write('too late\n')
    await late.close()
    expect(await keys()).toEqual([segment(14), `logs/${id}.txt`])
    expect(String(await read())).toBe('the whole log\ntoo late\n')
    await late.end()
    expect(await keys()).toEqual([`logs/${id}.txt`])
    expect(String(await read({}))).toBe('the whole log\ntoo late\n')
  })

  test('lost responses neither lose nor duplicate a byte', async () => {
    const kinds = {
      segment: /-\d{16}\?/,
      begin: /uploads=/,
      part: /partNumber/,
      complete: /uploadId/,
      remove: /delete/,
    }
    const lost: string[] = []
    front.decide = (line) => {
      const [kind] = Object.entries(kinds).find(([, pattern]) => pattern.test(line)) ?? []
      if (!kind || /^(GET|HEAD)/.test(line) || lost.filter((one) => one === kind).length > 2) return 'pass'
      // Two are retried by the AWS SDK, and one by us.
      lost.push(kind)
      return 'lose the answer'
    }
    const bytes = randomBytes(7 * MiB)
    const writer = await store.open(id)
    await writer.write('first')
    for (let at = 0; at < bytes.length; at += 300_000) await writer.write(bytes.subarray(at, at + 300_000))
    await writer.end()
    expect(new Set(lost)).toEqual(new Set(Object.keys(kinds)))
    expect((await read({})).equals(Buffer.concat([Buffer.from('first'), bytes]))).toBe(true)
    expect(await keys()).toEqual([`logs/${id}.txt`])
  })

  test('a worker that died before it deleted segments: the log is complete, and a reader deletes them', async () => {
    await put(`logs/${id}.txt`, 'one\ntwo\n')
    await put(segment(0), 'one\n')
    await put(segment(4), 'two\n')
    await put(`${segment(4)}-open`, '')
    expect(String(await read({ offset: 2 }))).toBe('e\ntwo\n')
    await expect.poll(keys).toEqual([`logs/${id}.txt`])
  })

  test('a reader without delete permission can still read, and the next attempt deletes them', async () => {
    await put(`logs/${id}.txt`, 'one\n')
    await put(segment(0), 'one\n')
    front.decide = (line) => (line.startsWith('POST') ? { status: 403, code: 'AccessDenied' } : 'pass')
    expect(String(await read({}))).toBe('one\n')
    expect(await keys()).toHaveLength(2)
    front.decide = () => 'pass'
    await write('two\n', 'end')
    expect(await keys()).toEqual([`logs/${id}.txt`])
    expect(String(await read({}))).toBe('one\ntwo\n')
  })

  test('a worker that dies while it creates a text leaves the log unchanged', async () => {
    const bytes = randomBytes(6 * MiB)
    front.decide = (line) => (/uploadId/.test(line) ? { status: 400, code: 'InvalidRequest' } : 'pass')
    const dying = make()
    const writer = await dying.open(id)
    await writer.write(bytes)
    const ending = writer.end()
    ending.catch(() => {})
    await expect.poll(() => count(/uploadId/)).toBeGreaterThan(0)
    await dying.close().catch(() => {})
    await expect(ending).rejects.toMatchObject({ kind: 'unavailable' })
    expect((await read()).equals(bytes)).toBe(true)
    front.decide = () => 'pass'
    await (await store.open(id)).end()
    expect((await read({})).equals(bytes)).toBe(true)
    expect(await keys()).toEqual([`logs/${id}.txt`])
  })

  test('an outage of S3: the build is paused when the buffer is full, and no byte is lost', async () => {
    await using own = await startAws({ persist: true })
    const Bucket = await own.bucket()
    const away = s3LogStore({ bucket: Bucket, clientConfig: own.clientConfig })
    const bytes = randomBytes(7 * MiB)
    const writer = await away.open(id)
    await writer.write(bytes.subarray(0, 100))
    await writer.write(bytes.subarray(100, 1000))
    await own.stop()
    await expect(read({}, away)).rejects.toMatchObject({
      kind: 'unavailable',
      retryable: true,
      message: expect.stringContaining(id),
    })
    let taken = 1000
    const writing = (async () => {
      while (taken < bytes.length) {
        await writer.write(bytes.subarray(taken, taken + 50_000))
        taken += 50_000
      }
    })()
    await expect.poll(() => taken).toBeGreaterThan(3 * MiB)
    await sleep(500)
    expect(taken).toBeLessThan(5 * MiB)
    await own.start()
    await writing
    await own.stop()
    const ending = writer.end()
    await sleep(1_000)
    await own.start()
    await ending
    expect((await read({}, away)).equals(bytes)).toBe(true)
    await away.close()
  })

  test('no bucket: the error names it, with a hint', async () => {
    const nowhere = make({ bucket: 'not-there' })
    const expected = {
      kind: 'not_found',
      message: expect.stringMatching(`^log of build ${id} cannot be (read|written): .*bucket`),
      hint: expect.stringContaining('bucket not-there'),
    }
    await expect(nowhere.open(id)).rejects.toMatchObject(expected)
    await expect(read({}, nowhere)).rejects.toMatchObject(expected)
  })

  test('access denied: the error names the permissions', async () => {
    front.decide = () => ({ status: 403, code: 'AccessDenied' })
    await expect(store.open(id)).rejects.toMatchObject({
      kind: 'unauthorized',
      hint: `Allow these credentials s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket on the bucket ${bucket}`,
    })
    await expect(read({})).rejects.toMatchObject({
      kind: 'unauthorized',
      hint: `Allow these credentials s3:GetObject and s3:ListBucket on the bucket ${bucket}`,
    })
    front.decide = (line) => (line.startsWith('PUT') ? { status: 403, code: 'AccessDenied' } : 'pass')
    const writer = await store.open(id)
    void writer.write('lost')
    await expect(writer.close()).rejects.toMatchObject({ kind: 'unauthorized' })
    await expect(writer.write('more')).rejects.toThrow(/closed/)
    await expect(writer.end()).rejects.toMatchObject({ kind: 'unauthorized' })
  })

  test('missing bytes of a log are an error for its readers, not a loop', async () => {
    await write('one\n', 'close')
    const writer = await store.open(id)
    await writer.write('two\n')
    await writer.close()
    front.decide = (line) =>
      /GET .*-0000000000000004/.test(line) ? { status: 404, code: 'NoSuchKey' } : 'pass'
    await expect(read({ offset: 4 })).rejects.toMatchObject({
      kind: 'unavailable',
      retryable: false,
      message: `log of build ${id} cannot be read: bytes from offset 4 on are missing`,
    })
  })

  test('a closed store gives up at once if S3 fails', async () => {
    front.decide = (line) => (line.startsWith('PUT') ? { status: 503, code: 'SlowDown' } : 'pass')
    const late = make({ clientConfig: { ...aws.clientConfig, endpoint: front.url, maxAttempts: 1 } })
    const writer = await late.open(id)
    void writer.write('lost')
    await expect(late.close()).rejects.toMatchObject({
      name: 'ConveyorError',
      kind: 'unavailable',
      message: expect.stringMatching(`^log of build ${id} cannot be written: (?!log of build)`),
    })
  })
})
