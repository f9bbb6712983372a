import { type LogStep, PlainLog, parseRow } from '../../core/build-log/plain-log.ts'
import { LogRows } from '../../core/build-log/rows.ts'
import type { Output, ProgressView } from './view.ts'

const utf8 = new TextDecoder()

/**
 * The log for programs, one JSON object a line: `{"type":"log","line":1,"step":5,"text":"..."}` for each of its lines
 * (`step` is null for Conveyor's own), `{"type":"step","step":5,"name":"...","state":"running","seconds":null}` whenever a
 * step begins or ends, and `{"type":"notice","text":"..."}`.
 */
export function jsonProgress(out: Output): ProgressView {
  const rows = new LogRows()
  const log = new PlainLog()
  const states = new Map<LogStep, string>()
  const print = (value: object) =>
    new Promise<void>((resolve) => out.write(`${JSON.stringify(value)}\n`, () => resolve()))

  async function take(row: Uint8Array): Promise<void> {
    const known = log.stepCount
    log.take(row)
    const parsed = parseRow(row)
    const step = parsed.kind === 'note' ? null : parsed.step
    await print({ type: 'log', line: log.rows, step, text: utf8.decode(row) })
    // Most rows are output, which changes no step.
    if (parsed.kind === 'output' && log.stepCount === known) return
    for (const one of log.steps) {
      if (states.get(one) === one.state) continue
      states.set(one, one.state)
      const { number, name, state, seconds, error } = one
      await print({
        type: 'step',
        step: number,
        name,
        state,
        seconds: state === 'running' ? null : seconds,
        error,
      })
    }
  }

  return {
    async write(bytes) {
      for (const row of rows.push(bytes)) await take(row)
    },
    say: (text) => void print({ type: 'notice', text }),
    async end() {
      const rest = rows.end()
      if (rest) await take(rest)
    },
  }
}
