import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { boundedJson, JsonBounds } from '../../src/lib/util/bounded-json.ts'
import { longestTurn } from '../support/timing/longest-turn.ts'

const MIB = 1 << 20

describe('JSON that another system sent', () => {
  test('is parsed as by JSON.parse', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 20 }), (text) => {
        expect(boundedJson(Buffer.from(text))).toEqual(JSON.parse(text))
      }),
    )
  })

  test.each([
    ['lists in lists', '['.repeat(4 * MIB)],
    ['objects in objects', '{"a":'.repeat(MIB)],
    ['empty objects', `[${'{},'.repeat(MIB)}{}]`],
    ['empty lists', `[${'[],'.repeat(MIB)}[]]`],
    ['numbers', `[${'0,'.repeat(2 * MIB)}0]`],
    ['fields', `{${'"":0,'.repeat(MIB)}"":0}`],
    ['lists after a string that ends in a backslash', `["\\\\",${'[],'.repeat(MIB)}[]]`],
  ])('is refused with too many values: %s', (_, text) => {
    const bytes = Buffer.from(text)
    const turn = longestTurn()
    expect(() => boundedJson(bytes)).toThrow(SyntaxError)
    // Parsing it takes a second on some machines.
    expect(turn.ms()).toBeLessThan(250)
  })

  test.each([
    ['a long string', `["${'[{,'.repeat(MIB)}"]`],
    ['quotes and backslashes in a string', JSON.stringify(['"\\[{,'.repeat(MIB)])],
    ['a list as long as the longest answers', `[${'{"a":[]},'.repeat(60_000)}{}]`],
    ['as deep as allowed', `${'['.repeat(100)}${']'.repeat(100)}`],
  ])('is accepted: %s', (_, text) => {
    expect(boundedJson(Buffer.from(text))).toEqual(JSON.parse(text))
  })

  test('is counted alike however its bytes arrive', () => {
    fc.assert(
      fc.property(
        fc.json({ maxDepth: 5 }),
        fc.array(fc.nat(200), { maxLength: 10 }),
        fc.integer({ min: 1, max: 300_000 }),
        (text, cuts, count) => {
          const bytes = Buffer.from(`[${text}${',0'.repeat(count)}]`)
          const whole = new JsonBounds().allow(bytes)
          const places = [0, ...cuts.toSorted((a, b) => a - b), bytes.length]
          const bounds = new JsonBounds()
          const pieces = places.slice(1).map((end, at) => bounds.allow(bytes.subarray(places[at], end)))
          expect(pieces.at(-1)).toBe(whole)
        },
      ),
      { numRuns: 20 },
    )
  })
})
