// @ts-check
/** @typedef {{ show(row: number): Promise<HTMLElement | null>, find(row: number): HTMLElement | null }} View */

const WAIT_MS = 150

/** The search in a log: the server finds the rows, in all of it. */
export class LogSearch {
  /** @type {string} */ #url
  /** @type {() => View} */ #view
  /** @type {(row: number) => void} */ #onHit
  /** @type {HTMLInputElement} */ #input
  /** @type {HTMLOutputElement} */ #count
  /** @type {AbortController | undefined} */ #asking
  /** @type {number[]} */ #rows = []
  #total = 0
  #at = -1
  #asked = ''
  #timer = 0

  /** @param {HTMLElement} form @param {string} url @param {() => View} view @param {(row: number) => void} onHit */
  constructor(form, url, view, onHit) {
    this.#url = url
    this.#view = view
    this.#onHit = onHit
    this.#input = /** @type {HTMLInputElement} */ (form.querySelector('input'))
    this.#count = /** @type {HTMLOutputElement} */ (form.querySelector('output'))
    this.#input.addEventListener('input', () => {
      clearTimeout(this.#timer)
      this.#timer = setTimeout(() => this.#run(), WAIT_MS)
    })
    this.#input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') {
        event.preventDefault()
        void this.step(event.shiftKey ? -1 : 1)
      } else if (event.key === 'Escape') {
        this.#input.value = ''
        void this.#run()
        this.#input.blur()
      }
    })
  }

  focus() {
    this.#input.focus()
    this.#input.select()
  }

  async #run() {
    clearTimeout(this.#timer)
    const text = this.#input.value
    if (text === this.#asked) return
    this.#asked = text
    this.#asking?.abort()
    this.#rows = []
    this.#at = -1
    if (text === '') {
      this.#count.value = ''
      this.mark()
      return
    }
    const mine = new AbortController()
    this.#asking = mine
    this.#count.value = '…'
    try {
      const { rows, total } = await this.find(text, 1, mine.signal)
      this.#rows = rows
      this.#total = total
      if (total === 0) this.#count.value = 'no lines'
      else await this.#go(0)
    } catch {
      if (mine.signal.aborted) return
      this.#asked = ''
      this.#count.value = 'search failed'
    }
    this.mark()
  }

  /** @param {string} text @param {number} from @param {AbortSignal} [signal] */
  async find(text, from, signal) {
    const query = new URLSearchParams({ q: text, from: String(from) })
    const answer = await fetch(`${this.#url}/search?${query}`, {
      headers: { accept: 'application/json' },
      ...(signal && { signal }),
    })
    if (!answer.ok) throw new Error(`${answer.status}`)
    const { lines, total } = /** @type {{ lines: number[], total: number }} */ (await answer.json())
    return { rows: lines, total }
  }

  /** @param {1 | -1} by */
  async step(by) {
    if (this.#asked !== this.#input.value) return this.#run()
    if (this.#rows.length === 0) return
    await this.#go((this.#at + by + this.#rows.length) % this.#rows.length)
  }

  /** @param {number} at */
  async #go(at) {
    this.#at = at
    const row = this.#rows[at]
    if (row === undefined) return
    const listed = this.#total > this.#rows.length ? ` (first ${this.#rows.length})` : ''
    this.#count.value = `${at + 1} of ${this.#total.toLocaleString('en')} ${this.#total === 1 ? 'line' : 'lines'}${listed}`
    this.#onHit(row)
    await this.#view().show(row)
    this.mark()
  }

  /** Marks the text in the rows that are on the page. */
  mark() {
    if (!('highlights' in CSS)) return
    const text = this.#asked.toLowerCase()
    /** @type {Range[]} */
    const ranges = []
    for (const row of text === '' ? [] : this.#rows) {
      const element = this.#view().find(row)
      if (element) ranges.push(...rangesOf(element, text))
      if (ranges.length > 2000) break
    }
    CSS.highlights.set('hit', new Highlight(...ranges))
  }
}

/** @param {Element} element @param {string} text in lower case @returns {Range[]} */
function rangesOf(element, text) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT)
  /** @type {Range[]} */
  const ranges = []
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const value = (node.nodeValue ?? '').toLowerCase()
    for (let at = value.indexOf(text); at >= 0; at = value.indexOf(text, at + text.length)) {
      if (at + text.length > (node.nodeValue ?? '').length) break
      const range = new Range()
      range.setStart(node, at)
      range.setEnd(node, at + text.length)
      ranges.push(range)
    }
  }
  return ranges
}
