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
const SLOT_MS = 6000
const RENEW_MS = 2000
const ASK_MS = 1000
const SLOWEST_MS = 15_000

/**
 * Tabs tell each other which of them have a stream in the storage of the browser: since when, and when they last said so.
 * Each has an entry of its own, so that none gets lost if several are written at the same time.
 */
const SLOT = 'conveyor.stream.'
const mySlot = SLOT + Math.random().toString(36).slice(2)
/** Since when this tab has a stream; 0 if it has none. */
let mine = 0

/** Whether this tab may have a stream; asks again in time to keep it. */
function takeSlot() {
  const now = Date.now()
  try {
    let earlier = 0
    for (const [key, times] of Object.entries(localStorage)) {
      if (!key.startsWith(SLOT) || key === mySlot) continue
      const [since = 0, seen = 0] = times.split(' ').map(Number)
      // Of a tab that crashed, or of a browser that was closed.
      if (now - seen > SLOT_MS) localStorage.removeItem(key)
      // If too many took one at the same time, all agree on who was first.
      else if (!mine || since < mine || (since === mine && key < mySlot)) earlier++
    }
    if (earlier >= STREAMS) return false
    mine ||= now
    localStorage.setItem(mySlot, `${mine} ${now}`)
  } catch {
    // Without storage, tabs do not know of each other.
  }
  return true
}

function giveSlotBack() {
  if (!mine) return
  mine = 0
  try {
    localStorage.removeItem(mySlot)
  } catch {
    // As above.
  }
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
  let hasTrouble = false
  let state = ''
  let timer = 0
  let renewal = 0
  /** @type {EventSource | null} */
  let source = null
  let asking = new AbortController()

  const stop = () => {
    clearTimeout(timer)
    clearInterval(renewal)
    source?.close()
    source = null
    asking.abort()
    giveSlotBack()
  }
  const start = () => {
    stop()
    if (ended || document.hidden) return
    if (takeSlot()) stream()
    else void ask()
  }
  const keepSlot = () => {
    if (!takeSlot()) start()
  }
  const end = () => {
    ended = true
    stop()
    listener.onEnd()
  }
  const trouble = (/** @type {string} */ text) => {
    hasTrouble = text !== ''
    listener.onTrouble(text)
  }
  const works = () => {
    if (failures > 0 && hasTrouble) trouble('')
    failures = 0
  }
  /** @param {{ html: string, steps: StepView[], next: number }} rows */
  const take = (rows) => {
    works()
    if (hasTrouble && rows.html !== '') trouble('')
    next = Math.max(next, rows.next)
    listener.onRows(rows)
  }
  const again = () => {
    stop()
    failures++
    if (failures > 1) trouble('The connection is lost. Trying again…')
    timer = setTimeout(start, Math.min(SLOWEST_MS, 250 * 2 ** Math.min(failures, 8)))
  }
  const stream = () => {
    const opened = new EventSource(`${url}/lines?from=${next}`)
    source = opened
    renewal = setInterval(keepSlot, RENEW_MS)
    const on = (/** @type {string} */ name, /** @type {(data: any) => void} */ act) => {
      opened.addEventListener(name, (event) => {
        if (source === opened) act(JSON.parse(event.data))
      })
    }
    on('rows', take)
    on('head', (head) => {
      works()
      state = head.state
      listener.onHead(head)
    })
    on('notice', ({ message }) => trouble(message))
    on('end', end)
    // Not left to the browser: it gives up for good if a proxy answers with an error.
    opened.onerror = () => {
      if (source === opened) again()
    }
  }
  const ask = async () => {
    asking = new AbortController()
    const { signal } = asking
    try {
      const answer = await fetch(`${url}/lines?from=${next}&format=html`, {
        headers: { accept: 'application/json' },
        signal,
      })
      if (!answer.ok) throw new Error(`${answer.status}`)
      const lines = await answer.json()
      if (signal.aborted) return
      take(lines)
      const isOver = lines.ended && lines.next > lines.total
      if (lines.state !== state || isOver) listener.onHead({ state: lines.state, html: lines.head })
      state = lines.state
      if (isOver) return end()
      timer = setTimeout(start, lines.next <= lines.total ? 0 : ASK_MS)
    } catch {
      if (!signal.aborted) again()
    }
  }
  // A tab that is new there has a stream, too, maybe because it did not know of this one yet.
  addEventListener('storage', ({ key, oldValue, newValue }) => {
    if (source && key?.startsWith(SLOT) && oldValue === null && newValue !== null) keepSlot()
  })
  document.addEventListener('visibilitychange', start)
  addEventListener('pagehide', stop)
  addEventListener('pageshow', (event) => {
    if (event.persisted) start()
  })
  start()
}
