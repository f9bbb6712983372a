// @ts-check
// What every page does: relative times, copy buttons, and live content. Without it, pages
// are complete, only still.

const BUSY_MS = 1000
const QUIET_MS = 2000
const SLOWEST_MS = 30_000

/** `3 min ago`. Intl has the words for it, too, but takes 20 ms to load them. @param {string} iso @param {number} now */
function ago(iso, now) {
  const minutes = Math.floor((now - Date.parse(iso)) / 60_000)
  if (minutes < 1) return 'just now'
  if (minutes < 60) return `${minutes} min ago`
  if (minutes < 1440) return `${Math.floor(minutes / 60)} h ago`
  const days = Math.floor(minutes / 1440)
  return `${days} ${days === 1 ? 'day' : 'days'} ago`
}

/** The time of something that still runs: `12 s`. @param {string} iso @param {number} now */
function elapsed(iso, now) {
  const whole = Math.max(0, Math.floor((now - Date.parse(iso)) / 1000))
  const two = (/** @type {number} */ value) => String(value).padStart(2, '0')
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`
}

/** Writes times into an element. Clocks of browser and server may differ: `skew` is added to the browser's. */
const skew = 0
function writeTimes(/** @type {ParentNode} */ root = document) {
  const now = Date.now() + skew
  for (const time of root.querySelectorAll('time')) setText(time, ago(time.dateTime, now))
  for (const part of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll('[data-since]'))) {
    setText(part, elapsed(part.dataset.since ?? '', now))
  }
}

/** Changing a text to the same one would still be a change for screen readers. @param {Element} node @param {string} text */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text
}

/** Shows a state in the tab's icon. @param {string} state */
export function showState(state) {
  const link = /** @type {HTMLLinkElement | null} */ (document.querySelector('link[rel=icon]'))
  const href = link?.dataset[state]
  if (link && href && link.getAttribute('href') !== href) link.href = href
}

/**
 * Makes an element equal to another one with as few changes as possible, so that focus, selection and scroll position
 * stay: children with an id are moved, not replaced.
 * @param {Element} from @param {Element} to
 */
function morph(from, to) {
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value)
  }
  for (const { name } of [...from.attributes]) {
    // What scripts show or open stays so.
    if (!to.hasAttribute(name) && name !== 'open' && name !== 'title') from.removeAttribute(name)
  }
  /** @type {Map<string, Element>} */
  const byId = new Map()
  for (const child of from.children) if (child.id) byId.set(child.id, child)
  /** @type {ChildNode | null} */
  let at = from.firstChild
  for (const wanted of [...to.childNodes]) {
    if (wanted instanceof Element && wanted.id) {
      const known = byId.get(wanted.id)
      if (known && known !== at) from.insertBefore(known, at)
      if (known) at = known
    }
    if (at && isAlike(at, wanted)) {
      if (at instanceof Element) morph(at, /** @type {Element} */ (wanted))
      else if (at.nodeValue !== wanted.nodeValue) at.nodeValue = wanted.nodeValue
      at = at.nextSibling
    } else {
      from.insertBefore(document.importNode(wanted, true), at)
    }
  }
  while (at) {
    const next = at.nextSibling
    at.remove()
    at = next
  }
}

/** @param {Node} one @param {Node} other */
function isAlike(one, other) {
  if (one.nodeName !== other.nodeName) return false
  return !(one instanceof Element && other instanceof Element) || one.id === other.id
}

/** States of rows by id, to announce changes. @param {ParentNode} root */
function statesIn(root) {
  return new Map(
    [...root.querySelectorAll('.row[id]')].map((row) => [
      row.id,
      {
        state: row.querySelector('.state')?.textContent ?? '',
        title: row.querySelector('.title')?.textContent ?? '',
      },
    ]),
  )
}

const news = document.createElement('p')
news.id = 'news'
news.className = 'hidden'
news.setAttribute('role', 'status')

/** @param {string} text @param {'hidden' | 'lost'} look */
function say(text, look = 'hidden') {
  news.className = look
  setText(news, text)
}

/** Keeps the live parts of this page equal to what the server would send now, while somebody looks at it. */
function keepUpToDate() {
  /** @type {string | null} */
  let etag = null
  let failures = 0
  let timer = 0
  /** @type {AbortController | undefined} */
  let asking

  const wait = () => {
    clearTimeout(timer)
    if (document.hidden) return
    const isBusy = document.querySelector('[data-live] .building, [data-live] .pending') !== null
    const rest = Math.min(SLOWEST_MS, (isBusy ? BUSY_MS : QUIET_MS) * 2 ** failures)
    timer = setTimeout(look, rest)
  }
  const look = async () => {
    asking?.abort()
    const mine = new AbortController()
    asking = mine
    try {
      const answer = await fetch(location.href, {
        headers: { accept: 'text/html', ...(etag && { 'if-none-match': etag }) },
        cache: 'no-store',
        signal: mine.signal,
      })
      if (answer.status === 401 || answer.status === 403)
        return say('Logged out. Reload the page to log in.', 'lost')
      if (answer.status !== 304) {
        if (!answer.ok) throw new Error(`${answer.status}`)
        const text = await answer.text()
        if (mine.signal.aborted) return
        show(new DOMParser().parseFromString(text, 'text/html'))
        etag = answer.headers.get('etag')
      }
      if (failures > 0) say('')
      failures = 0
    } catch {
      if (mine.signal.aborted) return
      failures++
      if (failures > 1) say('The server does not respond. Trying again…', 'lost')
    }
    wait()
  }
  document.addEventListener('visibilitychange', () => {
    clearTimeout(timer)
    if (document.hidden) asking?.abort()
    else void look()
  })
  wait()
}

/** @param {Document} newer */
function show(newer) {
  const before = statesIn(document)
  const live = [...document.querySelectorAll('[data-live]')]
  const wanted = [...newer.querySelectorAll('[data-live]')]
  if (live.length !== wanted.length) return location.reload()
  prepare(newer)
  live.forEach((part, index) => {
    morph(part, /** @type {Element} */ (wanted[index]))
  })
  const changes = [...statesIn(document)].filter(
    ([id, { state }]) => before.has(id) && before.get(id)?.state !== state,
  )
  if (changes.length > 0) say(changes.map(([, { title, state }]) => `${title}: ${state}`).join(', '))
  document.title = newer.title
  const icon = newer.querySelector('link[rel=icon]')?.getAttribute('href')
  if (icon) document.querySelector('link[rel=icon]')?.setAttribute('href', icon)
}

/** What the script adds to what the server sends. @param {ParentNode} page */
export function prepare(page) {
  writeTimes(page)
  for (const button of page.querySelectorAll('[data-copy]')) button.removeAttribute('hidden')
}

/** @param {string} text */
async function copy(text) {
  // Browsers offer the clipboard over HTTPS and on localhost only.
  if (navigator.clipboard) return navigator.clipboard.writeText(text)
  const area = document.createElement('textarea')
  area.value = text
  area.className = 'hidden'
  document.body.append(area)
  area.select()
  document.execCommand('copy')
  area.remove()
}

document.addEventListener('click', async (event) => {
  const button = event.target instanceof Element ? event.target.closest('button[data-copy]') : null
  if (!(button instanceof HTMLElement)) return
  await copy(button.dataset.copy ?? '')
  say('Copied')
  button.textContent = 'Copied'
  setTimeout(() => {
    button.textContent = 'Copy'
  }, 1500)
})

// In the time zone of the reader; only when it is looked for, because the words for dates take 20 ms to load.
document.addEventListener('pointerover', ({ target }) => {
  const time = target instanceof Element ? target.closest('time') : null
  if (time && !time.title) time.title = new Date(time.dateTime).toLocaleString()
})

/** @type {HTMLFormElement | null} */
const filters = document.querySelector('form[data-filters]')
// Empty fields make no parameters, so that links to a list are short.
filters?.addEventListener('formdata', ({ formData }) => {
  for (const [name, value] of [...formData]) if (value === '') formData.delete(name)
})

document.body.append(news)
prepare(document)
setInterval(() => {
  if (!document.hidden) writeTimes()
}, 1000)
if (document.querySelector('[data-live]')) keepUpToDate()
