/** Summary of repeated measurements. */
export interface Spread {
  median: number
  min: number
  max: number
  count: number
}

/** @param numbers at least one */
export function spread(numbers: number[]): Spread {
  const sorted = numbers.toSorted((a, b) => a - b)
  return {
    median: percentile(sorted, 50),
    min: percentile(sorted, 0),
    max: percentile(sorted, 100),
    count: sorted.length,
  }
}

/** The value that `percent` of the numbers do not exceed; between two of them, in proportion. */
export function percentile(numbers: number[], percent: number): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const at = ((sorted.length - 1) * percent) / 100
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]]
  if (low === undefined || high === undefined) throw new Error('expected at least one number')
  return low + (high - low) * (at - Math.floor(at))
}
