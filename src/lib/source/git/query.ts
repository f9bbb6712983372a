import { mkdir } from 'node:fs/promises'
import { ConveyorError } from '../../core/errors.ts'
import { fetchError, gitMessage } from './errors.ts'
import { GitFailure, type GitOptions } from './git.ts'
import { type Remote, withRemote } from './remote.ts'

/** What is asked of a git server. */
interface RemoteQuestion {
  repository: string
  /** Completes "cannot ...". */
  action: string
  signal: AbortSignal | undefined
  limitMs: number
}

/**
 * Runs git against a server within a time limit, with the options that it gets.
 * @throws ConveyorError that says what could not be done; the reason of `signal`
 */
export function remoteQuery(remote: Remote, dir: string) {
  return async <T>(
    { repository, action, signal, limitMs }: RemoteQuestion,
    run: (options: GitOptions) => Promise<T>,
  ): Promise<T> => {
    const timeout = AbortSignal.timeout(limitMs)
    const limited = signal ? AbortSignal.any([signal, timeout]) : timeout
    await mkdir(dir, { recursive: true, mode: 0o700 })
    try {
      return await withRemote(
        remote,
        repository,
        (connection) => run({ ...connection, signal: limited }),
        limited,
      )
    } catch (error) {
      signal?.throwIfAborted()
      const failed = `cannot ${action} of ${repository} from ${remote.host}`
      if (timeout.aborted) throw new ConveyorError('unavailable', `${failed}: timed out`)
      if (!(error instanceof GitFailure)) throw error
      const known = fetchError(error, { repository, sha: '', remote })
      const { kind, hint } =
        known instanceof ConveyorError ? known : { kind: 'unavailable' as const, hint: undefined }
      throw new ConveyorError(kind, `${failed}: ${gitMessage(error)}`, {
        ...(hint && { hint }),
        cause: error,
      })
    }
  }
}
