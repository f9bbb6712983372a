import type { Table } from '../simulation/table.ts'
import type { AffinityCase } from './affinity-results.ts'

const HEAD = [
  'pushes',
  'load without affinity',
  'a worker stays warm for',
  'warm: without',
  'with',
  'push to end, mean: without',
  'with',
  'ratio',
  'p95: without',
  'with',
  'ratio',
]

/** Compares runs of the same pushes with and without affinity. */
export function affinityTable(cases: AffinityCase[]): Table {
  const percent = (share: number) => `${(share * 100).toFixed(0)} %`
  const seconds = (number: number) => `${number.toFixed(1)} s`
  const rows = cases.map(({ arrivals, load, cache, without, with: withIt }) => [
    arrivals,
    percent(load),
    `${cache} of 8`,
    percent(without.warm),
    percent(withIt.warm),
    ...[seconds(without.mean), seconds(withIt.mean), (withIt.mean / without.mean).toFixed(2)],
    ...[seconds(without.p95), seconds(withIt.p95), (withIt.p95 / without.p95).toFixed(2)],
  ])
  return { title: 'Builds on warm workers, with affinity and without', rows: [HEAD, ...rows] }
}
