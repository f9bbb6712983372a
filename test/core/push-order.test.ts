import { describe, expect, test } from 'vitest'
import type { Ref } from '../../src/lib/core/build.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { compare, compareByArrival, compareByChain, leads, type Push } from '../../src/lib/core/push-order.ts'
import { tieBreaker } from '../../src/lib/pipeline/tags/tie-breaker.ts'
import type { History } from '../../src/lib/source/source.ts'

const MAIN: Ref = { kind: 'branch', name: 'main' }
const DEV: Ref = { kind: 'branch', name: 'dev' }

/** A push of `main` from one commit to another, in second 5, as a signed webhook reports it. */
function push(before: string, after: string, rest: Partial<Push> = {}): Push {
  const common = { repository: 'acme/app', ref: MAIN, pushedAt: 5, signed: true, again: false }
  return { sequence: 1, sha: after, before, after, ...common, ...rest }
}

/** The table of push-order.ts, line by line: the verdict on C, which arrived after R, and the one on R after C. */
describe('two pushes', () => {
  const early = { sequence: 1 }
  const late = { sequence: 2 }
  test.each<[string, Push, Push, string, string]>([
    ['the same push', push('0', 'a', late), push('0', 'a', late), 'newer', 'newer'],
    ['a later second', push('a', 'b', { ...late, pushedAt: 6 }), push('0', 'a', early), 'newer', 'older'],
    ['an earlier second', push('0', 'a', late), push('a', 'b', { ...early, pushedAt: 6 }), 'older', 'newer'],
    [
      'force-pushed back, later',
      push('b', 'a', { ...late, pushedAt: 7 }),
      push('a', 'b', { ...early, pushedAt: 6 }),
      'newer',
      'older',
    ],
    ['the same second', push('a', 'b', late), push('0', 'a', early), 'doubt', 'doubt'],
    [
      'an unknown second',
      push('a', 'b', { ...late, pushedAt: null }),
      push('0', 'a', early),
      'doubt',
      'doubt',
    ],
    [
      'asked for through the API',
      push('', 'b', { ...late, pushedAt: 9, signed: false }),
      push('0', 'a', early),
      'doubt',
      'doubt',
    ],
    [
      'of a git tag, in another second',
      push('0', 'b', { ...late, ref: { kind: 'tag', name: 'main' }, pushedAt: 4 }),
      push('0', 'a', early),
      'older',
      'newer',
    ],
    [
      'of another branch, in the same second',
      push('0', 'b', { ...late, ref: DEV }),
      push('0', 'a', early),
      'newer',
      'older',
    ],
    [
      'only a sha, without any data',
      push('', 'b', { ...late, ref: null, signed: false, pushedAt: null }),
      push('0', 'a', { ...early, ref: null, signed: false, pushedAt: null }),
      'newer',
      'older',
    ],
  ])('%s', (_name, one, other, verdict, reverse) => {
    expect(compare(one, other)).toBe(verdict)
    expect(compare(other, one)).toBe(reverse)
  })
})

describe('before and after', () => {
  test.each<[string, Push, Push, Push[], string]>([
    ['one after the other', push('a', 'b'), push('0', 'a'), [], 'newer'],
    ['in reverse', push('0', 'a'), push('a', 'b'), [], 'older'],
    ['with others in between', push('0', 'a'), push('c', 'd'), [push('a', 'b'), push('b', 'c')], 'older'],
    ['with a gap in between', push('0', 'a'), push('c', 'd'), [push('a', 'b')], 'doubt'],
    ['forth and back', push('b', 'a'), push('a', 'b'), [], 'doubt'],
    ['unknown', push('b', 'a', { before: null, after: null }), push('a', 'b'), [], 'doubt'],
  ])('%s', (_name, one, other, between, verdict) => {
    expect(compareByChain(one, other, between)).toBe(verdict)
  })

  test('that lead in circles terminate', () => {
    expect(leads('a', 'z', [push('a', 'b'), push('b', 'a'), push('b', 'b')])).toBe(false)
  })
})

describe('pushes in doubt', () => {
  const R = push('a', 'b', { sequence: 1 })
  const C = push('x', 'c', { sequence: 2 })
  const unknown: History = { head: async () => null, contains: async () => false }
  const at = (sha: string): History => ({ ...unknown, head: async () => ({ ref: MAIN, sha }) })
  const broken = async () => {
    throw new ConveyorError('unavailable', 'cannot ask git.example')
  }
  test.each<[string, History, Push, Push, boolean]>([
    ['the head says C', at('c'), C, R, true],
    ['the head says R', at('b'), C, R, false],
    ['the head says C, which arrived first', at('c'), { ...C, sequence: 0 }, R, true],
    ['the head goes before the chain', at('c'), push('0', 'c'), push('c', 'b'), true],
    ['the chain, where the head is another one', at('z'), push('0', 'a', { sequence: 9 }), R, false],
    ['ancestry: C is in R', { ...at('z'), contains: async (_, head) => head === 'b' }, C, R, false],
    [
      'ancestry: R is in C',
      { ...at('z'), contains: async (_, head) => head === 'c' },
      { ...C, sequence: 0 },
      R,
      true,
    ],
    ['nothing: it arrived later', at('z'), C, R, true],
    ['nothing: it arrived first', at('z'), { ...C, sequence: 0 }, R, false],
    ['nothing, and it was known: a replay', at('z'), { ...C, again: true }, R, false],
    ['known, and the head says it', at('c'), { ...C, again: true }, R, true],
    ['the git server does not answer', { head: broken, contains: broken }, C, R, true],
  ])('%s', async (_name, history, candidate, recorded, newer) => {
    const lines: string[] = []
    const say = async (line: string) => void lines.push(line)
    const settle = tieBreaker('acme/app', { history, say }, new AbortController().signal)
    expect(await settle(candidate, recorded, [])).toBe(newer)
    expect(lines.length > 0).toBe(history.head === broken)
  })

  test('with an API request is decided by the newest push known when it arrived', () => {
    const asked = { ...C, signed: false, pushedAt: 7 }
    expect(compareByArrival(asked, { ...R, pushedAt: 8, sequence: 1 })).toBe('older')
    expect(compareByArrival(asked, { ...R, pushedAt: 7, sequence: 1 })).toBe('newer')
  })
})
