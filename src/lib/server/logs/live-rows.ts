import type { RowsEventJson } from '../../api/log.ts'
import type { Build } from '../../core/build.ts'
import type { LogStep } from '../../core/build-log/plain-log.ts'
import { LogRows } from '../../core/build-log/rows.ts'
import { sseEvent } from '../formats.ts'
import { type EventStreamOptions, type FollowParts, follow } from './follow.ts'
import type { LineIndex } from './line-index.ts'
import { inTurns, type NumberedRow, rowRenderer } from './read-rows.ts'
import { shownState, stepView } from './step-html.ts'

/** Rows in one event. */
const MAX_ROWS = 500

/**
 * Follows a build for the viewer, as an event stream: `rows` from a row on, with the number of the next row as the
 * event's id; `head` with new contents of the page's head whenever the state changes; `end`.
 */
export async function* liveRows(
  parts: FollowParts,
  build: Build,
  index: LineIndex,
  {
    from,
    signal,
    head,
  }: { from: number; head: (build: Build) => Promise<string> } & Pick<EventStreamOptions, 'signal'>,
): AsyncGenerator<string> {
  await index.update()
  const place = index.place(from)
  const sender = new RowSender(index, place.row, from)
  let state = ''
  for await (const event of follow(parts, build, { offset: place.offset, signal })) {
    switch (event.kind) {
      case 'log':
        index.take(event.offset, event.bytes)
        yield* sender.push(event.bytes)
        break
      case 'build':
      case 'end': {
        if (event.kind === 'end') yield* sender.end()
        const now = `${event.build.state} ${event.build.attempt}`
        // At the end again: the log had not all of its lines when the state changed.
        if (now !== state || event.kind === 'end')
          yield sseEvent('head', { state: event.build.state, html: await head(event.build) })
        state = now
        if (event.kind === 'end') yield sseEvent('end', { state: event.build.state })
        break
      }
      case 'notice':
        // Pages say that themselves.
        if (!event.isEmpty) yield sseEvent('notice', { message: event.text })
        break
      case 'heartbeat':
        yield ': nothing new\n\n'
    }
  }
}

class RowSender {
  readonly #index: LineIndex
  readonly #rows = new LogRows()
  readonly #from: number
  #row: number
  /** What the steps were like when they were sent. */
  readonly #sent = new Map<LogStep, string>()

  /** @param row the number of the first row that is pushed @param from the first one that is sent */
  constructor(index: LineIndex, row: number, from: number) {
    this.#index = index
    this.#row = row
    this.#from = from
  }

  async *push(bytes: Uint8Array): AsyncGenerator<string> {
    let batch: NumberedRow[] = []
    for (const row of this.#rows.push(bytes)) {
      this.#add(batch, row)
      if (batch.length < MAX_ROWS) continue
      yield await this.#event(batch)
      batch = []
    }
    if (batch.length > 0) yield await this.#event(batch)
  }

  /** The last line, if it has no newline; and the steps as they ended. */
  async *end(): AsyncGenerator<string> {
    const batch: NumberedRow[] = []
    const rest = this.#rows.end()
    if (rest) this.#add(batch, rest)
    yield await this.#event(batch, true)
  }

  #add(batch: NumberedRow[], bytes: Uint8Array): void {
    if (this.#row >= this.#from) batch.push({ row: this.#row, bytes })
    this.#row++
  }

  /** What is rendered may be hostile, and each viewer's copy is due at the same moment: in turns. */
  async #event(batch: NumberedRow[], hasBuildEnded = false): Promise<string> {
    const html = await inTurns(batch, rowRenderer(this.#index))
    const changed = this.#index.steps.filter((step) => {
      const now = `${shownState(step, hasBuildEnded)} ${step.last} ${step.seconds}`
      const isNew = this.#sent.get(step) !== now
      if (isNew) this.#sent.set(step, now)
      return isNew
    })
    const steps = changed.map((step) => stepView(step, hasBuildEnded))
    const next = Math.max(this.#row, this.#from)
    const data: RowsEventJson = { next, html: html.join(''), steps }
    return sseEvent('rows', data, next)
  }
}
