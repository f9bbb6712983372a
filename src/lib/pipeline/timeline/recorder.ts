import type { BuildSteps, BuiltFrom } from '../../builder/builder.ts'
import type { Build } from '../../core/build.ts'
import {
  boundedTimeline,
  type MadeFrom,
  type Missed,
  type Phase,
  type SourceExcerpt,
  type Step,
  type Timeline,
} from '../../core/timeline.ts'
import type { Timelines } from '../../store/build-store.ts'
import type { PhaseListener } from '../../util/stopwatch.ts'
import { criticalPath } from './critical-path.ts'

export interface RecorderOptions {
  timelines: Timelines
  /** Masks the secrets of the build. */
  redactor: { redact(text: string): string }
  /** Called once if the store does not take the timeline, with one line. */
  warn: (line: string) => void
  /** How often the store gets the changes, in milliseconds; 2000 by default. */
  everyMs?: number
}

/**
 * Records the timeline of one attempt, and stores it: at most every two seconds while something changes, and at the end. A
 * store that fails does not fail the build.
 */
export class TimelineRecorder implements PhaseListener {
  readonly #build: Build
  readonly #options: RecorderOptions
  readonly #claimedAt = new Date()
  readonly #laps: Lap[] = []
  #steps: BuildSteps | undefined
  #missed: Missed | null = null
  #made: MadeFrom | null = null
  #excerpt: SourceExcerpt | undefined
  #changes = 0
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> | undefined
  #stored = ''
  #hasWarned = false

  /** Created when the build has been claimed. */
  constructor(build: Build, options: RecorderOptions) {
    this.#build = build
    this.#options = options
  }

  phaseBegan(name: string): void {
    this.#laps.push({ name, startedAt: Date.now(), ms: null, note: '' })
    this.#changes += 1
    this.#timer ??= setInterval(() => this.#store(false), this.#options.everyMs ?? 2000).unref()
  }

  phaseEnded(name: string, startedAt: number, ms: number): void {
    const lap = this.#laps.findLast((one) => one.name === name && one.ms === null)
    if (lap) Object.assign(lap, { startedAt, ms })
    else this.#laps.push({ name, startedAt, ms, note: '' })
    this.#changes += 1
  }

  phaseNoted(name: string, text: string): void {
    const lap = this.#laps.findLast((one) => one.name === name)
    if (lap) lap.note = text
  }

  /** The steps are those of this build from now on; see BuilderIo.onSteps. */
  readonly follow = (steps: BuildSteps): void => {
    this.#steps = steps
  }

  /** The steps so far, with secrets masked; undefined if nothing is being built. */
  steps(): Step[] | undefined {
    return this.#steps?.list(true).map((step) => this.#redacted(step))
  }

  /** Masks the secrets of the build. */
  readonly redact = (text: string): string => this.#options.redactor.redact(text)

  /** The images that the steps use, as BuildKit named them. */
  images(): BuiltFrom['images'] {
    return this.#steps?.images() ?? []
  }

  /** Why the first step was not cached, and what the build was made from. */
  explain(missed: Missed | null, made: MadeFrom | null): void {
    this.#missed = missed
    this.#made = made
    this.#changes += 1
  }

  /** The build failed at these lines. */
  failedAt(excerpt: SourceExcerpt): void {
    const { redact } = this
    const lines = excerpt.lines.map((line) => ({ ...line, text: redact(line.text) }))
    this.#excerpt = { ...excerpt, file: redact(excerpt.file), lines }
    this.#changes += 1
  }

  /** Stores everything, and stops. Never rejects. */
  async end(): Promise<void> {
    this.stop()
    await this.#writing
    await this.#store(true)
  }

  /** Stops without storing, as another worker has the build now. */
  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** The timeline so far, without secrets. @param ended whether steps that are still running were aborted */
  timeline(ended: boolean): Timeline {
    const steps = this.#steps?.list(ended).map((step) => this.#redacted(step)) ?? []
    const { attempt } = this.#build
    return boundedTimeline({
      attempt,
      phases: [this.#queuePhase(), ...this.#laps.flatMap(phaseOf)],
      steps,
      critical: criticalPath(steps),
      missed: this.#missed,
      made: this.#made,
      ...(this.#excerpt && { excerpt: this.#excerpt }),
    })
  }

  /** From the request to this attempt. */
  #queuePhase(): Phase {
    const { attempt, createdAt, startedAt } = this.#build
    // For the first attempt, both times are by the clock of the store.
    const claimed = attempt === 1 && startedAt ? Date.parse(startedAt) : this.#claimedAt.getTime()
    return {
      name: 'queue',
      startedAt: createdAt,
      ms: Math.max(0, claimed - Date.parse(createdAt)),
      ...(attempt > 1
        ? { note: `with ${attempt - 1} earlier ${attempt === 2 ? 'attempt' : 'attempts'}` }
        : {}),
    }
  }

  #redacted(step: Step): Step {
    const { redact } = this
    return {
      ...step,
      name: redact(step.name),
      error: step.error && redact(step.error),
      warnings: step.warnings.map(({ message, detail, url, file, line }) => ({
        message: redact(message),
        detail: detail.map(redact),
        url: url && redact(url),
        file: file && redact(file),
        line,
      })),
    }
  }

  async #store(ended: boolean): Promise<void> {
    if (this.#writing) return
    const state = `${ended} ${this.#changes} ${this.#steps?.version}`
    if (state === this.#stored) return
    this.#writing = this.#put(ended, state)
    await this.#writing
    this.#writing = undefined
  }

  async #put(ended: boolean, state: string): Promise<void> {
    try {
      await this.#options.timelines.put(this.#build.id, this.timeline(ended))
      this.#stored = state
    } catch (error) {
      if (!this.#hasWarned)
        this.#options.warn(`its timeline could not be stored: ${(error as Error).message}`)
      this.#hasWarned = true
    }
  }
}

const NAMES: Record<string, Phase['name']> = {
  'look up': 'look up',
  fetch: 'fetch',
  context: 'context',
  build: 'build',
  push: 'push',
  tag: 'tags',
}

/** One period of a phase. */
interface Lap {
  name: string
  /** In milliseconds since 1970. */
  startedAt: number
  /** Null while it is running. */
  ms: number | null
  note: string
}

function phaseOf({ name, startedAt, ms, note }: Lap): Phase[] {
  const known = NAMES[name]
  if (!known) return []
  return [
    {
      name: known,
      startedAt: new Date(startedAt).toISOString(),
      ms: Math.round((ms ?? Math.max(0, Date.now() - startedAt)) * 10) / 10,
      ...(note === '' ? {} : { note }),
      ...(ms === null ? { running: true as const } : {}),
    },
  ]
}
