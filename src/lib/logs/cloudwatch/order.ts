import type { LogEvent } from './events.ts'

/** Puts the events of a stream in order, drops duplicates, and detects the end of the log. */
export class EventOrder {
  ended = false
  /** Whether `take` stopped at an event because one before it is missing. */
  gap = false
  /** The next event number of each writer. */
  readonly #next = new Map<string, number>()
  /** The writer that opened the log last. */
  #latest = ''

  /** Returns the events that contain the next bytes of the log. */
  take(events: LogEvent[]): LogEvent[] {
    const taken: LogEvent[] = []
    this.gap = false
    for (const event of events) {
      if (!event.mark) continue
      const { writer, number, kind } = event.mark
      // If the start has expired, the log starts with what is left.
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
