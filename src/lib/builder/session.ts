import type { Endpoint } from '../buildkit/endpoint.ts'
import { Progress, type ProgressSummary } from '../buildkit/progress.ts'
import { StaleFiles } from '../buildkit/session/file-sync.ts'
import { openSession } from '../buildkit/session/session.ts'
import type { SolveIo } from '../buildkit/solve.ts'
import { StepRecord } from '../buildkit/steps/step-record.ts'
import { linesTo } from '../core/one-line.ts'
import type { CredentialStore } from '../registry/registry.ts'
import { Pace } from '../util/pace.ts'
import type { BuilderIo, BuildInput, BuiltImage } from './builder.ts'
import { ContextSync } from './context-sync.ts'

/**
 * Converts the error of a build.
 * @param thrown by the work
 * @param ours the error on our side of the session, if any
 * @param failed the failed step, if any
 */
export type ExplainError = (
  thrown: unknown,
  ours: Error | undefined,
  failed: ProgressSummary['failed'],
) => Error | Promise<Error>

/** Where the session is opened, and who is notified. */
export interface BuildSessionOptions {
  endpoint: Pick<Endpoint, 'attach' | 'id'>
  credentials: CredentialStore
  /** Not called if the build was aborted. */
  explain: ExplainError
  /** Called, possibly several times, once a step runs that is not cached. */
  onUncachedStep?: (() => void) | undefined
}

/** The result of the work, and what every build reports. */
export interface BuildSessionResult<T> extends Pick<BuiltImage, 'steps' | 'transfer' | 'from'> {
  answer: T
  /** How long the image's export took, in milliseconds. */
  exportMs: number
}

/**
 * Runs one build in its own session, which provides the context, credentials, secrets and the SSH agent to BuildKit. The
 * progress of its steps is written to the log.
 * @param work gets the session's id; may be called twice
 */
export async function withSession<T>(
  input: BuildInput,
  io: BuilderIo,
  options: BuildSessionOptions,
  work: (session: string, io: SolveIo) => Promise<T>,
): Promise<BuildSessionResult<T>> {
  const sync = new ContextSync(input, options.endpoint)
  const steps = new StepRecord()
  try {
    return await attempt(input, io, options, { sync, steps }, work)
  } catch (error) {
    if (!(error instanceof StaleFiles)) throw error
    await linesTo(io.log)(`resending all files: ${error.message}`)
    return await attempt(input, io, options, { sync, steps: new StepRecord(steps) }, work)
  }
}

/** @throws StaleFiles if BuildKit lacks files that it was assumed to have; otherwise what `explain` returns */
async function attempt<T>(
  input: BuildInput,
  { log, signal, onSteps }: BuilderIo,
  { endpoint, credentials, explain, onUncachedStep }: BuildSessionOptions,
  { sync, steps }: { sync: ContextSync; steps: StepRecord },
  work: (session: string, io: SolveIo) => Promise<T>,
): Promise<BuildSessionResult<T>> {
  const { context, cacheKey: sharedKey, secrets, ssh } = input
  const { times } = sync
  await using session = await openSession(endpoint, { context, times, sharedKey, credentials, secrets, ssh })
  const progress = new Progress()
  onSteps?.(steps)
  const ends = AbortSignal.any([signal, session.broken])
  try {
    const answer = await work(session.id, {
      signal: ends,
      async onStatus(status) {
        if (onSteps) steps.add(status)
        const pace = new Pace(ends)
        for (const text of progress.render(status)) {
          await log.write(text)
          if (pace.isDue) await pace.rest()
        }
        if (progress.hasUncachedStep) onUncachedStep?.()
      },
    })
    const { total, cached, clipped, images, remoteFiles, exportMs } = progress.summary()
    for (const step of clipped) {
      await linesTo(log)(
        `warning: the engine truncated the output of ${step}; set BUILDKIT_STEP_LOG_MAX_SIZE (bytes) in its environment to keep more`,
      )
    }
    await sync.end(progress, log)
    const { transfer } = session
    return { answer, steps: { total, cached }, transfer, from: { images, remoteFiles }, exportMs }
  } catch (error) {
    signal.throwIfAborted()
    const ours = session.broken.reason as Error | undefined
    if (ours instanceof StaleFiles) {
      sync.restart(progress)
      throw ours
    }
    const { failed } = progress.summary()
    // BuildKit ended the build on its own, so its copy of the files is as well known as after a success.
    if (failed && !ours) await sync.end(progress, log)
    throw await explain(error, ours, failed)
  }
}
