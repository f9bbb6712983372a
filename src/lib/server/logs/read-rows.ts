import type { LogLineJson } from '../../api/log.ts'
import { parseRow, stepKey } from '../../core/build-log/plain-log.ts'
import { LogRows } from '../../core/build-log/rows.ts'
import type { LogStore } from '../../logs/log-store.ts'
import { inOwnTurn } from '../../util/own-turn.ts'
import { rowHtml, stepNames } from './line-html.ts'
import type { LineIndex } from './line-index.ts'
import { renderTerminalLine } from './terminal.ts'

export interface RowRange {
  /** The first row, from 1. */
  from: number
  /** The last one. */
  to: number
  /** Whether a last line without a newline counts: the log has ended. */
  ended: boolean
  /** Bytes of rows after which it stops, with whole rows; at least one row is read. */
  maxBytes: number
  signal?: AbortSignal
}

/** A row with its number. */
export interface NumberedRow {
  row: number
  bytes: Uint8Array
}

/** Some rows of a log, as far as they exist. @throws ConveyorError if the log cannot be read */
export async function readRows(
  logs: LogStore,
  buildId: string,
  index: LineIndex,
  { from, to, ended, maxBytes, signal }: RowRange,
): Promise<NumberedRow[]> {
  const place = index.place(from)
  const rows = new LogRows()
  const found: NumberedRow[] = []
  let { row } = place
  let size = 0
  /** Returns whether there may be more. */
  const take = (bytes: Uint8Array): boolean => {
    if (row >= from) {
      size += bytes.length
      if (found.length > 0 && size > maxBytes) return false
      found.push({ row, bytes: bytes.slice() })
    }
    return ++row <= to
  }
  if (row > to) return found
  for await (const piece of logs.read(buildId, {
    offset: place.offset,
    follow: false,
    ...(signal && { signal }),
  })) {
    for (const bytes of rows.push(piece)) if (!take(bytes)) return found
  }
  const last = ended ? rows.end() : null
  if (last) take(last)
  return found
}

/** How long rendering may keep the event loop, in milliseconds. */
const TURN_MS = 8

/**
 * Calls `render` for each row, in turns of the event loop that no other rendering shares: what many readers asked for is
 * often ready at the same moment.
 */
export async function inTurns<T>(
  rows: readonly NumberedRow[],
  render: (row: NumberedRow) => T,
): Promise<T[]> {
  const rendered: T[] = []
  while (rendered.length < rows.length) {
    await inOwnTurn(() => {
      const until = performance.now() + TURN_MS
      for (const row of rows.slice(rendered.length)) {
        rendered.push(render(row))
        if (performance.now() > until) break
      }
    })
  }
  return rendered
}

/** Makes the function that renders a row as HTML, with the steps that the index knows so far. */
export function rowRenderer(index: LineIndex): (row: NumberedRow) => string {
  const isName = stepNames(index.steps)
  return ({ row, bytes }) => rowHtml(bytes, row, index.attemptOf(row), isName)
}

/** Key of the step that a row belongs to; null if it is Conveyor's own line. */
export function stepOfRow({ row, bytes }: NumberedRow, index: LineIndex): string | null {
  const parsed = parseRow(bytes)
  return 'step' in parsed ? stepKey({ attempt: index.attemptOf(row), number: parsed.step }) : null
}

const utf8 = new TextDecoder()

/** A row as data: what a terminal would show, without colours. */
export function lineJson({ row, bytes }: NumberedRow, index: LineIndex): LogLineJson {
  const parsed = parseRow(bytes)
  const step = 'step' in parsed ? stepKey({ attempt: index.attemptOf(row), number: parsed.step }) : null
  const text = parsed.kind === 'output' || parsed.kind === 'detail' ? parsed.text : withoutNumber(bytes, step)
  return {
    number: row,
    step,
    seconds: parsed.kind === 'output' ? parsed.seconds : null,
    text: renderTerminalLine(utf8.decode(text))
      .map((run) => run.text)
      .join(''),
  }
}

function withoutNumber(bytes: Uint8Array, step: string | null): Uint8Array {
  return step === null ? bytes : bytes.subarray(bytes.indexOf(0x20) + 1)
}
