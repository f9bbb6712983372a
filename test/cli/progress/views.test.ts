import { Writable } from 'node:stream'
import { expect, test } from 'vitest'
import { progressView } from '../../../src/lib/cli/progress/choose.ts'
import { TerminalProgress } from '../../../src/lib/cli/progress/terminal.ts'
import type { Output, ProgressKind } from '../../../src/lib/cli/progress/view.ts'

const LOG =
  '\n#1 [1/2] FROM busybox\n#1 CACHED\n\n#2 [2/2] RUN make\n#2 0.100 \xff caf\u00e9\n#2 DONE 1.5s\nimage registry/acme/web\n'

function output(isTTY: boolean) {
  const pieces: Buffer[] = []
  const out = new Writable({
    write(chunk, _encoding, done) {
      pieces.push(Buffer.from(chunk))
      done()
    },
  })
  return {
    out: Object.assign(out, { isTTY }) as Output,
    text: () => Buffer.concat(pieces).toString('latin1'),
  }
}

async function view(kind: ProgressKind, { isTTY = false, dumb = false, noColor = false } = {}) {
  const { out, text } = output(isTTY)
  return { view: await progressView(out, 'building', { kind, environment: { dumb, noColor } }), text }
}

test('a pipe gets the log as it is, byte by byte', async () => {
  const { view: plain, text } = await view('auto')
  await plain.write(Buffer.from(LOG, 'latin1'))
  await plain.end()
  expect(text()).toBe(LOG)
})

test('a terminal gets steps, unless it is dumb or plain output is asked for', async () => {
  const steps = async (...args: Parameters<typeof view>) => {
    const { view: chosen } = await view(...args)
    await chosen.end()
    return chosen instanceof TerminalProgress
  }
  expect(await steps('auto', { isTTY: true })).toBe(true)
  expect(await steps('tty')).toBe(true)
  expect(await steps('auto', { isTTY: true, dumb: true })).toBe(false)
  expect(await steps('plain', { isTTY: true })).toBe(false)
})

test('NO_COLOR leaves the colors out, and not the steps', async () => {
  const { view: chosen, text } = await view('tty', { noColor: true })
  await chosen.write(Buffer.from(LOG, 'latin1'))
  await chosen.end()
  expect(text()).toContain('[2/2] RUN make')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that of colors
  expect(text()).not.toMatch(/\x1b\[[\d;]*m/)
})

test('JSON is one object per line: each line of the log, and each change of a step', async () => {
  const { view: json, text } = await view('json', { isTTY: true })
  await json.write(Buffer.from(LOG.slice(0, 40), 'latin1'))
  await json.write(Buffer.from(LOG.slice(40), 'latin1'))
  json.say('reconnecting')
  await json.end()
  const lines = text()
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(lines.filter(({ type }) => type === 'step')).toEqual([
    { type: 'step', step: 1, name: '[1/2] FROM busybox', state: 'running', seconds: null, error: null },
    { type: 'step', step: 1, name: '[1/2] FROM busybox', state: 'cached', seconds: null, error: null },
    { type: 'step', step: 2, name: '[2/2] RUN make', state: 'running', seconds: null, error: null },
    { type: 'step', step: 2, name: '[2/2] RUN make', state: 'done', seconds: 1.5, error: null },
  ])
  expect(lines.filter(({ type }) => type === 'log')).toHaveLength(8)
  expect(lines).toContainEqual({ type: 'log', line: 8, step: null, text: 'image registry/acme/web' })
  expect(lines.at(-1)).toEqual({ type: 'notice', text: 'reconnecting' })
})
