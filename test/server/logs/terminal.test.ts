import xterm from '@xterm/headless'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { renderTerminalLine } from '../../../src/lib/server/logs/terminal.ts'
import { threadTime } from '../../support/timing/thread-time.ts'

const ESC = '\x1b'

/** What a real terminal shows for one line. */
async function onTerminal(text: string): Promise<string> {
  const terminal = new xterm.Terminal({ cols: 600, rows: 3, allowProposedApi: true })
  await new Promise<void>((resolve) => terminal.write(text, resolve))
  const shown = terminal.buffer.active.getLine(0)?.translateToString(true) ?? ''
  terminal.dispose()
  return shown.trimEnd()
}

const shown = (text: string) =>
  renderTerminalLine(text)
    .map((run) => run.text)
    .join('')
    .trimEnd()

const isControl = (piece: string) => piece !== '\t' && piece < ' '

/** As npm, pip, apt, cargo, docker and others wrote them. */
const RECORDED = [
  `⠙ idealTree:app: sill idealTree buildDeps\r⠹ idealTree:app\r${ESC}[Kadded 214 packages in 2s`,
  `${ESC}[1mnpm${ESC}[22m ${ESC}[33mwarn${ESC}[39m ${ESC}[94mdeprecated${ESC}[39m inflight@1.0.6`,
  `     ${ESC}[90m━━━━━━━━━━━━━━━━━━━━${ESC}[0m ${ESC}[32m1.2/9.8 MB${ESC}[0m ${ESC}[31m8.0 MB/s${ESC}[0m eta ${ESC}[36m0:00:02${ESC}[0m\r${ESC}[2K     ${ESC}[90m━━━━━━━━━━━━━━━━━━━━${ESC}[0m ${ESC}[32m9.8/9.8 MB${ESC}[0m`,
  'Reading package lists... 0%\rReading package lists... 50%\rReading package lists... Done',
  '(Reading database ... \r(Reading database ... 5%\r(Reading database ... 100%\r(Reading database ... 6661 files and directories currently installed.)\r',
  `${ESC}[K    Building [=====>        ] 12/214: serde, syn\r${ESC}[K${ESC}[1m${ESC}[32m   Compiling${ESC}[0m serde v1.0.200`,
  'Receiving objects:  10% (1/10)\rReceiving objects: 100% (10/10), done.',
  'spinner |\b/\b-\b\\\b done',
  `a\tb\rX`,
  `${ESC}]0;title\x07text after a title`,
  `${ESC}(Btext${ESC}[?25l hidden cursor ${ESC}[?25h`,
  `${ESC}[10Gten${ESC}[3Dx${ESC}[2Cy`,
  `日本語テスト\r英`,
  `abcdef\r${ESC}[3Pxyz`,
]

describe('a line as a terminal shows it', () => {
  it.each(RECORDED.map((text) => [text]))('%j', async (text) => {
    expect(shown(text)).toBe(await onTerminal(text))
  })

  it('is the same for generated text, controls and sequences', async () => {
    const sequences = [
      'K',
      '0K',
      '1K',
      '2K',
      '5G',
      'G',
      '3C',
      'C',
      '2D',
      'D',
      '2P',
      '3X',
      '1m',
      '31;4m',
      '?25l',
      '0 q',
    ]
    const piece = fc.oneof(
      fc.string({ unit: 'grapheme-ascii', maxLength: 8 }),
      fc.constantFrom('\r', '\b', '\t', '\0', '\x07', '\x0e\x0f'),
      fc.constantFrom(...sequences.map((sequence) => `${ESC}[${sequence}`)),
      fc.constantFrom('日', '本語', 'é', 'ü', '┃'),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 14 }), async (pieces) => {
        const text = pieces.join('')
        // Text without controls stays as it is; only the browser gives tabs a width.
        const expected = pieces.some(isControl) ? await onTerminal(text) : text.trimEnd()
        expect(shown(text)).toBe(expected)
      }),
      { numRuns: 400 },
    )
  })

  it('has colours and styles as classes', () => {
    const styles = (text: string) => renderTerminalLine(text).map((run) => [run.text, run.style])
    expect(styles(`a${ESC}[31mb${ESC}[0mc`)).toEqual([
      ['a', ''],
      ['b', 'f1'],
      ['c', ''],
    ])
    expect(styles(`${ESC}[1;4;92;44mx`)).toEqual([['x', 'f10 g4 a1 a4']])
    expect(styles(`${ESC}[38;5;196mx${ESC}[38;2;0;200;0my${ESC}[38:2::90:90:250mz${ESC}[39mw`)).toEqual([
      ['x', 'f9'],
      ['y', 'f2'],
      ['z', 'f12'],
      ['w', ''],
    ])
    expect(styles(`${ESC}[38;5;244mgrey${ESC}[7;9;22minverse`)).toEqual([
      ['grey', 'f8'],
      ['inverse', 'f8 a7 a9'],
    ])
  })

  it('has hyperlinks to http and https only', () => {
    const link = (uri: string) =>
      renderTerminalLine(`${ESC}]8;;${uri}${ESC}\\text${ESC}]8;;${ESC}\\`)[0]?.link
    expect(link('https://example.com/a')).toBe('https://example.com/a')
    expect(link('javascript:alert(1)')).toBe(null)
    expect(link('file:///etc/passwd')).toBe(null)
  })

  it('takes any text in time proportional to its length', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        renderTerminalLine(text)
      }),
    )
    const hostile = [
      `${ESC}[`.repeat(16_000),
      `${ESC}]`.repeat(16_000),
      `${ESC}[4000C\r`.repeat(4000),
      '\b'.repeat(32_000),
      'a'.repeat(16_000) + `${ESC}[1K`.repeat(4000),
      `${'a'.repeat(16_000)}\r${`${ESC}[4096X`.repeat(2300)}`,
      `${'a'.repeat(16_000)}\r${`${ESC}[P`.repeat(5300)}`,
      `${ESC}[4096Ga${ESC}[2K`.repeat(2700),
      '\t'.repeat(16_000) + `a${ESC}[2K`.repeat(3200),
      `${'\x9d'.repeat(16_000)}${ESC}`,
      `${'\x90'.repeat(16_000)}${ESC}q`,
    ]
    const taken = threadTime()
    for (const text of hostile) renderTerminalLine(text)
    expect(taken()).toBeLessThan(800)
  })
})
