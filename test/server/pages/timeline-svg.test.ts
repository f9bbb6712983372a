import { describe, expect, test } from 'vitest'
import type { Step, Timeline } from '../../../src/lib/core/timeline.ts'
import { timelineSvg } from '../../../src/lib/server/pages/timeline-svg.ts'
import { build } from '../../support/build.ts'
import { useBrowser } from '../../support/pages/use-browser.ts'

const at = (ms: number) => new Date(Date.UTC(2026, 0, 1) + ms).toISOString()

function step(number: number, name: string, from: number, to: number, rest: Partial<Step> = {}): Step {
  const times = { startedAt: at(from), completedAt: at(to) }
  return {
    number,
    name,
    digest: 'd',
    inputs: [],
    ...times,
    state: 'done',
    error: null,
    warnings: [],
    ...rest,
  }
}

const TIMELINE: Timeline = {
  attempt: 1,
  phases: [
    { name: 'queue', startedAt: at(0), ms: 1000 },
    { name: 'fetch', startedAt: at(1000), ms: 500 },
    { name: 'context', startedAt: at(1500), ms: 100, note: '7 entries' },
    { name: 'build', startedAt: at(1600), ms: 8000 },
    { name: 'push', startedAt: at(9600), ms: 2000 },
    { name: 'tags', startedAt: at(11_600), ms: 400 },
  ],
  steps: [
    step(1, '[1/4] FROM a', 1600, 1601, { state: 'cached' }),
    step(2, '[2/4] COPY go.mod .', 1601, 1602, { state: 'cached' }),
    step(3, '[3/4] RUN <b>"x"</b> & \u0007]]> --> \'y\'', 1700, 5600, { state: 'done' }),
    step(4, '[4/4] RUN fails', 5600, 9600, { state: 'failed', error: 'exit code: 1' }),
    step(5, '[b 1/1] RUN other', 1700, 2700),
  ],
  critical: [1, 3, 4],
  missed: null,
  made: null,
}

interface Shape {
  error: string | null
  rows: { kind: string; title: string; label: string; bars: { left: number; right: number }[] }[]
  title: string
  desc: string
  named: string
  attributes: string[]
  elements: string[]
}

const browser = useBrowser()

/** Runs in the browser. */
const READ = `(text) => {
  const xml = new DOMParser().parseFromString(text, 'image/svg+xml')
  const all = [...xml.querySelectorAll('*')]
  const textOf = (from, selector) => from.querySelector(selector)?.textContent ?? ''
  const ids = (xml.documentElement.getAttribute('aria-labelledby') ?? '').split(' ')
  return {
    error: xml.querySelector('parsererror')?.textContent ?? null,
    rows: [...xml.querySelectorAll('svg > g:not(.axis)')].map((row) => ({
      kind: row.getAttribute('class'),
      title: textOf(row, 'title'),
      label: textOf(row, 'text'),
      bars: [...row.querySelectorAll('rect')].map((rect) => {
        const left = Number(rect.getAttribute('x'))
        return { left, right: left + Number(rect.getAttribute('width')) }
      }),
    })),
    title: textOf(xml, 'svg > title'),
    desc: textOf(xml, 'svg > desc'),
    named: ids.map((id) => xml.getElementById(id)?.tagName).join(' '),
    attributes: [...new Set(all.flatMap((one) => one.getAttributeNames()))],
    elements: [...new Set(all.map((one) => one.tagName))],
  }
}`

/** The picture as a browser's XML parser sees it. */
async function parsed(svg: string): Promise<Shape> {
  await using opened = await browser.open()
  return (await opened.page.evaluate(`(${READ})(${JSON.stringify(svg)})`)) as Shape
}

