// @ts-check
import { GroupedLog } from './log-groups.js'
import { follow } from './log-live.js'
import { LogSearch } from './log-search.js'
import { VirtualLog } from './log-virtual.js'
import { prepare, showState } from './page.js'

/** Longer logs are not kept as elements. */
const MAX_ROWS = 20_000
/** Rows that are loaded at a time. */
const LOADED = 2000

const root = /** @type {HTMLElement} */ (document.getElementById('log'))
const section = /** @type {HTMLElement} */ (root.closest('section'))
const head = /** @type {HTMLElement} */ (document.getElementById('build-head'))
const { url = '', ended = 'true' } = root.dataset
let next = Number(root.dataset.next)
let isRunning = ended !== 'true'
/** @type {GroupedLog | VirtualLog} */
let view = new GroupedLog(root)

/** @param {string} id */
const control = (id) => /** @type {HTMLElement} */ (document.getElementById(id))
for (const part of section.querySelectorAll('[data-script]')) part.removeAttribute('hidden')

// Following: exactly while the end of the page is on the screen.

let following = false
let unseen = 0
const more = control('log-more')

const isAtEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 4

/** @param {boolean} on */
function setFollowing(on) {
  following = on
  view.folds = on
  if (on) unseen = 0
  control('log-follow').setAttribute('aria-pressed', String(on))
  showUnseen()
}

function showUnseen() {
  more.hidden = following || unseen === 0
  if (more.hidden) return
  more.textContent = `↓ ${unseen.toLocaleString('en')} new ${unseen === 1 ? 'line' : 'lines'}`
}

function toEnd() {
  setFollowing(true)
  view.scrollToEnd()
}

addEventListener(
  'scroll',
  () => {
    if (isRunning && isAtEnd() !== following) setFollowing(!following)
  },
  { passive: true },
)
new ResizeObserver(() => {
  if (isRunning && following) view.scrollToEnd()
}).observe(root)
more.addEventListener('click', toEnd)

// Rows.

/** @param {{ html: string, steps: import('./log-live.js').StepView[], next: number }} rows */
function take(rows) {
  const wasFollowing = following
  next = Math.max(next, rows.next)
  if (view instanceof GroupedLog && next - 1 > MAX_ROWS) {
    view = new VirtualLog(root, url, next - 1, [...view.steps, ...rows.steps])
    control('log-flat').hidden = true
  } else if (view instanceof VirtualLog) unseen += view.grow(next - 1, rows.steps)
  else unseen += view.append(rows.html, rows.steps)
  if (clock === 2) writeClock()
  if (selected) mark()
  if (wasFollowing) {
    unseen = 0
    view.scrollToEnd()
  } else if (isRunning) showUnseen()
}

/** Loads what there is beyond the part that came with the page. */
async function load() {
  for (;;) {
    const answer = await fetch(`${url}/lines?from=${next}&to=${next + LOADED - 1}&format=html`, {
      headers: { accept: 'application/json' },
    })
    if (!answer.ok) throw new Error(`${answer.status}`)
    const rows = await answer.json()
    if (head.dataset.complete !== 'true') {
      showHead({ state: rows.state, html: rows.head })
      head.dataset.complete = 'true'
    }
    if (rows.total > MAX_ROWS) {
      view = new VirtualLog(root, url, rows.total, rows.steps)
      control('log-flat').hidden = true
      next = rows.total + 1
      return
    }
    take(rows)
    unseen = 0
    if (rows.next > rows.total || rows.html === '') return
  }
}

// The state of the build.

/** @param {{ state: string, html: string }} news */
function showHead({ state, html }) {
  if (head.dataset.html === html) return
  head.dataset.html = html
  head.innerHTML = html
  prepare(head)
  showState(state)
  const { title } = /** @type {HTMLElement} */ (head.firstElementChild).dataset
  if (title) document.title = `${title} · Conveyor`
}

/** @param {string} text */
function showTrouble(text) {
  const trouble = control('log-trouble')
  trouble.textContent = text
  trouble.hidden = text === ''
}

// Links to rows: #L12 and #L12-L20.

/** @type {{ from: number, to: number } | null} */
let selected = null

function readHash() {
  const [, from, to] = /^#L(\d+)(?:-L(\d+))?$/.exec(location.hash) ?? []
  selected = from === undefined ? null : { from: Number(from), to: Number(to ?? from) }
  if (selected && selected.to < selected.from) selected = { from: selected.to, to: selected.from }
}

function mark() {
  for (const row of root.querySelectorAll('.l.sel')) row.classList.remove('sel')
  if (!selected) return
  for (let row = selected.from; row <= Math.min(selected.to, selected.from + 5000); row++) {
    view.find(row)?.classList.add('sel')
  }
}

