import type { Build } from '../../core/build.ts'
import type { Phase, Step, Timeline } from '../../core/timeline.ts'
import { durationText } from './bits.ts'
import { type Html, html } from './html.ts'

/** Sizes and places in units of the viewBox, which is 1000 wide. */
const WIDTH = 1000
const LABELS = 330
const CHART = WIDTH - LABELS - 70
const ROW = 22
const TOP = 26
/** Characters of a label. */
const LABEL = 40
/** In bytes. */
const MAX_SIZE = 64 * 1024
/** Rows of steps at most; shorter steps share one row. */
const MAX_ROWS = 150
const PHASES_BEFORE: readonly Phase['name'][] = ['queue', 'look up', 'fetch', 'context']

interface Span {
  /** In milliseconds since 1970. */
  from: number
  to: number
}

interface Row extends Span {
  label: string
  /** The whole text: shown by browsers when pointed at, and read aloud. */
  text: string
  /** Of its bar; see style.css. */
  kind: string
  /** Bars of a row for several steps. */
  more?: Span[]
}

/**
 * Where the time of a build went, as an SVG picture of at most 64 kB: a row for each phase and step, on one axis of time.
 * Cached steps share a row; so do the shortest steps of a long build. Colors come from style.css: bars have the classes
 * `queue`, `phase`, `step`, `cached`, `failed`, `cancelled` and `running`, and `critical` on the critical path.
 * @returns the markup of one `<svg>` element without styles or scripts
 */
export function timelineSvg(build: Pick<Build, 'repository' | 'sha'>, timeline: Timeline): string {
  for (let rows = MAX_ROWS; ; rows = Math.floor(rows / 2)) {
    const svg = draw(build, timeline, rows).toString()
    if (Buffer.byteLength(svg) <= MAX_SIZE || rows === 0) return svg
  }
}

function draw(
  { repository, sha }: Pick<Build, 'repository' | 'sha'>,
  timeline: Timeline,
  most: number,
): Html {
  const rows = rowsOf(timeline, most)
  const from = rows.reduce((least, row) => Math.min(least, row.from), rows[0]?.from ?? 0)
  const to = rows.reduce((latest, row) => Math.max(latest, row.to), from + 1)
  const x = (time: number) => round(LABELS + ((time - from) / (to - from)) * CHART)
  const height = TOP + rows.length * ROW + 6
  const bar = ({ from: start, to: end }: Span, y: number) =>
    html`<rect x="${x(start)}" y="${y + 5}" width="${Math.max(1.5, round(x(end) - x(start)))}" height="${ROW - 10}" rx="2"/>`
  return html`<svg class="timeline" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-labelledby="timeline-title timeline-desc" fill="currentColor" font-size="12"><title id="timeline-title">Timeline of ${repository}@${sha.slice(0, 7)}</title><desc id="timeline-desc">${description(timeline, rows, to - from)}</desc><g class="axis" aria-hidden="true">${ticksOf(
    to - from,
  ).map(
    (ms) =>
      html`<path d="M${x(from + ms)} ${TOP - 6}V${height - 6}" stroke="currentColor" stroke-opacity=".18"/><text x="${x(from + ms)}" y="${TOP - 12}" text-anchor="middle">${tickText(ms)}</text>`,
  )}</g>${rows.map((row, at) => {
    const y = TOP + at * ROW
    const end = Math.min(x(row.to) + 6, WIDTH - 64)
    return html`<g class="${row.kind}"><title>${row.text}</title><text x="0" y="${y + 15}">${row.label}</text>${(row.more ?? [row]).map((span) => bar(span, y))}<text class="time" x="${end}" y="${y + 15}">${durationText(busy(row))}</text></g>`
  })}</svg>`
}

function rowsOf({ phases, steps, critical }: Timeline, most: number): Row[] {
  const before = phases.filter(({ name }) => PHASES_BEFORE.includes(name)).map(phaseRow)
  const after = phases.filter(({ name }) => name === 'push' || name === 'tags').map(phaseRow)
  const build = phases.filter(({ name }) => name === 'build')
  const onPath = new Set(critical)
  const timed = steps.flatMap((step) => {
    const span = spanOf(step, build)
    return span ? [{ step, span }] : []
  })
  const cached = timed.filter(({ step }) => step.state === 'cached')
  const ran = timed.filter(({ step }) => step.state !== 'cached')
  // Those that matter most: what failed, the critical path, and what took longest.
  const weight = ({ step, span }: (typeof ran)[number]) =>
    (step.state === 'failed' ? 2e15 : onPath.has(step.number) ? 1e15 : 0) + (span.to - span.from)
  const shown = new Set(ran.toSorted((a, b) => weight(b) - weight(a)).slice(0, most))
  const rest = ran.filter((one) => !shown.has(one))
  return [
    ...before,
    // In a builder image, or if an image was reused, there are no steps.
    ...(timed.length === 0 ? build.map(phaseRow) : []),
    ...together(cached, 'cached', (count) => `${count} ${count === 1 ? 'step' : 'steps'} from the cache`),
    ...ran.filter((one) => shown.has(one)).map(({ step, span }) => stepRow(step, span, onPath)),
    ...together(rest, 'step', (count) => `${count} shorter ${count === 1 ? 'step' : 'steps'}`),
    ...after,
  ]
}

