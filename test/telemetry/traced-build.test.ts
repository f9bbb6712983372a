import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import type { TimelineJson } from '../../src/lib/api/timeline.ts'
import { startCollector } from '../support/telemetry/collector.ts'
import { pushToEnd, startWorld } from '../support/world.ts'

test('a push is a trace from its webhook to its tags, with the steps that BuildKit ran', async () => {
  await using collector = await startCollector()
  await using world = await startWorld({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url } })
  await using server = await world.startServer()
  const git = await world.git.create('acme/traced')
  // The engine keeps its cache: the step must not be one of an earlier run.
  const step = `RUN sleep 0.4; echo ${randomUUID()}`
  const sha = await git.commit({ Dockerfile: `FROM conveyor-test/busybox:1\nCOPY . /app\n${step}\n` })
  const { build } = await pushToEnd(world, server, { repository: 'acme/traced', sha })
  const timeline = (await (await fetch(`${server.url}/builds/${build.id}/steps`)).json()) as TimelineJson
  await server.kill('SIGTERM')

  const { spans } = collector
  const [root, ...others] = spans.filter(({ parentSpanId }) => parentSpanId === '')
  if (root === undefined) throw new Error(`there is no root among ${spans.length} spans`)
  expect(others).toEqual([])
  expect(root).toMatchObject({
    name: 'BUILD acme/traced',
    traceId: build.id.replaceAll('-', ''),
    startedAt: Date.parse(build.created_at),
    endedAt: Date.parse(build.completed_at ?? ''),
    attributes: { 'vcs.ref.head.revision': sha, 'cicd.pipeline.result': 'success' },
  })
  expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set([root.traceId]))

  const phases = spans.filter(({ parentSpanId }) => parentSpanId === root.spanId)
  expect(phases.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['queue', 'fetch', 'build', 'push', 'tag']),
  )
  for (const { name, startedAt, endedAt } of phases) {
    // Phases are measured in parts of a millisecond, a build's ends in whole ones.
    expect(startedAt, name).toBeGreaterThanOrEqual(root.startedAt - 1)
    expect(endedAt, name).toBeLessThanOrEqual(root.endedAt + 1)
  }

  const phase = phases.find(({ name }) => name === 'build')
  const ran = timeline.steps.filter((step) => step.started_at !== null)
  const traced = spans.filter(({ parentSpanId }) => parentSpanId === phase?.spanId)
  expect(traced.map(({ name }) => name).sort()).toEqual(ran.map(({ name }) => name).sort())
  const sleep = traced.find(({ name }) => name.includes(step))
  const shown = ran.find(({ name }) => name === sleep?.name)
  expect(sleep?.startedAt).toBe(Date.parse(shown?.started_at ?? ''))
  expect((sleep?.endedAt ?? 0) - (sleep?.startedAt ?? 0)).toBeGreaterThanOrEqual(400)
})
