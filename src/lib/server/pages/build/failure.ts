import type { Build } from '../../../core/build.ts'
import { type LogStep, stepKey } from '../../../core/build-log/plain-log.ts'
import type { SourceExcerpt } from '../../../core/timeline.ts'
import type { LogStore } from '../../../logs/log-store.ts'
import { rowHtml } from '../../logs/line-html.ts'
import type { LineIndex } from '../../logs/line-index.ts'
import { type NumberedRow, readRows, stepOfRow } from '../../logs/read-rows.ts'
import { type Html, html, raw } from '../html.ts'

/** The last rows that a failed step wrote are shown with its error. */
const SHOWN = 12
/** Rows of other steps may be in between; so many are looked at. */
const READ = 300
const MAX_BYTES = 64 * 1024

/** Why a build failed: its error, and the end of what the failed step wrote. */
export interface ShownFailure {
  error: string
  step: LogStep | null
  rows: NumberedRow[]
}

/** @param index null if the log is not indexed yet @throws ConveyorError if it cannot be read */
export async function readFailure(
  build: Build,
  logs: LogStore,
  index: LineIndex | null,
): Promise<ShownFailure | null> {
  if (build.error === null) return null
  if (index === null) return { error: build.error, step: null, rows: [] }
  const step =
    index.steps.findLast(({ state, attempt }) => state === 'failed' && attempt === lastAttempt(index)) ?? null
  if (step === null) return { error: build.error, step, rows: [] }
  const range = {
    from: Math.max(step.first + 1, step.last - READ),
    to: step.last,
    ended: true,
    maxBytes: MAX_BYTES,
  }
  const rows = await readRows(logs, build.id, index, range)
  const own = rows.filter((row) => stepOfRow(row, index) === stepKey(step))
  return { error: build.error, step, rows: own.slice(-SHOWN) }
}

function lastAttempt(index: LineIndex): number {
  return index.attemptOf(index.rows)
}

/** @param excerpt the lines of the Dockerfile, if they are known */
export function failureHtml(
  state: Build['state'],
  failure: ShownFailure,
  excerpt: SourceExcerpt | undefined,
  index: LineIndex,
): Html {
  const { error, step, rows } = failure
  return html`<section class="failure ${state}" aria-labelledby="failure"><h2 id="failure">${error}</h2>
${excerpt && excerptHtml(excerpt)}${
  step &&
  rows.length > 0 &&
  html`<div class="excerpt" role="group" aria-label="The last lines of ${step.name}">${raw(rows.map((row) => withoutId(row, index)).join(''))}</div>
<p class="small"><a href="#L${step.last}">Line ${step.last} of the log</a></p>`
}</section>`
}

/** As `docker build` prints it. */
function excerptHtml({ file, lines, more }: SourceExcerpt): Html {
  const failed = lines.find((line) => line.failed)
  return html`<figure class="source"><figcaption class="small">${file}${failed && html`, line ${failed.number}`}</figcaption>
<pre tabindex="0" aria-label="Lines of ${file}">${lines.map(({ number, text, failed }) => {
    const line = html`<span class="muted">${`${number}`.padStart(3)}</span> ${text}\n`
    return failed ? html`<mark>${line}</mark>` : line
  })}${more > 0 && '…'}</pre></figure>
`
}

/** The rows are on the page twice; ids are not. */
function withoutId({ row, bytes }: NumberedRow, index: LineIndex): string {
  return rowHtml(bytes, row, index.attemptOf(row), () => false).replace(/ id="L\d+"/, '')
}