function together(some: { step: Step; span: Span }[], kind: string, label: (count: number) => string): Row[] {
  if (some.length === 0) return []
  const names = some.slice(0, 20).map(({ step }) => `#${step.number} ${cut(step.name, 60)}`)
  const text = `${label(some.length)}: ${names.join('; ')}${some.length > 20 ? '; …' : ''}`
  const spans = merged(some.map(({ span }) => span))
  const from = Math.min(...spans.map((span) => span.from))
  const to = Math.max(...spans.map((span) => span.to))
  return [{ label: label(some.length), text, kind, from, to, more: spans }]
}

/** Spans that touch, or nearly do, as one. */
function merged(spans: Span[]): Span[] {
  const sorted = spans.toSorted((a, b) => a.from - b.from)
  const whole = (sorted.at(-1)?.to ?? 0) - (sorted[0]?.from ?? 0)
  const result: Span[] = []
  for (const { from, to } of sorted) {
    const last = result.at(-1)
    if (last && from - last.to <= whole / 200) last.to = Math.max(last.to, to)
    else result.push({ from, to })
  }
  return result
}

function phaseRow({ name, startedAt, ms, note, running }: Phase): Row {
  const from = Date.parse(startedAt)
  const label = name === 'queue' ? 'waited in the queue' : name
  const text = `${label}: ${durationText(ms)}${note ? ` (${note})` : ''}`
  return {
    label,
    text,
    kind: `${name === 'queue' ? 'queue' : 'phase'}${running ? ' running' : ''}`,
    from,
    to: from + ms,
  }
}

function stepRow(step: Step, span: Span, onPath: ReadonlySet<number>): Row {
  const { number, name, state, error } = step
  const critical = onPath.has(number)
  const kinds = ['step', ...(state === 'done' ? [] : [state]), ...(critical ? ['critical'] : [])]
  const note = [state === 'done' ? null : state, critical ? 'on the critical path' : null].filter(Boolean)
  return {
    ...span,
    label: cut(`#${number} ${name}`, LABEL),
    text: cut(
      `#${number} ${name}: ${durationText(span.to - span.from)}${note.length > 0 ? ` (${note.join(', ')})` : ''}${error ? `: ${error}` : ''}`,
      240,
    ),
    kind: kinds.join(' '),
  }
}

/** A running step lasts until the end of the build phase so far. Null if it has no start. */
function spanOf({ startedAt, completedAt }: Step, build: Phase[]): Span | null {
  if (startedAt === null && completedAt === null) return null
  const from = Date.parse(startedAt ?? completedAt ?? '')
  const ends = build.map((phase) => Date.parse(phase.startedAt) + phase.ms)
  const to = completedAt === null ? Math.max(from, ...ends) : Date.parse(completedAt)
  return { from, to: Math.max(from, to) }
}

function busy(row: Row): number {
  return (row.more ?? [row]).reduce((sum, { from, to }) => sum + to - from, 0)
}

/** The same in words. */
function description({ critical, steps }: Timeline, rows: Row[], total: number): string {
  if (rows.length === 0) return 'Nothing has been recorded yet.'
  const phases = rows
    .filter(({ kind }) => /^(queue|phase|cached)/.test(kind))
    .map(({ text }) => cut(text, 80))
  const names = critical
    .flatMap((number) => steps.find((step) => step.number === number) ?? [])
    .slice(-12)
    .map(({ number, name }) => `#${number} ${cut(name, 60)}`)
  const path = names.length > 0 ? ` Critical path: ${names.join(', then ')}.` : ''
  return `${durationText(total)} in all. ${phases.join('; ')}.${path}`
}

/** Some five to ten round values from 0 to `total`, in milliseconds. */
function ticksOf(total: number): number[] {
  const rough = total / 7
  const unit = 10 ** Math.floor(Math.log10(rough))
  const nice =
    total > 60_000
      ? [15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000]
      : [1, 2, 5, 10].map((n) => n * unit)
  const step = nice.find((one) => one >= rough) ?? Math.ceil(rough / 3_600_000) * 3_600_000
  return Array.from({ length: Math.floor(total / step) + 1 }, (_, at) => at * step)
}

function tickText(ms: number): string {
  if (ms === 0) return '0'
  if (ms < 1000) return `${+ms.toPrecision(3)} ms`
  if (ms < 60_000) return `${+(ms / 1000).toFixed(1)} s`
  return durationText(ms).replace(/ 00 s$| 00 min$/, '')
}

function cut(text: string, length: number): string {
  // XML has no other control characters, not even as references.
  const line = text.replace(/[\p{Cc}\ufffe\uffff]+/gu, ' ').toWellFormed()
  return line.length > length ? `${line.slice(0, length - 1).toWellFormed()}…` : line
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}
