import { createHash } from 'node:crypto'
import {
  type Attributes,
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from '@opentelemetry/resources'
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  RandomIdGenerator,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import type { Build } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import type { Timeline } from '../../core/timeline.ts'
import { type AttemptObserver, type BuildObserver, NO_OBSERVER } from '../../pipeline/observer.ts'
import { atMost } from '../../util/lifecycle.ts'
import { type BuildVerdict, verdictOf } from '../verdict.ts'
import * as names from './names.ts'

export interface TracingOptions {
  version: string
  /** As in OTEL_TRACES_SAMPLER, and its argument from 0 to 1. */
  sampler: string
  ratio: number
  /** Web page of a build. */
  buildUrl: (build: Build) => string
}

/** The traces of builds, exported over OTLP to the collector that OpenTelemetry's variables name. */
export interface Tracing {
  builds: BuildObserver
  /** Exports what is left, for two seconds at most. */
  close(): Promise<void>
}

/** How long the end of the process may wait for the collector, in milliseconds. */
const CLOSE_MS = 2000
const EXPORT_MS = 5000

export function openTracing(options: TracingOptions): Tracing {
  const ids = new BuildIds()
  const resource = defaultResource()
    .merge(resourceFromAttributes({ 'service.name': 'conveyor', 'service.version': options.version }))
    .merge(detectResources({ detectors: [envDetector] }))
  // Exports in the background; when the collector is away, the oldest spans wait and new ones are dropped.
  const processor = new BatchSpanProcessor({
    exporter: new OTLPTraceExporter({ timeoutMillis: EXPORT_MS }),
    exportTimeoutMillis: EXPORT_MS,
  })
  const provider = new TracerProvider({
    resource,
    sampler: samplerOf(options),
    idGenerator: ids,
    spanProcessors: [processor],
  })
  const tracer = provider.getTracer('conveyor', options.version)
  return {
    builds: {
      ...NO_OBSERVER,
      attempt: (build) => new AttemptTrace(build, tracer, ids, options),
      ended(build) {
        const span = ids.forBuild(build, (context) => startBuild(build, context, tracer, options))
        endBuild(span, build, verdictOf(build, false))
      },
    },
    close: () =>
      atMost(
        CLOSE_MS,
        provider.shutdown().catch(() => {}),
      ),
  }
}

function samplerOf({ sampler, ratio }: TracingOptions): Sampler {
  const isParentBased = sampler.startsWith('parentbased_')
  const kind = sampler.replace('parentbased_', '')
  const root =
    kind === 'always_off'
      ? new AlwaysOffSampler()
      : kind === 'traceidratio'
        ? new TraceIdRatioBasedSampler(ratio)
        : new AlwaysOnSampler()
  return isParentBased ? new ParentBasedSampler({ root }) : root
}

/**
 * Ids of spans. That of a build follows from the build, so that all workers that try it agree on the parent of their
 * spans; and without a trace to continue, the trace has the build's own id, without dashes.
 */
class BuildIds extends RandomIdGenerator {
  #next: { trace: string; span: string } | undefined

  /** @param start starts the span of the build in this context */
  forBuild(build: Build, start: (context: Context) => Span): Span {
    const [, parent, parentSpan, flags] = build.trace?.split('-') ?? []
    const ids = { traceId: parent ?? '', spanId: parentSpan ?? '', traceFlags: Number(`0x${flags}`) & 1 }
    const context = parent ? trace.setSpanContext(ROOT_CONTEXT, { ...ids, isRemote: true }) : ROOT_CONTEXT
    const span = createHash('sha256').update(build.id).digest('hex').slice(0, 16)
    this.#next = { trace: build.id.replaceAll('-', ''), span }
    try {
      return start(context)
    } finally {
      this.#next = undefined
    }
  }

  // Properties in the base class.
  override generateTraceId = () => this.#next?.trace ?? random(16)
  override generateSpanId = () => this.#next?.span ?? random(8)
}

function random(bytes: number): string {
  const id = crypto.getRandomValues(Buffer.alloc(bytes)).toString('hex')
  return /^0+$/.test(id) ? random(bytes) : id
}

function startBuild(build: Build, context: Context, tracer: Tracer, { buildUrl }: TracingOptions): Span {
  const ref = build.refs[0]
  const attributes: Attributes = {
    [names.PIPELINE_ACTION]: 'BUILD',
    [names.PIPELINE_NAME]: build.repository,
    [names.RUN_ID]: build.id,
    [names.RUN_URL]: buildUrl(build),
    [names.REPOSITORY]: build.repository,
    [names.REVISION]: build.sha,
    ...(ref && { [names.REF]: ref.name, [names.REF_TYPE]: ref.kind }),
  }
  const startTime = Date.parse(build.createdAt)
  return tracer.startSpan(
    `BUILD ${build.repository}`,
    { kind: SpanKind.SERVER, startTime, attributes },
    context,
  )
}

const RESULTS: Record<BuildVerdict, string> = {
  succeeded: 'success',
  reused: 'skip',
  failed: 'failure',
  error: 'error',
  cancelled: 'cancellation',
}

function endBuild(span: Span, build: Build, verdict: BuildVerdict): void {
  const result = build.errorKind === 'timeout' ? 'timeout' : RESULTS[verdict]
  span.setAttributes({ [names.RESULT]: result, 'conveyor.attempts': build.attempt })
  if (build.errorKind) {
    span.setAttribute(names.ERROR_TYPE, build.errorKind)
    span.setStatus({ code: SpanStatusCode.ERROR, message: build.error ?? '' })
  }
  span.end(Date.parse(build.completedAt ?? '') || Date.now())
}

/** The spans of one attempt: phases below the build, BuildKit's steps below the phase `build`. */
class AttemptTrace implements AttemptObserver {
  readonly #build: Build
  readonly #tracer: Tracer
  readonly #root: Span
  readonly #context: Context
  readonly #open = new Map<string, Span>()
  #building: Context | undefined
  #reused = false

  constructor(build: Build, tracer: Tracer, ids: BuildIds, options: TracingOptions) {
    this.#build = build
    this.#tracer = tracer
    this.#root = ids.forBuild(build, (context) => startBuild(build, context, tracer, options))
    this.#context = trace.setSpan(ROOT_CONTEXT, this.#root)
    if (build.attempt === 1) this.#task('queue', Date.parse(build.createdAt)).end()
  }

  phaseBegan(name: string): void {
    const span = this.#task(name, Date.now())
    this.#open.set(name, span)
    if (name === 'build') this.#building = trace.setSpan(this.#context, span)
  }

  phaseEnded(name: string, startedAt: number, ms: number, error?: unknown): void {
    const span = this.#open.get(name) ?? this.#task(name, startedAt)
    this.#open.delete(name)
    span.setAttribute(names.TASK_RESULT, error === undefined ? 'success' : 'failure')
    if (error !== undefined) {
      span.setAttribute(names.ERROR_TYPE, error instanceof ConveyorError ? error.kind : '_OTHER')
      span.setStatus({ code: SpanStatusCode.ERROR })
    }
    span.end(startedAt + ms)
  }

  steps({ total, cached }: { total: number; cached: number }): void {
    this.#root.setAttributes({ 'conveyor.steps.total': total, 'conveyor.steps.cached': cached })
  }

  timeline(read: () => Timeline): void {
    const { steps } = read()
    for (const { number, name, state, startedAt, completedAt, error } of steps) {
      if (startedAt === null || this.#building === undefined) continue
      const span = this.#task(name, Date.parse(startedAt), this.#building)
      span.setAttributes({ 'conveyor.step.number': number, 'conveyor.step.cached': state === 'cached' })
      span.setAttribute(names.TASK_RESULT, STEP_RESULTS[state])
      if (error !== null) span.setStatus({ code: SpanStatusCode.ERROR, message: error })
      span.end(completedAt === null ? Date.now() : Date.parse(completedAt))
    }
  }

  published(origin: string): void {
    this.#reused = origin === 'reused'
  }

  leaseLost(): void {
    this.#root.addEvent('lease lost')
  }

  over(): void {
    for (const span of this.#open.values()) span.end()
    this.#open.clear()
    // A build that goes on elsewhere is exported by the worker that ends it.
  }

  ended(build: Build): void {
    endBuild(this.#root, build, verdictOf(build, this.#reused))
  }

  #task(name: string, startTime: number, context = this.#context): Span {
    const { attempt, id } = this.#build
    const attributes = { [names.TASK_NAME]: name, [names.TASK_RUN_ID]: `${id}/${attempt}/${name}` }
    return this.#tracer.startSpan(name, { kind: SpanKind.INTERNAL, startTime, attributes }, context)
  }
}

const STEP_RESULTS: Record<Timeline['steps'][number]['state'], string> = {
  running: 'cancellation',
  done: 'success',
  cached: 'skip',
  failed: 'failure',
  cancelled: 'cancellation',
}
