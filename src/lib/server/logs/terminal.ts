/** A run of characters that look the same. */
export interface TerminalRun {
  text: string
  /** CSS classes, separated by spaces; empty for plain text. */
  style: string
  /** Target of a hyperlink that the program asked for (OSC 8); null if there is none, or it is not http(s). */
  link: string | null
}

interface Style {
  fg: number | null
  bg: number | null
  /** SGR codes 1 to 9 that are set. */
  flags: Set<number>
  link: string | null
}

/** No line moves the cursor further to the right than this by escape sequences. */
const MAX_COLUMN = 4096
const MAX_LINK = 2000
/**
 * How many cells the controls of a line may skip, erase or move in all; those after them do nothing. Otherwise a few bytes
 * could erase thousands of cells again and again.
 */
const MAX_WORK = 64 * 1024

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a terminal interprets
const SPECIAL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/
// CSI; OSC, DCS, SOS, PM and APC up to their end; other escapes; one control; or text. No string contains the beginning
// of another one, or each of many unfinished ones would be looked through up to the end of the line.
const TOKENS =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a terminal interprets
  /(?:\x1b\[|\x9b)([0-?]*)[ -/]*([@-~]?)|(?:\x1b\]|\x9d)([^\x07\x1b\x90\x98\x9c-\x9f]*)(?:\x07|\x1b\\|\x9c|$)|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x90\x98\x9c-\x9f]*(?:\x1b\\|\x9c|$)|\x1b[ -/]*[0-~]?|[\x00-\x1f\x7f-\x9f]|[^\x00-\x1f\x7f-\x9f]+/g

/**
 * Renders a line as a terminal shows it in the end: colours and styles as classes, carriage returns, backspaces and the
 * movements of the cursor within the line; every other escape sequence is dropped. Styles do not carry over to the next
 * line. Takes time in proportion to the text.
 */
export function renderTerminalLine(text: string): TerminalRun[] {
  if (!SPECIAL.test(text)) return text === '' ? [] : [{ text, style: '', link: null }]
  const line = new Line()
  for (const [token, parameters = '', final, command] of text.matchAll(TOKENS)) {
    if (final !== undefined) line.control(final, parameters)
    else if (command !== undefined) line.command(command)
    else if (token.length === 1 && SPECIAL.test(token)) line.move(token)
    else if (token === '\t') line.tab()
    else if (!token.startsWith('\x1b') && !SPECIAL.test(token)) line.write(token)
  }
  return line.runs()
}

/** Characters without a width of their own, which join the one before. */
const COMBINING = /^(?:\p{Mn}|\p{Me}|\u200d|\ufe0e|\ufe0f)$/u
/** Characters two columns wide. */
const WIDE =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]$|^\p{Emoji_Presentation}$/u

interface Cell {
  /** Empty for the second column of a wide character. */
  text: string
  style: string
  link: string | null
}

const BLANK: Cell = { text: ' ', style: '', link: null }

class Line {
  readonly #cells: Cell[] = []
  #column = 0
  #style: Style = plain()
  #classes = ''
  #work = 0

