import { describe, expect, test } from 'vitest'
import { buildError } from '../../src/lib/builder/build-errors.ts'
import { demultiplex } from '../../src/lib/docker/container-logs.ts'
import { jsonLines } from '../../src/lib/docker/json-lines.ts'
import { longestTurn } from '../support/timing/longest-turn.ts'

/**
 * Messages that engines and BuildKits never send: errors blame the sender, and handling them costs little. Found by the
 * fuzzer.
 */

async function* stream(...pieces: (string | Uint8Array)[]): AsyncGenerator<Buffer> {
  for (const piece of pieces) yield Buffer.from(piece)
}

async function allOf<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

describe('a response of the engine', () => {
  test.each([
    ['cut off in a line', '{"id":"a"}\n{"id":"moby.bui'],
    ['no JSON', '<html>\n'],
    ['null', 'null\n'],
    ['a number', '{}\n1'],
  ])('%s', async (_, text) => {
    await expect(allOf(jsonLines(stream(text)))).rejects.toMatchObject({
      kind: 'unavailable',
      retryable: true,
    })
  })

  test('an endless line', async () => {
    const piece = Buffer.alloc(1 << 20, 'x')
    const lines = jsonLines(stream(...Array<Buffer>(40).fill(piece)))
    await expect(allOf(lines)).rejects.toMatchObject({
      message: expect.stringContaining('a line is too long'),
    })
  })

  test('an endless error message in a log', async () => {
    const head = Buffer.from([3, 0, 0, 0, 0x02, 0x00, 0x00, 0x00])
    const frames = stream(head, ...Array<Buffer>(32).fill(Buffer.alloc(1 << 20, 'x')))
    const [result] = await Promise.allSettled([allOf(demultiplex(frames))])
    expect(result.status === 'rejected' && String(result.reason).length).toBeLessThan(2500)
  })
})

test.each([
  ['paths without an end', `failed to walk ${'x: lstat '.repeat(10_000)}\n: no such file or directory`],
  ['wrappings of errors', `${'errors:\n'.repeat(500_000)}x`],
])('an error message of %s is parsed quickly', async (_, error) => {
  const turn = longestTurn()
  const thrown = new Error(error)
  const explained = await buildError({ thrown, ours: undefined, failed: { name: '[1/2] COPY a b', error } })
  expect(turn.ms()).toBeLessThan(250)
  expect(explained).toMatchObject({ kind: 'build_failed' })
})