describe('the timeline as a picture', () => {
  test('has a row for each phase and step on one axis, and cached steps share one', async () => {
    const { error, rows, title, desc, named } = await parsed(timelineSvg(build(), TIMELINE))
    expect(error).toBeNull()
    expect(rows.map(({ kind, label }) => [kind, label])).toEqual([
      ['queue', 'waited in the queue'],
      ['phase', 'fetch'],
      ['phase', 'context'],
      ['cached', '2 steps from the cache'],
      ['step critical', '#3 [3/4] RUN <b>"x"</b> &  ]]> --> \'y\''],
      ['step failed critical', '#4 [4/4] RUN fails'],
      ['step', '#5 [b 1/1] RUN other'],
      ['phase', 'push'],
      ['phase', 'tags'],
    ])
    const bar = (label: string) => rows.find((row) => row.label.includes(label))?.bars[0]
    expect(bar('fetch')?.left).toBeCloseTo(bar('queue')?.right ?? Number.NaN, 0)
    expect(bar('fails')?.left).toBeCloseTo(bar('<b>')?.right ?? Number.NaN, 0)
    const width = (label: string) => (bar(label)?.right ?? 0) - (bar(label)?.left ?? 0)
    expect(width('push') / width('queue')).toBeCloseTo(2, 1)
    expect(title).toBe('Timeline of acme/web@aaaaaaa')
    expect(named).toBe('title desc')
    expect(desc).toContain(
      '12 s in all. waited in the queue: 1.0 s; fetch: 0.5 s; context: 0.1 s (7 entries)',
    )
    expect(desc).toContain('Critical path: #1 [1/4] FROM a, then #3')
    expect(rows[5]?.title).toBe('#4 [4/4] RUN fails: 4.0 s (failed, on the critical path): exit code: 1')
  })

  test('has no styles, scripts or links, so that a strict policy applies', async () => {
    const { attributes, elements } = await parsed(timelineSvg(build(), TIMELINE))
    expect(elements.toSorted()).toEqual(['desc', 'g', 'path', 'rect', 'svg', 'text', 'title'])
    for (const name of attributes) expect(name).not.toMatch(/^(style|on.*|href|xlink:.*)$/)
  })

  test('stays below 64 kB with 500 steps, shows those that matter, and is well-formed whatever they are called', async () => {
    const names = ['☃'.repeat(300), '"<&>'.repeat(75), '\0\u001b[31m\ud800', ']]>\ufffe']
    const steps = Array.from({ length: 500 }, (_, i) =>
      step(
        i + 1,
        `[${i}/500] ${names[i % names.length]}`,
        1600 + i * 10,
        1600 + i * 10 + (i === 77 ? 9000 : i % 9),
      ),
    )
    const svg = timelineSvg(build(), { ...TIMELINE, steps, critical: [3, 400] })
    expect(Buffer.byteLength(svg)).toBeLessThan(64 * 1024)
    const { error, rows } = await parsed(svg)
    expect(error).toBeNull()
    for (const number of [3, 78, 400]) {
      expect(rows.some(({ label }) => label.startsWith(`#${number} `))).toBe(true)
    }
    const shown = rows.filter(({ label }) => label.startsWith('#')).length
    expect(rows.map(({ label }) => label)).toContain(`${500 - shown} shorter steps`)
    for (const { bars } of rows) {
      for (const { left, right } of bars) {
        expect(left).toBeGreaterThanOrEqual(330)
        expect(right).toBeLessThanOrEqual(1000)
      }
    }
  })

  test('is a picture without steps, too, while nothing is known, and while a step runs', async () => {
    const waiting = { ...TIMELINE, phases: TIMELINE.phases.slice(0, 1), steps: [], critical: [] }
    expect((await parsed(timelineSvg(build(), waiting))).rows).toHaveLength(1)
    const nothing = await parsed(timelineSvg(build(), { ...waiting, phases: [] }))
    expect(nothing).toMatchObject({ error: null, rows: [], desc: 'Nothing has been recorded yet.' })
    const running = [step(1, 'RUN x', 2000, 0, { completedAt: null, state: 'running' })]
    const { rows } = await parsed(timelineSvg(build(), { ...TIMELINE, steps: running, critical: [] }))
    expect(rows.find(({ label }) => label === '#1 RUN x')?.kind).toBe('step running')
  })
})