  /** Whether a control may touch so many more cells. */
  #affords(cells: number): boolean {
    this.#work += Math.max(0, cells)
    return this.#work <= MAX_WORK
  }

  write(text: string): void {
    for (const character of text) {
      const before = this.#cells[this.#column - 1]
      if (character > '\u02ff' && COMBINING.test(character)) {
        if (before && before.text.length < 16) before.text += character
        continue
      }
      this.#put(character)
      if (character > '\u10ff' && WIDE.test(character)) this.#put('')
    }
  }

  #put(text: string): void {
    if (!this.#affords(this.#column - this.#cells.length))
      this.#column = Math.min(this.#column, this.#cells.length)
    while (this.#cells.length < this.#column) this.#cells.push({ ...BLANK })
    // Half a wide character disappears.
    if (text !== '' && this.#cells[this.#column]?.text === '') this.#blank(this.#column - 1)
    if (this.#cells[this.#column + 1]?.text === '') this.#blank(this.#column + 1)
    this.#cells[this.#column++] = { text, style: this.#classes, link: this.#style.link }
  }

  #blank(column: number): void {
    if (column >= 0 && column < this.#cells.length) this.#cells[column] = { ...BLANK }
  }

  tab(): void {
    this.#column = (Math.floor(this.#column / 8) + 1) * 8
  }

  move(control: string): void {
    if (control === '\r') this.#column = 0
    else if (control === '\b') this.#column = Math.max(0, this.#column - 1)
  }

  control(final: string, parameters: string): void {
    const count = Math.min(MAX_COLUMN, Math.max(1, Number.parseInt(parameters, 10) || 1))
    if (final === 'm') this.#restyle(parameters)
    else if (final === 'K') this.#erase(parameters)
    else if (final === 'G') this.#column = count - 1
    else if (final === 'C') this.#column = Math.max(this.#column, Math.min(MAX_COLUMN, this.#column + count))
    else if (final === 'D') this.#column = Math.max(0, this.#column - count)
    else if (final === 'P') this.#remove(count)
    else if (final === 'X') this.#blankAll(this.#column, Math.min(this.#column + count, this.#cells.length))
  }

  #remove(count: number): void {
    if (this.#affords(this.#cells.length - this.#column)) this.#cells.splice(this.#column, count)
  }

  #blankAll(from: number, to: number): void {
    if (this.#affords(to - from)) for (let at = from; at < to; at++) this.#blank(at)
  }

  #erase(parameters: string): void {
    if (parameters === '' || parameters === '0')
      this.#cells.length = Math.min(this.#cells.length, this.#column)
    else if (parameters === '1') this.#blankAll(0, Math.min(this.#column + 1, this.#cells.length))
    else if (parameters === '2') this.#cells.length = 0
  }

  /** OSC 8 begins or ends a hyperlink; all other commands are dropped. */
  command(text: string): void {
    const uri = /^8;[^;]*;(.*)$/.exec(text)?.[1]
    if (uri === undefined) return
    const isWeb = /^https?:\/\/[^\s]+$/i.test(uri) && uri.length <= MAX_LINK
    this.#style.link = isWeb ? uri : null
  }

  #restyle(parameters: string): void {
    if (/[<-?]/.test(parameters)) return // private: not SGR
    applySgr(this.#style, parameters)
    this.#classes = classesOf(this.#style)
  }

  runs(): TerminalRun[] {
    const runs: TerminalRun[] = []
    for (const { text, style, link } of this.#cells) {
      const last = runs.at(-1)
      if (last && last.style === style && last.link === link) last.text += text
      else runs.push({ text, style, link })
    }
    return runs
  }
}

function plain(): Style {
  return { fg: null, bg: null, flags: new Set(), link: null }
}

/** ECMA-48's SGR, with the colours of xterm. */
function applySgr(style: Style, parameters: string): void {
  const codes = parameters.split(';', 64)
  for (let at = 0; at < codes.length; at++) {
    const [head = '', ...sub] = (codes[at] ?? '').split(':')
    const code = Number(head || 0)
    if (code === 38 || code === 48) {
      // 38;5;N and 38;2;R;G;B, or with colons: then 38:2::R:G:B has an empty colour space.
      const rest = sub.length > 0 ? sub : codes.slice(at + 1, at + 5)
      const { colour, used } = extendedColour(rest, sub.length > 0)
      if (sub.length === 0) at += used
      if (colour !== null) style[code === 38 ? 'fg' : 'bg'] = colour
    } else if (code === 4 && sub[0] === '0') style.flags.delete(4)
    else applyCode(style, code)
  }
}

function applyCode(style: Style, code: number): void {
  const { flags } = style
  if (code === 0) {
    style.fg = style.bg = null
    flags.clear()
  } else if (code <= 9) flags.add(code)
  else if (code === 21) flags.add(4)
  else if (code === 22) {
    flags.delete(1)
    flags.delete(2)
  } else if (code >= 23 && code <= 29) flags.delete(code - 20)
  else if (code >= 30 && code <= 37) style.fg = code - 30
  else if (code === 39) style.fg = null
  else if (code >= 40 && code <= 47) style.bg = code - 40
  else if (code === 49) style.bg = null
  else if (code >= 90 && code <= 97) style.fg = code - 82
  else if (code >= 100 && code <= 107) style.bg = code - 92
}

function extendedColour(rest: string[], colons: boolean): { colour: number | null; used: number } {
  if (rest[0] === '5') return { colour: nearest256(Number(rest[1] || 0)), used: 2 }
  if (rest[0] !== '2') return { colour: null, used: 1 }
  const from = colons && rest.length >= 5 ? 2 : 1
  const [red = 0, green = 0, blue = 0] = rest.slice(from, from + 3).map((value) => Number(value || 0))
  return { colour: nearest(red, green, blue), used: 4 }
}

/** One of the 16 colours, which the page defines so that they are legible, for one of 256. */
function nearest256(index: number): number | null {
  if (!(index >= 0 && index <= 255)) return null
  if (index < 16) return index
  if (index >= 232) {
    const grey = 8 + (index - 232) * 10
    return nearest(grey, grey, grey)
  }
  const level = (value: number) => (value === 0 ? 0 : 55 + value * 40)
  const cube = index - 16
  return nearest(level(Math.floor(cube / 36)), level(Math.floor(cube / 6) % 6), level(cube % 6))
}

/** By hue first, as it carries the meaning: a pale red is bright red, not grey. */
function nearest(red: number, green: number, blue: number): number {
  const high = Math.max(red, green, blue)
  const low = Math.min(red, green, blue)
  if (high - low < 32) return high < 64 ? 0 : high < 178 ? 8 : high < 242 ? 7 : 15
  const stretch = (value: number) => ((value - low) / (high - low)) * 255
  const bits = (stretch(red) > 127 ? 1 : 0) + (stretch(green) > 127 ? 2 : 0) + (stretch(blue) > 127 ? 4 : 0)
  return high > 215 || low > 100 ? bits + 8 : bits
}

/** `f1`: foreground; `g1`: background; `a1`: bold, and so on by SGR code. */
function classesOf({ fg, bg, flags }: Style): string {
  const classes = [...flags].filter((flag) => SHOWN.has(flag)).sort((a, b) => a - b)
  return [
    ...(fg === null ? [] : [`f${fg}`]),
    ...(bg === null ? [] : [`g${bg}`]),
    ...classes.map((flag) => `a${flag}`),
  ].join(' ')
}

/** Bold, faint, italic, underlined, inverse, crossed out. Blinking and hiding are not for logs. */
const SHOWN = new Set([1, 2, 3, 4, 7, 9])
