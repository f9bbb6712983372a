import { expect, test } from 'vitest'
import { entriesKey, FileTimes } from '../../src/lib/buildkit/session/file-times.ts'
import { memoryContext } from '../support/context/memory-context.ts'

const context = (files: Record<string, string>) => memoryContext({ Dockerfile: '', ...files })

/** The paths of a context that are new. */
async function fresh(files: Record<string, string>, record: Uint8Array | null, basis: string | null = 'b') {
  const { entries, dockerfileEntries } = context(files)
  const times = await FileTimes.of({ entries, dockerfileEntries }, record, basis)
  const paths = entries.filter((entry) => times.of(entry) === times.now).map(({ path }) => path)
  return { times, entries, paths }
}

test('files that differ from the last sync are new, including reverted ones', async () => {
  const one = await fresh({ a: '1', 'd/b': '1' }, null)
  expect(one.paths).toEqual(['Dockerfile', 'a', 'd', 'd/b'])
  const two = await fresh({ a: '2', 'd/b': '1' }, await one.times.encode(0))
  expect(two.paths).toEqual(['a'])
  const three = await fresh({ a: '1', 'd/b': '1' }, await two.times.encode(0))
  expect(three.paths).toEqual(['a'])
  const same = await fresh({ a: '1', 'd/b': '1' }, await three.times.encode(0))
  expect(same.paths).toEqual([])
})

test('everything is new with another basis, or an unknown one', async () => {
  const record = await (await fresh({ a: '1' }, null)).times.encode(0)
  expect((await fresh({ a: '1' }, record, 'other')).paths).toEqual(['Dockerfile', 'a'])
  const unknown = await fresh({ a: '1' }, record, null)
  expect(unknown.paths).toEqual(['Dockerfile', 'a'])
  expect((await fresh({ a: '1' }, await unknown.times.encode(0), null)).paths).toEqual(['Dockerfile', 'a'])
})

test("new files are newer than all earlier ones, even if BuildKit's clock is ahead; otherwise never in the future", async () => {
  const before = BigInt(Date.now()) * 1_000_000n
  const one = await fresh({ a: '1' }, null)
  expect(one.times.now).toBeGreaterThan(before - 3_000_000n)
  expect(one.times.now).toBeLessThanOrEqual(BigInt(Date.now()) * 1_000_000n)
  const ahead = Date.now() + 3_600_000
  const two = await fresh({ a: '2' }, await one.times.encode(ahead))
  expect(two.times.now).toBeGreaterThan(BigInt(ahead) * 1_000_000n)
  expect((await fresh({ a: '3' }, await two.times.encode(0))).times.now).toBeGreaterThan(two.times.now)
})

test('when everything is new, all files have the same time', async () => {
  const record = await (await fresh({ a: '1' }, null)).times.encode(0)
  const { times, entries, paths } = await fresh({ a: '1' }, record)
  expect(paths).toEqual([])
  const all = times.allNew()
  expect(entries.map((entry) => all.of(entry))).toEqual([times.now, times.now])
  expect(entries.some((entry) => all.isKept(entry))).toBe(false)
})

test('a record of another version, or a truncated one, is ignored', async () => {
  const record = await (await fresh({ a: '1' }, null)).times.encode(0)
  expect((await fresh({ a: '1' }, Buffer.from([9, ...record.subarray(1)]))).paths).toHaveLength(2)
  for (const length of [0, 1, 40, 45, record.length - 1]) {
    expect(
      (await fresh({ a: '1' }, record.subarray(0, length))).paths.length,
      String(length),
    ).toBeGreaterThan(0)
  }
})

test('requests are answered while a great many files are identified', async () => {
  const entries = Array.from({ length: 200_000 }, (_, i) => {
    const path = `dir/file${i}`
    const rawPath = Buffer.from(path)
    return {
      path,
      rawPath,
      kind: 'file',
      mode: 0o644,
      size: 1,
      contentId: 'a',
      linkTarget: Buffer.alloc(0),
    } as const
  })
  let turns = 0
  const timer = setInterval(() => turns++, 0)
  const keys = [await entriesKey(entries), await entriesKey(entries.slice(1))]
  clearInterval(timer)
  expect(turns).toBeGreaterThan(2)
  expect(new Set(keys).size).toBe(2)
})
