import type { LogEvent } from './events.ts'

/** Puts the events of a stream in order, once each, and knows when the log has ended. */
export class EventOrder {
  ended = false
  /** Whether `take` has stopped at an event before which one is missing. */
  gap = false
  /** The next number of each writer. */
  readonly #next = new Map<string, number>()
  /** The writer that began last. */
  #latest = ''

  /** Those of the events that are the next bytes of the log. */
  take(events: LogEvent[]): LogEvent[] {
    const taken: LogEvent[] = []
    this.gap = false
    for (const event of events) {
      if (!event.mark) continue
      const { writer, number, kind } = event.mark
      // When its beginning is not there any more, after its retention, a log is what is left of it.
      if (this.#next.size === 0) {
        this.#next.set(writer, number)
        this.#latest = writer
      }
      const expected = this.#next.get(writer) ?? 0
      if (number > expected) {
        this.gap = true
        break
      }
      if (kind === 'end' && writer === this.#latest) this.ended = true
      if (number < expected) continue
      this.#next.set(writer, number + 1)
      if (kind === 'begin') {
        this.#latest = writer
        this.ended = false
      }
      if (kind === 'text') taken.push(event)
    }
    return taken
  }
}
