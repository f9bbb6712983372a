import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { BlobReader } from '../../src/lib/source/context/blob-reader.ts'
import { attributesMatter } from '../../src/lib/source/context/checkout-filters.ts'
import type { TreeFile } from '../../src/lib/source/context/git-tree.ts'

const files = Array.from({ length: 5000 }, (_, i): TreeFile => {
  const path = `d${i}/.gitattributes`
  return { path, rawPath: Buffer.from(path), kind: 'file', oid: `${i}`, size: 10 }
})

/** Counts reads, and how many of them were pending at once. */
function counting(relevant: string) {
  const reads = { all: 0, pending: 0, most: 0 }
  const readSmall: BlobReader['readSmall'] = async (oid) => {
    reads.all += 1
    reads.pending += 1
    reads.most = Math.max(reads.most, reads.pending)
    await setImmediate()
    reads.pending -= 1
    return Buffer.from(oid === relevant ? '* eol=crlf' : '* -text')
  }
  return { reads, reader: { readSmall } as BlobReader }
}

test('many different attributes files are read a part at a time, as each read listens to the signal', async () => {
  const { reads, reader } = counting('none')
  expect(await attributesMatter(files, reader)).toBe(false)
  expect(reads).toEqual({ all: 5000, pending: 0, most: 1000 })
})

test('after one that matters, the rest are not read', async () => {
  const { reads, reader } = counting('1500')
  expect(await attributesMatter(files, reader)).toBe(true)
  expect(reads.all).toBe(2000)
})

test('none is read if one is too large to search', async () => {
  const { reads, reader } = counting('none')
  const large = { ...(files[0] as TreeFile), oid: 'large', size: 1 << 20 }
  expect(await attributesMatter([...files, large], reader)).toBe(true)
  expect(reads.all).toBe(0)
})
