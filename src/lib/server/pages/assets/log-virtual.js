// @ts-check
/** @typedef {import('./log-live.js').StepView} StepView */

/** Rows that are loaded together. */
const BLOCK = 100
/** Blocks that are kept, in case somebody scrolls back, and characters of their markup. */
const KEPT = 60
const KEPT_SIZE = 16_000_000
/** Taller elements do not work in all browsers, in pixels. */
const TALLEST = 12_000_000
/** Steps that are listed. */
const LISTED = 40

/** Rows as markup. @typedef {{ html: string, rows: number, isLoading: boolean }} Block */

/** A log of any length: only the rows on the screen are elements, and only those around it are loaded. */
export class VirtualLog {
  /** @type {HTMLElement} */ #root
  /** @type {string} */ #url
  #rows = document.createElement('div')
  #list = document.createElement('details')
  /** @type {Map<number, Block>} By number, from 0. */ #blocks = new Map()
  /** @type {Map<number, { version: string, element: HTMLElement }>} Those on the screen. */ #drawn =
    new Map()
  /** @type {Map<string, StepView>} */ #steps = new Map()
  #rowHeight = 20
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
    probe.remove()
    addEventListener('scroll', () => this.#soon(), { passive: true })
    addEventListener('resize', () => this.#soon())
    this.grow(total, steps)
  }

  /** @param {number} total @param {StepView[]} steps those that changed */
  grow(total, steps) {
    const more = Math.max(0, total - this.total)
    this.total = Math.max(this.total, total)
    this.#root.style.height = `${Math.min(TALLEST, this.total * this.#rowHeight)}px`
    for (const step of steps) this.#steps.set(step.key, step)
    if (steps.length > 0) this.#listSteps()
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
    const to = Math.floor(Math.max(0, Math.min(this.total - 1, last + 10)) / BLOCK)
    this.#rows.style.transform = `translateY(${Math.round(top + from * BLOCK * this.#rowHeight - position)}px)`
    let hasNews = false
    for (const [block, { element }] of this.#drawn) {
      if (block >= from && block <= to) continue
      element.remove()
      this.#drawn.delete(block)
    }
    /** @type {HTMLElement | null} */
    let after = null
    for (let block = to; block >= from; block--) {
      const { element, isNew } = this.#element(block)
      if (isNew) this.#rows.insertBefore(element, after)
      hasNews ||= isNew
      after = element
    }
    if (hasNews) this.#root.dispatchEvent(new Event('drawn'))
  }

  /** What stays as it is stays the same element, so that text in it can be selected. @param {number} block */
  #element(block) {
    const known = this.#blocks.get(block)
    const rows = Math.min(BLOCK, this.total - block * BLOCK)
    // What is known of a block that has grown is shown until all of it is there.
    if ((known?.rows ?? 0) < rows && !known?.isLoading) void this.#load(block)
    const version = `${known?.rows ?? 0} of ${rows}`
    const drawn = this.#drawn.get(block)
    if (drawn?.version === version) return { element: drawn.element, isNew: false }
    drawn?.element.remove()
    const element = document.createElement('div')
    element.className = 'b'
    element.innerHTML = known?.html ?? ''
    element.style.height = `${rows * this.#rowHeight}px`
    this.#drawn.set(block, { version, element })
    return { element, isNew: true }
  }

  /** @param {number} block */
  async #load(block) {
    /** @type {Block} */
    let loading = { html: '', rows: 0, ...this.#blocks.get(block), isLoading: true }
    this.#blocks.set(block, loading)
    try {
      const first = block * BLOCK + 1
      let html = ''
      let next = first
      // One response may not have all rows, if they are long.
      for (let isMore = true; isMore; ) {
        const range = `from=${next}&to=${first + BLOCK - 1}`
        const answer = await fetch(`${this.#url}/lines?${range}&format=html`, {
          headers: { accept: 'application/json' },
        })
        if (!answer.ok) throw new Error(`${answer.status}`)
        const lines = await answer.json()
        isMore = lines.next > next && lines.next < first + BLOCK && lines.next <= lines.total
        html += lines.html
        next = lines.next
      }
      this.#blocks.delete(block)
      const hasNews = next - first > loading.rows
      loading = { html, rows: next - first, isLoading: !hasNews }
      this.#blocks.set(block, loading)
      this.#forget()
    } catch {
      // As if there were no news.
    }
    const again = () => {
      loading.isLoading = false
      this.#soon()
    }
    if (loading.isLoading) setTimeout(again, 1000)
    this.#soon()
  }

  /** Keeps what was loaded last, and what is on the screen. */
  #forget() {
    let size = 0
    for (const { html } of this.#blocks.values()) size += html.length
    for (const [block, { html, isLoading }] of this.#blocks) {
      if (this.#blocks.size <= KEPT && size <= KEPT_SIZE) break
      if (isLoading || this.#drawn.has(block)) continue
      this.#blocks.delete(block)
      size -= html.length
    }
  }

  /** @param {number} row @returns {Promise<HTMLElement | null>} once it is on the screen */
  async show(row) {
    const top = this.#root.getBoundingClientRect().top + scrollY
    const at = ((row - 1) * this.#rowHeight - innerHeight / 2) * this.#scale
    scrollTo({ top: Math.max(0, top + at), behavior: 'instant' })
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
