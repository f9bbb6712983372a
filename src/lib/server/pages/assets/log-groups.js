// @ts-check
/** @typedef {import('./log-live.js').StepView} StepView */

/** Rows in one block: the browser skips the layout of blocks that are not on the screen. */
const BLOCK = 200

/** All rows of a log as elements, by step or as they came. */
export class GroupedLog {
  /** @type {HTMLElement} */ #root
  /** @type {Map<string, HTMLDetailsElement>} */ #steps = new Map()
  /** @type {Map<Element, HTMLElement>} The last block of each group. */ #blocks = new Map()
  /** @type {StepView[]} */ #views = []
  /** Steps that somebody opened or closed stay so. @type {WeakSet<Element>} */ #touched = new WeakSet()
  /** Whether steps close when they end. */
  folds = false
  isFlat = false
  total = 0

  /** @param {HTMLElement} root with what the server rendered */
  constructor(root) {
    this.#root = root
    for (const group of /** @type {NodeListOf<HTMLDetailsElement>} */ (root.querySelectorAll('details.g'))) {
      const { s: key = '', state = '' } = group.dataset
      this.#steps.set(key, group)
      const rows = [...group.querySelectorAll('.l')].map((row) => Number(row.id.slice(1)))
      const html = group.querySelector('summary')?.innerHTML ?? ''
      this.#views.push({ key, state, first: rows[0] ?? 0, last: rows.at(-1) ?? 0, html })
    }
    for (const group of root.children) {
      const last = group.querySelector(':scope > .rows > .b:last-child')
      if (last instanceof HTMLElement) this.#blocks.set(group, last)
    }
    this.total = root.querySelectorAll('.l').length
    root.addEventListener('click', ({ target }) => {
      const summary = target instanceof Element ? target.closest('summary') : null
      if (summary?.parentElement) this.#touched.add(summary.parentElement)
    })
  }

  /** @param {string} html @param {StepView[]} steps those that changed */
  append(html, steps) {
    for (const view of steps) this.#update(view)
    const template = document.createElement('template')
    template.innerHTML = html
    const rows = [...template.content.children]
    this.#place(rows)
    this.total += rows.length
    return rows.length
  }

  /** @param {Element[]} rows */
  #place(rows) {
    for (const row of rows) this.#blockFor(this.#groupOf(row)).append(row)
  }

  /** @param {Element} group */
  #blockFor(group) {
    const last = this.#blocks.get(group)
    if (last && last.childElementCount < BLOCK) return last
    const block = document.createElement('div')
    block.className = 'b'
    group.querySelector(':scope > .rows')?.append(block)
    this.#blocks.set(group, block)
    return block
  }

  /** @param {Element} row @returns {Element} */
  #groupOf(row) {
    const key = row instanceof HTMLElement ? row.dataset.s : undefined
    if (this.isFlat || key === undefined) {
      const last = this.#root.lastElementChild
      // Blank lines are between steps.
      if (last && row.classList.contains('e')) return last
      return last?.matches('div.g') ? last : this.#add('div', '')
    }
    return this.#steps.get(key) ?? this.#stepGroup(key)
  }

  /** @param {string} key @returns {HTMLDetailsElement} */
  #stepGroup(key) {
    const group = /** @type {HTMLDetailsElement} */ (this.#add('details', '<summary></summary>'))
    group.dataset.s = key
    this.#steps.set(key, group)
    const view = this.#views.find((each) => each.key === key)
    if (view) this.#show(group, view)
    return group
  }

  /** @param {string} name @param {string} before */
  #add(name, before) {
    const group = document.createElement(name)
    group.className = name === 'div' ? 'g own' : 'g'
    group.innerHTML = `${before}<div class="rows"></div>`
    this.#root.append(group)
    return group
  }

  /** @param {StepView} view */
  #update(view) {
    const at = this.#views.findIndex(({ key }) => key === view.key)
    if (at < 0) this.#views.push(view)
    else this.#views[at] = view
    const group = this.#steps.get(view.key)
    if (group) this.#show(group, view)
  }

  /** @param {HTMLDetailsElement} group @param {StepView} view */
  #show(group, { state, html }) {
    const before = group.dataset.state
    group.dataset.state = state
    const summary = group.querySelector('summary')
    if (summary && summary.innerHTML !== html) summary.innerHTML = html
    if (this.#touched.has(group) || before === state) return
    if (state === 'failed' || state === 'running') group.open = true
    else if (this.folds && before === 'running') group.open = false
  }

  /** Steps, in the order in which they began. */
  get steps() {
    return this.#views
  }

  /** Shows the rows by step, or as they came. */
  toggleFlat() {
    const rows = /** @type {HTMLElement[]} */ ([...this.#root.querySelectorAll('.l')])
    rows.sort((a, b) => Number(a.id.slice(1)) - Number(b.id.slice(1)))
    const open = new Set(
      [...this.#steps.values()].filter((group) => group.open).map(({ dataset }) => dataset.s),
    )
    this.isFlat = !this.isFlat
    this.#steps.clear()
    this.#blocks.clear()
    this.#root.replaceChildren()
    this.#root.classList.toggle('flat', this.isFlat)
    this.#place(rows)
    for (const [key, group] of this.#steps) if (open.has(key)) group.open = true
  }

  /** @param {number} row @returns {Promise<HTMLElement | null>} */
  async show(row) {
    const element = this.find(row)
    const group = element?.closest('details')
    if (group) group.open = true
    // A name is shown by the summary instead.
    const target = element?.offsetParent === null && group ? group.querySelector('summary') : element
    target?.scrollIntoView({ block: 'center' })
    return element
  }

  /** @param {number} row */
  find(row) {
    return document.getElementById(`L${row}`)
  }

  openAll() {
    const groups = [...this.#steps.values()]
    const isOpen = groups.every((group) => group.open)
    for (const group of groups) group.open = !isOpen
  }

  scrollToEnd() {
    scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' })
  }
}
