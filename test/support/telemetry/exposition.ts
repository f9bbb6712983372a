/** One line of a scrape: a name, labels, and a value. */
interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

export interface Family {
  type: 'counter' | 'gauge' | 'histogram' | 'summary' | 'untyped'
  help: string
  samples: Sample[]
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*$/
const NUMBER = /^(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|NaN|[+-]?Inf)$/

/**
 * Parses Prometheus's text format 0.0.4 as its documentation describes it, stricter than Prometheus itself: every family
 * has HELP and TYPE first, its lines are together, no series is repeated, and histograms add up.
 * https://prometheus.io/docs/instrumenting/exposition_formats/
 * @throws Error with the offending line
 */
export function parseExposition(text: string): Map<string, Family> {
  if (!text.endsWith('\n')) throw new Error('the last line has no line feed')
  const families = new Map<string, Family>()
  const seen = new Set<string>()
  let help: { name: string; text: string } | undefined
  let current: { name: string; family: Family } | undefined
  for (const line of text.slice(0, -1).split('\n')) {
    if (line === '') continue
    if (line.startsWith('# HELP ')) {
      const [, name = '', rest = ''] = /^# HELP (\S+) (.*)$/.exec(line) ?? []
      if (!NAME.test(name) || families.has(name) || rest === '') throw new Error(`bad or repeated: ${line}`)
      help = { name, text: unescaped(rest, false, line) }
    } else if (line.startsWith('# TYPE ')) {
      const [, name = '', type = ''] =
        /^# TYPE (\S+) (counter|gauge|histogram|summary|untyped)$/.exec(line) ?? []
      if (help?.name !== name) throw new Error(`TYPE without HELP right before: ${line}`)
      current = { name, family: { type: type as Family['type'], help: help.text, samples: [] } }
      families.set(name, current.family)
    } else if (line.startsWith('#')) {
      throw new Error(`a comment that nobody wrote: ${line}`)
    } else {
      const sample = parseSample(line)
      if (!current || !belongs(sample.name, current)) throw new Error(`outside of its family: ${line}`)
      const series = `${sample.name}${JSON.stringify(Object.entries(sample.labels).sort())}`
      if (seen.has(series)) throw new Error(`a repeated series: ${line}`)
      seen.add(series)
      current.family.samples.push(sample)
    }
  }
  for (const [name, family] of families) checkFamily(name, family)
  return families
}

/** The value of a series; undefined if the scrape has none with exactly these labels. */
export function sampleOf(
  families: Map<string, Family>,
  name: string,
  labels: Record<string, string> = {},
): number | undefined {
  const family = families.get(name) ?? families.get(name.replace(/_(?:bucket|sum|count)$/, ''))
  const wanted = JSON.stringify(Object.entries(labels).sort())
  return family?.samples.find(
    (one) => one.name === name && JSON.stringify(Object.entries(one.labels).sort()) === wanted,
  )?.value
}

function belongs(sample: string, { name, family }: { name: string; family: Family }): boolean {
  if (family.type === 'histogram') return ['_bucket', '_sum', '_count'].some((end) => sample === name + end)
  if (family.type === 'summary')
    return sample === name || ['_sum', '_count'].some((end) => sample === name + end)
  return sample === name
}

function parseSample(line: string): Sample {
  const [, name = ''] = /^([a-zA-Z_:][a-zA-Z0-9_:]*)[{ ]/.exec(line) ?? []
  let at = name.length
  const labels: Record<string, string> = {}
  if (name === '') throw new Error(`no name: ${line}`)
  if (line[at] === '{') {
    at += 1
    while (line[at] !== '}') {
      const [whole, label = '', value = ''] = /^([^={,}]+)="((?:[^"\\\n]|\\.)*)"/.exec(line.slice(at)) ?? []
      if (whole === undefined || !LABEL.test(label) || label in labels) throw new Error(`bad labels: ${line}`)
      labels[label] = unescaped(value, true, line)
      at += whole.length
      if (line[at] === ',') at += 1
      else if (line[at] !== '}') throw new Error(`bad labels: ${line}`)
    }
    at += 1
  }
  const [space = '', value = ''] = [line[at], line.slice(at + 1)]
  if (space !== ' ' || !NUMBER.test(value)) throw new Error(`no value: ${line}`)
  return { name, labels, value: Number(value.replace('Inf', 'Infinity')) }
}

function unescaped(text: string, quotes: boolean, line: string): string {
  return text.replace(/\\(.?)/g, (_, next: string) => {
    if (next === '\\') return '\\'
    if (next === 'n') return '\n'
    if (next === '"' && quotes) return '"'
    throw new Error(`bad escape: ${line}`)
  })
}

function checkFamily(name: string, { type, samples }: Family): void {
  if (type === 'counter') {
    if (!name.endsWith('_total')) throw new Error(`${name}: a counter ends in _total`)
    if (samples.some(({ value }) => !(value >= 0))) throw new Error(`${name}: a negative counter`)
  }
  if (type !== 'histogram') return
  const groups = Map.groupBy(samples, ({ labels: { le: _, ...rest } }) => JSON.stringify(rest))
  for (const group of groups.values()) {
    const buckets = group.filter((one) => one.name === `${name}_bucket`)
    const bounds = buckets.map(({ labels }) => Number(labels.le?.replace('Inf', 'Infinity')))
    const counts = buckets.map(({ value }) => value)
    const grows = (all: number[], strictly: boolean) =>
      all.every((one, i) => i === 0 || (strictly ? one > (all[i - 1] ?? 0) : one >= (all[i - 1] ?? 0)))
    const count = group.find((one) => one.name === `${name}_count`)?.value
    const sum = group.find((one) => one.name === `${name}_sum`)?.value
    if (!grows(bounds, true) || !grows(counts, false)) throw new Error(`${name}: buckets do not grow`)
    if (bounds.at(-1) !== Number.POSITIVE_INFINITY) throw new Error(`${name}: no bucket +Inf`)
    if (count === undefined || sum === undefined || counts.at(-1) !== count) throw new Error(`${name}: sums`)
  }
}
