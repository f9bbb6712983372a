import { type AddressInfo, createServer, type Socket } from 'node:net'
import { afterEach, expect, test, vi } from 'vitest'
import { requestOnly } from '../../src/lib/client/client.ts'
import { tracingOf } from '../../src/lib/config/tracing.ts'
import type { Build } from '../../src/lib/core/build.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import type { Step, Timeline } from '../../src/lib/core/timeline.ts'
import { traceParent } from '../../src/lib/core/trace-context.ts'
import { openTracing, type Tracing } from '../../src/lib/telemetry/traces/tracing.ts'
import { type ReceivedSpan, startCollector } from '../support/telemetry/collector.ts'
import { sha, startTestServer } from '../support/test-server.ts'

const CREATED = Date.UTC(2030, 0, 1)
const BUILD = {
  id: '11111111-2222-4333-8444-555555555555',
  repository: 'acme/web',
  sha: 'a'.repeat(40),
  refs: [{ kind: 'branch', name: 'main', sequence: 1 }],
  attempt: 1,
  state: 'building',
  error: null,
  errorKind: null,
  createdAt: new Date(CREATED).toISOString(),
} as unknown as Build
const TRACE = 'c0ffee00c0ffee00c0ffee00c0ffee00'
const PARENT = 'feedfacefeedface'

afterEach(() => vi.unstubAllEnvs())

function open(url: string, settings: Partial<{ sampler: string; ratio: number }> = {}): Tracing {
  vi.stubEnv('OTEL_EXPORTER_OTLP_ENDPOINT', url)
  const buildUrl = ({ id }: Build) => `https://conveyor.example/builds/${id}`
  return openTracing({ version: '1.2.3', sampler: 'parentbased_always_on', ratio: 1, buildUrl, ...settings })
}

function ended(build: Build, error: ConveyorError | null = null): Build {
  const result = error
    ? { state: 'failed' as const, error: error.message, errorKind: error.kind }
    : { state: 'succeeded' as const }
  return { ...build, ...result, completedAt: new Date(CREATED + 9000).toISOString() }
}

function step(number: number, state: Step['state'], at: number): Step {
  const time = (ms: number) => new Date(CREATED + ms).toISOString()
  return {
    ...{
      number,
      name: `[${number}/2] RUN make`,
      digest: `sha256:${number}`,
      inputs: [],
      state,
      warnings: [],
    },
    ...{
      startedAt: time(at),
      completedAt: time(at + 500),
      error: state === 'failed' ? 'exit code: 1' : null,
    },
  }
}

function run(tracing: Tracing, build: Build, error: ConveyorError | null = null): void {
  const attempt = tracing.builds.attempt(build)
  attempt.phaseBegan('fetch')
  attempt.phaseEnded('fetch', CREATED + 1000, 300)
  attempt.phaseBegan('build')
  attempt.phaseEnded('build', CREATED + 2000, 3000, error ?? undefined)
  if (!error) attempt.phaseEnded('push', CREATED + 5000, 400)
  attempt.timeline(
    () => ({ steps: [step(1, 'cached', 2100), step(2, error ? 'failed' : 'done', 2700)] }) as Timeline,
  )
  attempt.over('ended', error)
  attempt.ended(ended(build, error))
}

function named(spans: ReceivedSpan[], name: string): ReceivedSpan {
  const found = spans.filter((span) => span.name === name)
  expect(found, name).toHaveLength(1)
  return found[0] as ReceivedSpan
}

test('a build is a trace: phases below it, the steps of BuildKit below the phase that ran them', async () => {
  await using collector = await startCollector()
  vi.stubEnv('OTEL_RESOURCE_ATTRIBUTES', 'deployment.environment.name=test,team=build')
  vi.stubEnv('OTEL_EXPORTER_OTLP_HEADERS', 'x-api-key=abc')
  const tracing = open(collector.url)
  run(tracing, BUILD)
  await tracing.close()

  const { spans } = collector
  expect(collector.headers).toMatchObject({ 'x-api-key': 'abc' })
  const root = named(spans, 'BUILD acme/web')
  expect(root).toMatchObject({
    traceId: BUILD.id.replaceAll('-', ''),
    parentSpanId: '',
    kind: 2, // SERVER
    startedAt: CREATED,
    endedAt: CREATED + 9000,
    attributes: {
      'cicd.pipeline.name': 'acme/web',
      'cicd.pipeline.run.id': BUILD.id,
      'cicd.pipeline.run.url.full': `https://conveyor.example/builds/${BUILD.id}`,
      'cicd.pipeline.result': 'success',
      'vcs.ref.head.name': 'main',
      'vcs.ref.head.revision': BUILD.sha,
    },
    resource: {
      'service.name': 'conveyor',
      'service.version': '1.2.3',
      team: 'build',
      'deployment.environment.name': 'test',
    },
  })
  for (const name of ['queue', 'fetch', 'build', 'push']) {
    expect(named(spans, name)).toMatchObject({ traceId: root.traceId, parentSpanId: root.spanId })
  }
  expect(named(spans, 'push')).toMatchObject({ startedAt: CREATED + 5000, endedAt: CREATED + 5400 })
  const phase = named(spans, 'build')
  expect(named(spans, '[1/2] RUN make')).toMatchObject({
    parentSpanId: phase.spanId,
    startedAt: CREATED + 2100,
    endedAt: CREATED + 2600,
    attributes: { 'cicd.pipeline.task.run.result': 'skip', 'conveyor.step.cached': true },
  })
  expect(named(spans, '[2/2] RUN make').parentSpanId).toBe(phase.spanId)
})

