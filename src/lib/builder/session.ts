import type { Endpoint } from '../buildkit/endpoint.ts'
import { Progress, type ProgressSummary } from '../buildkit/progress.ts'
import { StaleFiles } from '../buildkit/session/file-sync.ts'
import { openSession } from '../buildkit/session/session.ts'
import type { SolveIo } from '../buildkit/solve.ts'
import { linesTo } from '../core/one-line.ts'
import type { CredentialStore } from '../registry/registry.ts'
import { Pace } from '../util/pace.ts'
import type { BuilderIo, BuildInput, BuiltImage } from './builder.ts'
import { ContextSync } from './context-sync.ts'

/**
 * What an error means.
 * @param thrown by the work
 * @param ours what went wrong on our side of the session
 * @param failed the step that failed, if one did
 */
export type ExplainError = (
  thrown: unknown,
  ours: Error | undefined,
  failed: ProgressSummary['failed'],
) => Error | Promise<Error>

/** Where a build has its session, and who hears of it. */
export interface BuildSessionOptions {
  endpoint: Pick<Endpoint, 'attach' | 'id'>
  credentials: CredentialStore
  /** Not asked when the build was aborted. */
  explain: ExplainError
  /** Told, more than once, that a step works that no cache could answer. */
  onUncachedStep?: (() => void) | undefined
}

/** What the work gave, and what is known of any build. */
export interface BuildSessionResult<T> extends Pick<BuiltImage, 'steps' | 'transfer' | 'from'> {
  answer: T
  /** How long the image's export took, in milliseconds. */
  exportMs: number
}

/**
 * Does one build in a session of its own: BuildKit has the context, logins, secrets and ssh agent from it, and
 * what it tells of its steps goes to the log.
 * @param work is given the session's id; may be called twice
 */
export async function withSession<T>(
  input: BuildInput,
  io: BuilderIo,
  options: BuildSessionOptions,
  work: (session: string, io: SolveIo) => Promise<T>,
): Promise<BuildSessionResult<T>> {
  const sync = new ContextSync(input, options.endpoint)
  try {
    return await attempt(input, io, options, sync, work)
  } catch (error) {
    if (!(error instanceof StaleFiles)) throw error
    await linesTo(io.log)(`sending all files anew: ${error.message}`)
    return await attempt(input, io, options, sync, work)
  }
}

/** @throws StaleFiles when BuildKit does not have what it was believed to have; else what `explain` makes of an error */
async function attempt<T>(
  input: BuildInput,
  { log, signal }: BuilderIo,
  { endpoint, credentials, explain, onUncachedStep }: BuildSessionOptions,
  sync: ContextSync,
  work: (session: string, io: SolveIo) => Promise<T>,
): Promise<BuildSessionResult<T>> {
  const { context, cacheKey: sharedKey, secrets, ssh } = input
  const { times } = sync
  await using session = await openSession(endpoint, { context, times, sharedKey, credentials, secrets, ssh })
  const progress = new Progress()
  const ends = AbortSignal.any([signal, session.broken])
  try {
    const answer = await work(session.id, {
      signal: ends,
      async onStatus(status) {
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
        `warning: the engine clipped the output of ${step}; set BUILDKIT_STEP_LOG_MAX_SIZE (bytes) in the engine's environment to keep more of it`,
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
    // BuildKit has ended the build by itself, so what it has is as well known as after a success.
    if (failed && !ours) await sync.end(progress, log)
    throw await explain(error, ours, failed)
  }
}
