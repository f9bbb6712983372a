import { type LogStep, stepKey } from '../../../core/build-log/plain-log.ts'
import { batches } from '../../../util/collections/batches.ts'
import type { LineIndex } from '../../logs/line-index.ts'
import { type NumberedRow, stepOfRow } from '../../logs/read-rows.ts'
import { stepView } from '../../logs/step-html.ts'
import { type Html, html, raw } from '../html.ts'

/** Rows in one block; assets/log-groups.js has the same number. */
const BLOCK = 200

/** A row, and its HTML. */
interface RenderedRow extends NumberedRow {
  html: string
}

/** The part of a log that comes with the page: readable without scripts, grouped as assets/log-groups.js does it. */
export interface LogStart {
  /** Path of the log below the server's address. */
  url: string
  rows: readonly RenderedRow[]
  /** Whether there is no more. */
  isComplete: boolean
  /** Whether the build has ended. */
  isEnded: boolean
  /** Whether there may be more later. */
  isFollowed: boolean
}

interface Group {
  step: LogStep | null
  rows: RenderedRow[]
}

export function logHtml({ url, rows, isComplete, isEnded, isFollowed }: LogStart, index: LineIndex): Html {
  const next = (rows.at(-1)?.row ?? 0) + 1
  return html`<section class="log" aria-labelledby="log-title">
<div class="logbar"><h2 id="log-title">Log</h2>
<form role="search" id="log-search" data-script hidden><input type="search" placeholder="Search" aria-label="Search the log" maxlength="200" autocomplete="off" spellcheck="false"><output></output><button type="button" data-key="N" aria-label="Previous line with this text">↑</button><button type="button" data-key="n" aria-label="Next line with this text">↓</button></form>
<div class="tools">
${TOOLS.map(({ id, key, label, title, on }) => html`<button type="button" id="${id}" data-key="${key}" title="${title} (${key})"${on !== undefined && html` aria-pressed="${String(on)}"`} data-script hidden>${label}</button>\n`)}<a class="button" href="${url}${!isEnded && '?follow=false'}">Raw</a>
<a class="button" href="${url}?download=true&amp;follow=false">Download</a>
</div></div>
<p id="log-trouble" role="status" class="error" hidden></p>
<div id="log" data-url="${url}" data-next="${next}" data-complete="${String(isComplete)}" data-running="${String(!isEnded)}" data-ended="${String(!isFollowed)}" role="log" aria-live="off" aria-label="Build log">${groupsOf(rows, index).map((group) => groupHtml(group, isEnded))}</div>
${!isComplete && html`<noscript><p class="small">This is the beginning of the log. <a href="${url}">All of it as text</a></p></noscript>`}
<button type="button" id="log-more" hidden></button>
${HELP}</section>`
}

const TOOLS = [
  { id: 'log-follow', key: 'f', label: 'Follow', title: 'Follow new lines', on: false },
  { id: 'log-error', key: 'e', label: 'Next error', title: 'Next error' },
  {
    id: 'log-flat',
    key: 'g',
    label: 'Chronological',
    title: 'Show lines in the order they were written, not grouped by step',
    on: false,
  },
  { id: 'log-open', key: 'o', label: 'Expand all', title: 'Expand or collapse all steps' },
  {
    id: 'log-times',
    key: 't',
    label: 'Times',
    title: 'Show times: off, since the step started, time of day',
    on: false,
  },
  { id: 'log-wrap', key: 'w', label: 'Wrap', title: 'Wrap long lines', on: true },
  { id: 'log-keys', key: '?', label: 'Shortcuts', title: 'Keyboard shortcuts' },
]

const HELP = html`<dialog id="log-help" aria-labelledby="log-help-title"><h2 id="log-help-title">Keyboard shortcuts</h2><dl>${[
  ['e', 'next error'],
  ['/', 'search'],
  ['n', 'next match; Enter in the search'],
  ['N', 'previous match; Shift+Enter in the search'],
  ['f', 'follow new lines'],
  ['g', 'group lines by step, or show them in chronological order'],
  ['o', 'expand or collapse all steps'],
  ['t', 'show times: off, since the step started, time of day'],
  ['w', 'wrap long lines'],
  ['?', 'show this list'],
].map(
  ([key, what]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`,
)}</dl><form method="dialog"><button>Close</button></form></dialog>`

function groupsOf(rows: readonly RenderedRow[], index: LineIndex): Group[] {
  const steps = new Map(index.steps.map((step) => [stepKey(step), step]))
  const groups: Group[] = []
  const ofStep = new Map<LogStep, Group>()
  for (const row of rows) {
    const step = steps.get(stepOfRow(row, index) ?? '') ?? null
    const last = groups.at(-1)
    // Blank lines are between steps.
    if (last && row.bytes.length === 0) {
      last.rows.push(row)
      continue
    }
    let group = step === null ? (last?.step === null ? last : undefined) : ofStep.get(step)
    if (!group) {
      group = { step, rows: [] }
      groups.push(group)
      if (step !== null) ofStep.set(step, group)
    }
    group.rows.push(row)
  }
  return groups
}

function groupHtml({ step, rows }: Group, isEnded: boolean): Html {
  const blocks = Array.from(
    batches(rows, BLOCK),
    (block) => html`<div class="b">${raw(block.map((row) => row.html).join(''))}</div>`,
  )
  const body = html`<div class="rows">${blocks}</div>`
  if (step === null) return html`<div class="g own">${body}</div>`
  const view = stepView(step, isEnded)
  const isOpen = view.state === 'failed' || view.state === 'running'
  return html`<details class="g" data-s="${view.key}" data-state="${view.state}"${isOpen && raw(' open')}><summary>${raw(view.html)}</summary>${body}</details>`
}