async function toHash() {
  readHash()
  mark()
  if (!selected) return
  current = selected.from
  if (following) setFollowing(false)
  await view.show(selected.from)
  mark()
}

addEventListener('hashchange', toHash)
root.addEventListener('drawn', () => {
  mark()
  search.mark()
  if (clock === 2) writeClock()
})
root.addEventListener('click', (event) => {
  const link = event.target instanceof Element ? event.target.closest('.l > a[data-n]') : null
  if (!link) return
  event.preventDefault()
  const row = Number(link.getAttribute('data-n'))
  const [from, to] = event.shiftKey && selected ? [selected.from, row].sort((a, b) => a - b) : [row, row]
  history.replaceState(null, '', from === to ? `#L${row}` : `#L${from}-L${to}`)
  getSelection()?.removeAllRanges()
  readHash()
  current = row
  mark()
})

// Search, errors, and the times of rows.

let current = 0
const search = new LogSearch(
  control('log-search'),
  url,
  () => view,
  (row) => {
    current = row
    if (following) setFollowing(false)
  },
)

/** @type {number[] | null} */
let errors = null

async function nextError() {
  if (!errors || isRunning) {
    const failed = view.steps.filter(({ state }) => state === 'failed').map(({ last }) => last)
    for (const row of root.querySelectorAll('.l.bad')) failed.push(Number(row.id.slice(1)))
    const { rows } = await search.find('error', 1)
    errors = [...new Set([...failed, ...rows])].sort((a, b) => a - b)
  }
  const row = errors.find((each) => each > current) ?? errors[0]
  if (row === undefined) return
  history.replaceState(null, '', `#L${row}`)
  await toHash()
}

const CLOCKS = ['', 'elapsed', 'clock']
let clock = 0

function toggleTimes() {
  const hasClock = Object.keys(starts()).length > 0
  clock = (clock + 1) % (hasClock ? 3 : 2)
  root.dataset.times = CLOCKS[clock]
  control('log-times').setAttribute('aria-pressed', String(clock > 0))
  if (clock === 2) writeClock()
}

/** When steps began, by key. @returns {Record<string, string>} */
function starts() {
  return JSON.parse(/** @type {HTMLElement} */ (head.firstElementChild).dataset.starts ?? '{}')
}

function writeClock() {
  const begun = starts()
  for (const link of root.querySelectorAll('.l > a[data-t]:not([data-c])')) {
    const start = begun[link.parentElement?.dataset.s ?? '']
    if (!start) continue
    const at = new Date(Date.parse(start) + Number(link.getAttribute('data-t')) * 1000)
    link.setAttribute('data-c', at.toLocaleTimeString('en-GB'))
  }
}

const help = /** @type {HTMLDialogElement} */ (control('log-help'))
/** @type {Record<string, () => unknown>} */
const ACTIONS = {
  e: nextError,
  '/': () => search.focus(),
  n: () => search.step(1),
  N: () => search.step(-1),
  f: () => (following ? setFollowing(false) : toEnd()),
  t: toggleTimes,
  g: () => {
    view.toggleFlat()
    control('log-flat').setAttribute('aria-pressed', String(view.isFlat))
    mark()
  },
  o: () => view.openAll(),
  w: () => {
    const wraps = root.classList.toggle('nowrap')
    control('log-wrap').setAttribute('aria-pressed', String(!wraps))
  },
  '?': () => (help.open ? help.close() : help.showModal()),
}
addEventListener('keydown', (event) => {
  const { key, target } = event
  if (event.ctrlKey || event.metaKey || event.altKey) return
  if (target instanceof HTMLElement && target.matches('input, select, textarea')) return
  const act = ACTIONS[key]
  if (!act) return
  event.preventDefault()
  void act()
})
section.addEventListener('click', (event) => {
  const button = event.target instanceof Element ? event.target.closest('button[data-key]') : null
  if (button instanceof HTMLElement) void ACTIONS[button.dataset.key ?? '']?.()
})

readHash()
if (root.dataset.running === 'true' && !selected) setFollowing(true)
else setFollowing(false)
try {
  if (root.dataset.complete !== 'true') await load()
} catch {
  showTrouble('The rest of this log could not be loaded. Reload the page to try again.')
}
if (selected) await toHash()
else if (following) view.scrollToEnd()
if (isRunning) {
  follow(url, next, {
    onRows: take,
    onHead: showHead,
    onTrouble: showTrouble,
    onEnd() {
      isRunning = false
      errors = null
      root.dataset.ended = 'true'
      more.hidden = true
      control('log-follow').hidden = true
    },
  })
} else control('log-follow').hidden = true
root.dataset.ready = 'true'
