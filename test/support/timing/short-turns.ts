import { expect } from 'vitest'
import type { Turns } from './longest-turn.ts'

/** How many times slower than the one in docs/benchmarks.md a machine may be. */
const SLOWEST = 4

/**
 * Expects that no turn took longer than a limit for a machine like that of docs/benchmarks.md. A slower one has longer,
 * but only if it was done in turns at all: for a fifth of the whole.
 * @param most in milliseconds
 */
export function expectShortTurns(turn: Turns, most = 250): void {
  expect(turn.ms()).toBeLessThan(Math.max(most, Math.min(turn.total() / 5, SLOWEST * most)))
}
