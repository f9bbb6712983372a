import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * Files and folders that take longest, measured on a machine with two cores; most of the time they wait for an engine, a
 * lease, or a server that does not respond. Without a cache, Vitest starts the largest files first, and a small one of
 * these may run alone at the end.
 */
const SLOWEST = [
  'test/builder/engine.test.ts',
  'test/end-to-end/deploy/',
  'test/builder/',
  'test/end-to-end/fleet.test.ts',
  'test/runner/',
  'test/end-to-end/reuse/',
  'test/doctor/',
  'test/end-to-end/',
  'test/store/postgres.test.ts',
  'test/fuzz/',
  'test/differential/',
]

/** Starts the slowest files first, in every run alike. */
export default class SlowestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const found = SLOWEST.findIndex((path) => moduleId.includes(`/${path}`))
      return found < 0 ? SLOWEST.length : found
    }
    const sorted = await super.sort(files)
    return sorted.toSorted((one, other) => rank(one) - rank(other))
  }
}
