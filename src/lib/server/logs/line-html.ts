import {
  type LogRow,
  type LogStep,
  MAX_TEXT,
  parseRow,
  SHORT_TEXT,
  stepKey,
} from '../../core/build-log/plain-log.ts'
import { escapeHtml } from '../pages/html.ts'
import { renderTerminalLine, type TerminalRun } from './terminal.ts'

/** What a row is, for the viewer: its classes in assets/log.css. */
const KINDS: Record<LogRow['kind'], string> = {
  name: 'l h',
  output: 'l',
  detail: 'l d',
  end: 'l z',
  note: 'l o',
}

const utf8 = new TextDecoder()

/** Whether a text after `#5 ` is the name of that step; see stepNames. */
type IsName = (key: string, text: string) => boolean

/**
 * One row as an element `<div class="l" id="L12" data-s="5">`, with a link to itself that shows its number and, with
 * `data-t`, the seconds since its step began. `data-s` is the key of its step. All that a step writes is hostile: it is
 * escaped, and only links to http and https are links.
 */
export function rowHtml(bytes: Uint8Array, row: number, attempt: number, isName: IsName): string {
  const parsed = nameIfSo(parseRow(bytes), attempt, isName)
  const { kind } = parsed
  const step = 'step' in parsed ? ` data-s="${stepKey({ attempt, number: parsed.step })}"` : ''
  const time = kind === 'output' ? ` data-t="${parsed.seconds.toFixed(3)}"` : ''
  const blank = kind === 'note' && bytes.length === 0 ? ' e' : ''
  const failed = kind === 'end' && parsed.state === 'failed' ? ' bad' : ''
  return `<div class="${KINDS[kind]}${blank}${failed}" id="L${row}"${step}><a href="#L${row}" tabindex="-1" aria-label="Line ${row}" data-n="${row}"${time}></a>${contents(parsed)}</div>\n`
}

function nameIfSo(row: LogRow, attempt: number, isName: IsName): LogRow {
  if (row.kind !== 'detail') return row
  const key = stepKey({ attempt, number: row.step })
  const name = utf8.decode(row.text)
  return isName(key, utf8.decode(row.text.subarray(0, MAX_TEXT)))
    ? { kind: 'name', step: row.step, name }
    : row
}

function contents(row: LogRow): string {
  switch (row.kind) {
    case 'name':
      return textHtml(row.name)
    case 'end':
      return textHtml(endText(row))
    default:
      return textHtml(utf8.decode(row.text))
  }
}

function endText({ state, seconds, error }: Extract<LogRow, { kind: 'end' }>): string {
  if (state === 'failed') return `ERROR: ${error ?? ''}`
  if (state === 'done') return seconds === null ? 'DONE' : `DONE ${seconds.toFixed(1)}s`
  return state === 'cached' ? 'CACHED' : 'CANCELED'
}

/** Text as a terminal shows it, with links. */
export function textHtml(text: string): string {
  const runs = renderTerminalLine(text.replace(INVISIBLE, named))
  return runs.map(({ link, ...run }) => (link === null ? linked(run) : anchor(link, run))).join('')
}

/** Characters that reorder the text around them or have no width; they could make a line look like another one. */
const INVISIBLE = /[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g

function named(character: string): string {
  return `<U+${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}>`
}

type Run = Omit<TerminalRun, 'link'>

function span({ text, style }: Run): string {
  const escaped = escapeHtml(text)
  return style === '' ? escaped : `<span class="${style}">${escaped}</span>`
}

function anchor(url: string, run: Run): string {
  return `<a href="${escapeHtml(url)}" rel="noopener noreferrer nofollow">${span(run)}</a>`
}

const URL_IN_TEXT = /\bhttps?:\/\/[^\s<>"'`\\^{|}]{1,2000}/gi

/** A run with the addresses in it as links. */
function linked(run: Run): string {
  if (!run.text.includes('://')) return span(run)
  let html = ''
  let from = 0
  for (const { 0: found, index } of run.text.matchAll(URL_IN_TEXT)) {
    const url = withoutPunctuation(found)
    if (!URL.canParse(url)) continue
    const before = run.text.slice(from, index)
    html += (before && span({ ...run, text: before })) + anchor(url, { ...run, text: url })
    from = index + url.length
  }
  const rest = run.text.slice(from)
  return html + (rest && span({ ...run, text: rest }))
}

/** What follows an address in a sentence is not part of it; brackets are if they are in pairs. */
function withoutPunctuation(url: string): string {
  const count = (bracket: string) => url.split(bracket).length - 1
  const open: Record<string, number> = { ')': count('('), ']': count('[') }
  const closed: Record<string, number> = { ')': count(')'), ']': count(']') }
  let end = url.length
  for (; end > 0; end--) {
    const last = url[end - 1] ?? ''
    if ('.,;:!?*_~'.includes(last)) continue
    const more = (closed[last] ?? 0) - (open[last] ?? 0)
    if (more <= 0) break
    closed[last] = (closed[last] ?? 0) - 1
  }
  return url.slice(0, end)
}

/** Recognizes the rows that name a step: the first one, and its repetitions. */
export function stepNames(steps: readonly LogStep[]): IsName {
  const names = new Map(steps.map((step) => [stepKey(step), step.name]))
  return (key, text) => {
    const name = names.get(key)
    // Long names may have been cut.
    return name === text || (name !== undefined && name.length >= SHORT_TEXT && text.startsWith(name))
  }
}
