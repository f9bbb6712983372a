import xterm from '@xterm/headless'
import { Chalk } from 'chalk'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { TerminalProgress } from '../../../src/lib/cli/progress/terminal.ts'

/** What a build looks like in a terminal, which here is a terminal emulator of its own. */

const LOG = `building acme/web@${'a'.repeat(40)} (branch main)
fetched 12 objects, 2.52 KiB

#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s

#2 [1/3] FROM docker.io/library/node:24
#2 CACHED

#3 [2/3] RUN npm ci
#3 0.512 downloading 10%\rdownloading 90%
#3 1.204 added 212 packages
`
const REST = `#3 DONE 1.5s

#4 [3/3] RUN npm test
#4 0.210 ✔ greets
#4 0.310 ✖ 日本語 fails
#4 ERROR: process "/bin/sh -c npm test" did not complete successfully: exit code: 1
`

function terminal(columns = 60, rows = 12) {
  const screen = new xterm.Terminal({
    cols: columns,
    rows,
    scrollback: 5000,
    allowProposedApi: true,
    convertEol: true,
  })
  let written = Promise.resolve()
  const write = (text: string, done?: () => void) => {
    written = new Promise((resolve) => screen.write(text, resolve))
    void written.then(() => done?.())
    return true
  }
  let clock = 0
  const out = { columns, rows, isTTY: true, write } as unknown as NodeJS.WriteStream
  const view = new TerminalProgress(out, {
    title: 'building acme/web:main',
    colors: new Chalk({ level: 0 }),
    now: () => clock,
    everyMs: 1_000_000,
  })
  return {
    view,
    wait: (ms: number) => {
      clock += ms
    },
    /** All rows, those that have scrolled up first. */
    async text(): Promise<string[]> {
      await written
      const { active } = screen.buffer
      const lines = Array.from(
        { length: active.length },
        (_, at) => active.getLine(at)?.translateToString(true) ?? '',
      )
      return lines.slice(0, lines.findLastIndex((line) => line !== '') + 1)
    },
  }
}

test('steps that have ended scroll up, and those that run stay below with their output', async () => {
  const { view, wait, text } = terminal()
  await view.write(Buffer.from(LOG))
  wait(2300)
  view.draw()
  expect(await text()).toEqual([
    `building acme/web@${'a'.repeat(40)} (branch main)`.slice(0, 60),
    `building acme/web@${'a'.repeat(40)} (branch main)`.slice(60),
    'fetched 12 objects, 2.52 KiB',
    ' ✔ #1 [internal] load build definition from Dockerfile 0.0s',
    ' ✔ #2 [1/3] FROM docker.io/library/node:24           CACHED',
    'building acme/web:main  2.3s',
    ' • #3 [2/3] RUN npm ci                                 2.3s',
    '   │ downloading 90%',
    '   │ added 212 packages',
  ])
  await view.end()
})

test('in the end, every step has its row, and a failed one its output', async () => {
  const { view, text } = terminal()
  await view.write(Buffer.from(LOG))
  view.draw()
  await view.write(Buffer.from(REST))
  view.draw()
  view.say('lost the connection')
  await view.end()
  expect((await text()).slice(3)).toEqual([
    ' ✔ #1 [internal] load build definition from Dockerfile 0.0s',
    ' ✔ #2 [1/3] FROM docker.io/library/node:24           CACHED',
    ' ✔ #3 [2/3] RUN npm ci                                 1.5s',
    ' ✘ #4 [3/3] RUN npm test                               0.3s',
    '   │ ✔ greets',
    '   │ ✖ 日本語 fails',
    'lost the connection',
  ])
})

test('the log may come in any pieces, and be drawn at any time: the end is the same', async () => {
  const all = Buffer.from(LOG + REST)
  const whole = terminal()
  await whole.view.write(all)
  await whole.view.end()
  const expected = await whole.text()
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 120 })), async (sizes) => {
      const { view, text } = terminal()
      let at = 0
      for (const size of sizes) {
        await view.write(all.subarray(at, at + size))
        view.draw()
        at += size
      }
      await view.write(all.subarray(at))
      await view.end()
      expect(await text()).toEqual(expected)
    }),
    { numRuns: 25 },
  )
})

test('more running steps than rows do not scroll the terminal', async () => {
  const { view, text } = terminal(60, 6)
  for (let step = 1; step <= 20; step++)
    await view.write(Buffer.from(`\n#${step} [${step}/20] RUN sleep ${step}\n#${step} 0.100 output\n`))
  for (let turn = 0; turn < 10; turn++) view.draw()
  expect((await text()).length).toBeLessThanOrEqual(6)
  await view.end()
})

test('hostile output neither moves the cursor nor breaks a row', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof(
          fc.constantFrom(
            '\x1b[2J',
            '\x1b[5A',
            '\x1b]0;title\x07',
            '\t',
            '\b',
            '\u202e',
            '漢字',
            '👩‍👩‍👧',
            'e\u0301',
          ),
          fc.string({ unit: 'binary' }),
        ),
      ),
      async (parts) => {
        const { view, text } = terminal(40, 10)
        const line = parts.join('').replaceAll('\n', ' ')
        await view.write(Buffer.from(`first line\n\n#1 [1/1] RUN make\n#1 0.100 ${line}\n`))
        view.draw()
        view.draw()
        const rows = await text()
        expect(rows[0]).toBe('first line')
        expect(rows[1]).toBe('building acme/web:main  0.0s')
        expect(rows.length).toBeLessThanOrEqual(4)
        await view.end()
      },
    ),
    { numRuns: 60 },
  )
})