test('a failure is an error of the build, of its phase and of its step', async () => {
  await using collector = await startCollector()
  const tracing = open(collector.url)
  run(tracing, BUILD, new ConveyorError('build_failed', 'RUN make failed'))
  await tracing.close()
  expect(named(collector.spans, 'BUILD acme/web')).toMatchObject({
    status: 2,
    attributes: { 'cicd.pipeline.result': 'failure', 'error.type': 'build_failed' },
  })
  expect(named(collector.spans, 'build').status).toBe(2)
  expect(named(collector.spans, '[2/2] RUN make').status).toBe(2)
  expect(named(collector.spans, 'fetch').status).not.toBe(2)
})

test('the trace of the request goes on, also in another process that tries the build again', async () => {
  await using collector = await startCollector()
  const build = { ...BUILD, trace: `00-${TRACE}-${PARENT}-01` }
  const first = open(collector.url)
  const lost = first.builds.attempt(build)
  lost.phaseBegan('fetch')
  lost.phaseEnded('fetch', CREATED + 100, 100, new ConveyorError('unavailable', 'gone'))
  lost.over('retried', new ConveyorError('unavailable', 'gone'))
  await first.close()
  const second = open(collector.url)
  run(second, { ...build, attempt: 2 })
  await second.close()

  const root = named(collector.spans, 'BUILD acme/web')
  expect(root).toMatchObject({ traceId: TRACE, parentSpanId: PARENT })
  const fetches = collector.spans.filter(({ name }) => name === 'fetch')
  expect(fetches.map(({ parentSpanId, traceId }) => [traceId, parentSpanId])).toEqual([
    [TRACE, root.spanId],
    [TRACE, root.spanId],
  ])
})

test('a caller that does not record its trace decides so for the build; samplers are as configured', async () => {
  await using collector = await startCollector()
  for (const [flags, settings] of [
    ['00', {}],
    ['01', { sampler: 'always_off' }],
    ['01', { sampler: 'traceidratio', ratio: 0 }],
  ] as const) {
    const tracing = open(collector.url, settings)
    run(tracing, { ...BUILD, trace: `00-${TRACE}-${PARENT}-${flags}` })
    await tracing.close()
  }
  expect(collector.spans).toEqual([])
})

test('a collector that is away or never answers delays neither builds nor the end of the process', async () => {
  const sockets = new Set<Socket>()
  const silent = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
    socket.resume()
  })
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  const { port } = silent.address() as AddressInfo
  const tracing = open(`http://127.0.0.1:${port}`)
  for (let i = 0; i < 100; i++) run(tracing, BUILD)
  await tracing.close()
  // The exporter itself would still wait.
  expect(sockets.size).toBeGreaterThan(0)
  for (const socket of sockets) socket.destroy()
  silent.close()

  const refused = open(`http://127.0.0.1:${port}`)
  run(refused, BUILD)
  await refused.close()
})

test('traces are on only with an endpoint, and while nothing disables them', () => {
  const url = 'http://collector:4318'
  expect(tracingOf({})).toBeNull()
  expect(tracingOf({ OTEL_EXPORTER_OTLP_ENDPOINT: url })).toEqual({
    sampler: 'parentbased_always_on',
    ratio: 1,
  })
  const sampled = { OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0.25' }
  expect(tracingOf({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: url, ...sampled })).toEqual({
    sampler: 'traceidratio',
    ratio: 0.25,
  })
  expect(tracingOf({ OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_SDK_DISABLED: 'true' })).toBeNull()
  expect(tracingOf({ OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_TRACES_EXPORTER: 'none' })).toBeNull()
})

test('a traceparent is taken as the specification says, and anything else is ignored', () => {
  expect(traceParent(`00-${TRACE}-${PARENT}-01`)).toBe(`00-${TRACE}-${PARENT}-01`)
  expect(traceParent(`cc-${TRACE}-${PARENT}-01-later`)).toBe(`00-${TRACE}-${PARENT}-01`)
  for (const bad of [
    ...[undefined, '', 'x', `ff-${TRACE}-${PARENT}-01`, `00-${TRACE}-${PARENT}-01-more`],
    ...[
      `00-${'0'.repeat(32)}-${PARENT}-01`,
      `00-${TRACE}-${'0'.repeat(16)}-01`,
      `00-${TRACE.toUpperCase()}-${PARENT}-01`,
    ],
  ]) {
    expect(traceParent(bad), bad).toBeNull()
  }
})

test('the trace of a request over HTTP is stored with its build, whoever builds it', async () => {
  await using server = await startTestServer()
  const request = { repository: 'acme/app', sha: sha('1') }
  const trace = `00-${TRACE}-${PARENT}-01`
  const build = await requestOnly({ url: server.url, request, trace })
  expect(await server.store.get(build.id)).toMatchObject({ trace })
  // A second request joins the build, and its trace.
  const joined = await requestOnly({ url: server.url, request, trace: `00-${TRACE}-${'1'.repeat(16)}-01` })
  expect(joined.id).toBe(build.id)
  expect(await server.store.get(build.id)).toMatchObject({ trace })
  const other = await requestOnly({
    url: server.url,
    request: { ...request, sha: sha('2') },
    trace: 'nonsense',
  })
  expect(await server.store.get(other.id)).not.toHaveProperty('trace')
})
