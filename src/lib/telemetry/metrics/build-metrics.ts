import { Counter, Gauge, Histogram, type Registry } from 'prom-client'
import type { Build } from '../../core/build.ts'
import type { ErrorKind } from '../../core/errors.ts'
import type { AttemptObserver, BuildObserver } from '../../pipeline/observer.ts'
import { type BuildVerdict, verdictOf } from '../verdict.ts'
import { RepositoryLabel } from './repository-label.ts'

export interface BuildMetricsOptions {
  /** Whether results and durations have the label `repository`. */
  byRepository: boolean
}

const ERROR_KINDS: Record<ErrorKind, true> = {
  invalid: true,
  unauthorized: true,
  not_found: true,
  build_failed: true,
  unavailable: true,
  timeout: true,
  cancelled: true,
}
const KINDS = Object.keys(ERROR_KINDS)

/** From a step that only looks something up to the time limit of a build. */
const PHASE_SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200]
const BUILD_SECONDS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600]
const WAIT_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200]

/** Counts and times the builds of this process. */
export function buildMetrics(registry: Registry, { byRepository }: BuildMetricsOptions): BuildObserver {
  const registers = [registry]
  const perRepository = byRepository ? ['repository'] : []
  const builds = new Counter({
    name: 'conveyor_builds_total',
    help: 'Builds that ended in this process, by result: succeeded, reused (an earlier image), failed, error (a part of the setup did not work), cancelled',
    labelNames: ['result', ...perRepository],
    registers,
  })
  const durations = new Histogram({
    name: 'conveyor_build_duration_seconds',
    help: 'Time from the request of a build to its end',
    labelNames: ['result', ...perRepository],
    buckets: BUILD_SECONDS,
    registers,
  })
  const phases = new Histogram({
    name: 'conveyor_build_phase_seconds',
    help: 'Time that the phases of builds took',
    labelNames: ['phase'],
    buckets: PHASE_SECONDS,
    registers,
  })
  const waits = new Histogram({
    name: 'conveyor_queue_wait_seconds',
    help: 'Time from the request of a build to its first attempt',
    buckets: WAIT_SECONDS,
    registers,
  })
  const active = new Gauge({
    name: 'conveyor_builds_active',
    help: 'Builds that run in this process',
    registers,
  })
  const steps = new Counter({
    name: 'conveyor_build_steps_total',
    help: 'Steps of the images that were built',
    registers,
  })
  const cachedSteps = new Counter({
    name: 'conveyor_build_steps_cached_total',
    help: 'Steps of the images that were built that came from the cache',
    registers,
  })
  const images = new Counter({
    name: 'conveyor_images_published_total',
    help: 'Published images by origin: built, reused (from an earlier build), builder-image, dry-run',
    labelNames: ['origin'],
    registers,
  })
  const retries = new Counter({
    name: 'conveyor_build_retries_total',
    help: 'Attempts after which a build was retried, by kind of error',
    labelNames: ['kind'],
    registers,
  })
  const losses = new Counter({
    name: 'conveyor_lease_losses_total',
    help: 'Builds that another worker may have taken over while they ran here',
    registers,
  })
  const statuses = new Counter({
    name: 'conveyor_commit_statuses_total',
    help: 'Commit statuses by result: set, failed (tried again later), refused (given up)',
    labelNames: ['result'],
    registers,
  })
  const systemErrors = (['registry', 'git'] as const).map((system) => {
    const counter = new Counter({
      name: `conveyor_${system}_errors_total`,
      help: `Requests to the ${system === 'git' ? 'git server' : 'registry'} that failed after all retries, by kind of error`,
      labelNames: ['kind'],
      registers,
    })
    startAtZero(counter, 'kind', KINDS)
    return [system, counter] as const
  })
  const errorsOf = new Map(systemErrors)
  if (!byRepository) {
    startAtZero(builds, 'result', ['succeeded', 'reused', 'failed', 'error', 'cancelled'])
  }
  startAtZero(images, 'origin', ['built', 'reused'])
  startAtZero(retries, 'kind', ['unavailable'])
  startAtZero(statuses, 'result', ['set', 'failed', 'refused'])

  const repositories = new RepositoryLabel()
  function count(build: Build, result: BuildVerdict): void {
    const labels = { result, ...(byRepository && { repository: repositories.of(build.repository) }) }
    builds.inc(labels)
    durations.observe(labels, seconds(build.createdAt, build.completedAt))
  }

  function attempt(build: Build): AttemptObserver {
    if (build.attempt === 1) waits.observe(seconds(build.createdAt, null))
    active.inc()
    let reused = false
    return {
      phaseBegan() {},
      timeline() {},
      phaseEnded: (phase, _startedAt, ms) => phases.observe({ phase }, ms / 1000),
      steps({ total, cached }) {
        steps.inc(total)
        cachedSteps.inc(cached)
      },
      published(origin) {
        reused = origin === 'reused'
        images.inc({ origin })
      },
      leaseLost: () => losses.inc(),
      over(outcome, error) {
        active.dec()
        if (outcome === 'retried') retries.inc({ kind: error?.kind ?? 'unavailable' })
      },
      ended: (ended) => count(ended, verdictOf(ended, reused)),
    }
  }

  return {
    attempt,
    ended: (build) => count(build, verdictOf(build, false)),
    commitStatus: (_build, result) => statuses.inc({ result }),
    systemError: (system, kind) => errorsOf.get(system)?.inc({ kind }),
  }
}

/** Shows a counter before it counts anything: the first error would not be an increase otherwise. */
export function startAtZero<Label extends string>(
  counter: Counter<Label>,
  label: Label,
  values: readonly string[],
): void {
  for (const value of values) counter.inc({ [label]: value } as Record<Label, string>, 0)
}

/** From one time to another, or to now; clocks of different machines may differ. */
function seconds(from: string, to: string | null): number {
  return Math.max(0, (to === null ? Date.now() : Date.parse(to)) - Date.parse(from)) / 1000
}
