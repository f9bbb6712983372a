import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { projectRoot } from '../support/processes.ts'
import { parseExposition, sampleOf } from '../support/telemetry/exposition.ts'
import { pushToEnd, startWorld } from '../support/world.ts'

const page = (name: string) => readFile(`${projectRoot}docs/${name}`, 'utf8')

/** The metrics that a text names, of Conveyor, the process and Node. */
function metricsIn(text: string): string[] {
  return [...new Set(text.match(/\b(?:conveyor|process|nodejs)_[a-z0-9_]+\b/g) ?? [])]
}

test('dashboard, alerts and docs name metrics that a server has after a build, and all of those', async () => {
  await using world = await startWorld({ env: { METRICS_PORT: '0' } })
  await using server = await world.startServer()
  const git = await world.git.create('metrics/app')
  const sha = await git.commit({ Dockerfile: 'FROM conveyor-test/busybox:1\nRUN echo hello > /hello\n' })
  expect(await pushToEnd(world, server, { repository: 'metrics/app', sha })).toMatchObject({
    status: { state: 'success' },
  })
  const { 1: metricsUrl = '' } = await server.waitFor(/metrics are on (\S+)/)
  const [onPort, onMetricsPort] = await Promise.all(
    [`${server.url}/metrics`, metricsUrl].map(async (url) =>
      parseExposition(await (await fetch(url)).text()),
    ),
  )
  expect([...(onMetricsPort?.keys() ?? [])]).toEqual([...(onPort?.keys() ?? [])])
  const scraped = onPort ?? new Map()

  const families = [...scraped.keys()]
  const exists = (name: string) =>
    [name, name.replace(/_(?:bucket|sum|count)$/, '')].some((one) => scraped.has(one))
  for (const name of ['grafana/conveyor.json', 'alerts.yaml', 'operations.md']) {
    const named = metricsIn(await page(name))
    expect(named.length, name).toBeGreaterThan(5)
    expect(
      named.filter((one) => !exists(one)),
      name,
    ).toEqual([])
  }
  const documented = metricsIn(await page('operations.md'))
  const own = families.filter((name) => name.startsWith('conveyor_'))
  expect(own.filter((name) => !documented.includes(name))).toEqual([])

  expect(sampleOf(scraped, 'conveyor_builds_total', { result: 'succeeded' })).toBe(1)
  expect(sampleOf(scraped, 'conveyor_webhook_deliveries_total', { result: 'accepted' })).toBe(1)
  expect(sampleOf(scraped, 'conveyor_commit_statuses_total', { result: 'set' })).toBeGreaterThan(0)
  expect(sampleOf(scraped, 'conveyor_queue_depth', { state: 'ready' })).toBe(0)
  for (const phase of ['fetch', 'context', 'build', 'push']) {
    expect(sampleOf(scraped, 'conveyor_build_phase_seconds_count', { phase }), phase).toBe(1)
  }
})

test('every alert says when, how bad, and what to do, in balanced expressions', async () => {
  const { groups } = parse(await page('alerts.yaml'))
  const rules = groups.flatMap(({ rules }: { rules: object[] }) => rules)
  expect(rules.length).toBeGreaterThan(5)
  for (const rule of rules) {
    expect(rule).toMatchObject({
      alert: expect.stringMatching(/^Conveyor[A-Z]\w+$/),
      labels: { severity: expect.stringMatching(/^(critical|warning)$/) },
      annotations: { summary: expect.any(String), description: expect.any(String) },
    })
    expect(isBalanced(rule.expr), rule.expr).toBe(true)
    expect(rule.expr).toMatch(/ (?:>=?|<=?|==) [\d.]+$/)
  }
})

test('every panel of the dashboard has a query, and none overlaps another', async () => {
  const { panels } = JSON.parse(await page('grafana/conveyor.json'))
  const seen = new Set<string>()
  for (const { type, title, targets, gridPos } of panels) {
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        expect(seen.has(`${x} ${y}`), title).toBe(false)
        seen.add(`${x} ${y}`)
      }
    }
    if (type === 'row') continue
    expect(targets.length, title).toBeGreaterThan(0)
    for (const { expr } of targets) expect(isBalanced(expr), expr).toBe(true)
  }
})

/** Whether brackets and quotes of an expression match. */
function isBalanced(expr: string): boolean {
  const open: string[] = []
  for (const sign of expr.replace(/"(?:[^"\\]|\\.)*"/g, '')) {
    if ('([{'.includes(sign)) open.push(sign)
    else if (')]}'.includes(sign) && open.pop() !== '([{'[')]}'.indexOf(sign)]) return false
    else if (sign === '"') return false
  }
  return open.length === 0
}
