// @ts-check

/**
 * @typedef {{ key: string, state: string, first: number, last: number, html: string }} StepView
 * @typedef {object} Listener
 * @property {(rows: { html: string, steps: StepView[], next: number }) => void} onRows
 * @property {(head: { state: string, html: string }) => void} onHead
 * @property {() => void} onEnd
 * @property {(text: string) => void} onTrouble what is wrong, empty once it works again
 */

/** Browsers open six connections to a server over HTTP/1.1; these many tabs may keep one. The others ask. */
const STREAMS = 4
const SLOTS = 'conveyor.streams'
const SLOT_MS = 6000
const RENEW_MS = 2000
const ASK_MS = 1000
const SLOWEST_MS = 15_000
const me = String(Math.random()).slice(2)

/** @returns {Record<string, number>} when each tab last said that it has a stream */
function readSlots() {
  const now = Date.now()
  try {
    const all = Object.entries(JSON.parse(localStorage.getItem(SLOTS) ?? '{}'))
    return Object.fromEntries(all.filter(([, at]) => now - Number(at) < SLOT_MS))
  } catch {
    return {}
  }
}

/** @param {Record<string, number>} slots */
function writeSlots(slots) {
  try {
    localStorage.setItem(SLOTS, JSON.stringify(slots))
  } catch {
    // Without storage, tabs do not know of each other.
  }
}

/** Whether this tab may have a stream; asks again in time to keep it. */
function takeSlot() {
  const slots = readSlots()
  if (!(me in slots) && Object.keys(slots).length >= STREAMS) return false
  writeSlots({ ...slots, [me]: Date.now() })
  return true
}

function giveSlotBack() {
  const { [me]: mine, ...others } = readSlots()
  if (mine !== undefined) writeSlots(others)
}

/**
 * Follows a log from a row on while the tab is visible, until the build has ended. Resumes at the row where it stopped,
 * after the tab was hidden, the connection was lost, or the server restarted.
 * @param {string} url of the log @param {number} first @param {Listener} listener
 */
export function follow(url, first, listener) {
  let next = first
  let ended = false
  let failures = 0
  let state = ''
  let timer = 0
  let renewal = 0
  /** @type {EventSource | null} */
  let source = null

  const stop = () => {
    clearTimeout(timer)
    clearInterval(renewal)
    source?.close()
    source = null
    giveSlotBack()
  }
  const end = () => {
    ended = true
    stop()
    listener.onEnd()
  }
  /** @param {{ html: string, steps: StepView[], next: number }} rows */
  const take = (rows) => {
    if (failures > 0) listener.onTrouble('')
    failures = 0
    next = Math.max(next, rows.next)
    listener.onRows(rows)
  }
  const again = () => {
    stop()
    failures++
    if (failures > 1) listener.onTrouble('The connection is lost. Trying again…')
    timer = setTimeout(start, Math.min(SLOWEST_MS, 250 * 2 ** Math.min(failures, 8)))
  }
  const stream = () => {
    const opened = new EventSource(`${url}/lines?from=${next}`)
    source = opened
    renewal = setInterval(takeSlot, RENEW_MS)
    const on = (/** @type {string} */ name, /** @type {(data: any) => void} */ act) => {
      opened.addEventListener(name, (event) => {
        if (source === opened) act(JSON.parse(event.data))
      })
    }
    on('rows', take)
    on('head', (head) => {
      state = head.state
      listener.onHead(head)
    })
    on('end', end)
    // Not left to the browser: it gives up for good if a proxy answers with an error.
    opened.onerror = () => {
      if (source === opened) again()
    }
  }
  const ask = async () => {
    try {
      const answer = await fetch(`${url}/lines?from=${next}&format=html`, {
        headers: { accept: 'application/json' },
      })
      if (!answer.ok) throw new Error(`${answer.status}`)
      const lines = await answer.json()
      if (ended || document.hidden) return
      take(lines)
      if (lines.state !== state) listener.onHead({ state: lines.state, html: lines.head })
      state = lines.state
      if (lines.ended && lines.next > lines.total) return end()
      timer = setTimeout(start, lines.next <= lines.total ? 0 : ASK_MS)
    } catch {
      again()
    }
  }
  const start = () => {
    if (ended || document.hidden) return
    if (takeSlot()) stream()
    else void ask()
  }
  document.addEventListener('visibilitychange', () => {
    stop()
    start()
  })
  addEventListener('pagehide', stop)
  addEventListener('pageshow', (event) => {
    if (event.persisted) start()
  })
  start()
}
