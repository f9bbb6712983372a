// @ts-check
/** @typedef {import('./log-live.js').StepView} StepView */

/** Rows that are loaded together. */
const BLOCK = 100
/** Blocks that are kept, in case somebody scrolls back. */
const KEPT = 60
/** Taller elements do not work in all browsers, in pixels. */
const TALLEST = 12_000_000
/** Steps that are listed. */
const LISTED = 40

/** A log of any length: only the rows on the screen are elements, and only those around it are loaded. */
export class VirtualLog {
  /** @type {HTMLElement} */ #root
  /** @type {string} */ #url
  #rows = document.createElement('div')
  #list = document.createElement('details')
  /** @type {Map<number, string | null>} Blocks as markup by number; null while one is loading. */ #blocks =
    new Map()
  /** @type {Map<string, StepView>} */ #steps = new Map()
  #rowHeight = 20
  #shown = ''
  #due = false
  isFlat = true
  folds = false
  total = 0

  /** @param {HTMLElement} root @param {string} url of the log @param {number} total @param {StepView[]} steps */
  constructor(root, url, total, steps) {
    this.#root = root
    this.#url = url
    this.#rows.className = 'window'
    this.#list.className = 'steps'
    root.classList.add('flat', 'virtual')
    root.replaceChildren(this.#rows)
    root.before(this.#list)
    const probe = document.createElement('div')
    probe.className = 'l'
    probe.textContent = 'M'
    this.#rows.append(probe)
    this.#rowHeight = probe.getBoundingClientRect().height || 20
    addEventListener('scroll', () => this.#soon(), { passive: true })
    addEventListener('resize', () => this.#soon())
    this.grow(total, steps)
  }

  /** @param {number} total @param {StepView[]} steps those that changed */
  grow(total, steps) {
    const last = Math.floor(Math.max(0, this.total - 1) / BLOCK)
    if (this.total % BLOCK !== 0) this.#blocks.delete(last)
    const more = Math.max(0, total - this.total)
    this.total = Math.max(this.total, total)
    this.#root.style.height = `${Math.min(TALLEST, this.total * this.#rowHeight)}px`
    for (const step of steps) this.#steps.set(step.key, step)
    if (steps.length > 0) this.#listSteps()
    this.#shown = ''
    this.#soon()
    return more
  }

  get steps() {
    return [...this.#steps.values()]
  }

  #listSteps() {
    const all = this.steps
    const failed = all.filter(({ state }) => state === 'failed')
    const listed = [...failed, ...all.filter(({ state }) => state !== 'failed')].slice(0, LISTED)
    const items = listed.map(({ first, last, state, html }) => {
      const row = state === 'failed' ? last : first
      return `<li><a href="#L${row}">${html}</a></li>`
    })
    this.#list.innerHTML = `<summary>${all.length} ${all.length === 1 ? 'step' : 'steps'}</summary><ol>${items.join('')}</ol>`
  }

  #soon() {
    if (this.#due) return
    this.#due = true
    requestAnimationFrame(() => {
      this.#due = false
      this.#draw()
    })
  }

  /** Pixels of scrolling for one pixel of rows: 1, unless the log is too tall. */
  get #scale() {
    const visible = innerHeight
    const full = this.total * this.#rowHeight
    return full <= TALLEST ? 1 : (TALLEST - visible) / (full - visible)
  }

  #draw() {
    const top = Math.max(0, -this.#root.getBoundingClientRect().top)
    const scale = this.#scale
    const position = top / scale
    const first = Math.floor(position / this.#rowHeight)
    const last = Math.min(this.total - 1, first + Math.ceil(innerHeight / this.#rowHeight))
    const from = Math.floor(Math.max(0, first - 10) / BLOCK)
    const to = Math.floor(Math.max(0, last + 10) / BLOCK)
    this.#rows.style.transform = `translateY(${Math.round(top + from * BLOCK * this.#rowHeight - position)}px)`
    const shown = []
    for (let block = from; block <= to; block++) shown.push(`${block}${this.#blocks.get(block) ? '' : '?'}`)
    if (shown.join() === this.#shown) return
    this.#shown = shown.join()
    const parts = []
    for (let block = from; block <= to; block++) parts.push(this.#block(block))
    this.#rows.replaceChildren(...parts)
    this.#root.dispatchEvent(new Event('drawn'))
  }

  /** @param {number} block */
  #block(block) {
    const element = document.createElement('div')
    element.className = 'b'
    const known = this.#blocks.get(block)
    if (known) element.innerHTML = known
    else if (known === undefined) void this.#load(block)
    const rows = Math.min(BLOCK, this.total - block * BLOCK)
    element.style.height = `${rows * this.#rowHeight}px`
    return element
  }

  /** @param {number} block */
  async #load(block) {
    this.#blocks.set(block, null)
    try {
      const from = block * BLOCK + 1
      const answer = await fetch(`${this.#url}/lines?from=${from}&to=${from + BLOCK - 1}&format=html`, {
        headers: { accept: 'application/json' },
      })
      if (!answer.ok) throw new Error(`${answer.status}`)
      const { html } = await answer.json()
      this.#blocks.set(block, html)
      for (const old of this.#blocks.keys()) {
        if (this.#blocks.size <= KEPT) break
        if (old !== block) this.#blocks.delete(old)
      }
    } catch {
      setTimeout(() => {
        this.#blocks.delete(block)
        this.#shown = ''
        this.#soon()
      }, 1000)
    }
    this.#soon()
  }

  /** @param {number} row @returns {Promise<HTMLElement | null>} once it is on the screen */
  async show(row) {
    const top = this.#root.getBoundingClientRect().top + scrollY
    const at = (row - 1) * this.#rowHeight * this.#scale
    scrollTo({ top: Math.max(0, top + at - innerHeight / 2), behavior: 'instant' })
    this.#draw()
    for (let tries = 0; tries < 100; tries++) {
      const element = this.find(row)
      if (element) return element
      await new Promise((resolve) => {
        this.#root.addEventListener('drawn', resolve, { once: true })
        setTimeout(resolve, 100)
      })
    }
    return null
  }

  /** @param {number} row */
  find(row) {
    return document.getElementById(`L${row}`)
  }

  toggleFlat() {}

  openAll() {
    this.#list.open = !this.#list.open
  }

  scrollToEnd() {
    scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' })
  }
}
