import { ConveyorError } from '../core/errors.ts'

export const NO_ENGINE = 'Start the Docker engine, or set DOCKER_HOST to one that runs'

/** What a failed question to the engine means. */
export function engineDown(thrown: unknown): never {
  throw new ConveyorError('unavailable', `the Docker engine does not answer: ${messageOf(thrown)}`, {
    cause: thrown,
    hint: NO_ENGINE,
  })
}

/** Whether an error is one of the connection to the engine. */
export function isConnection(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return (
    typeof code === 'string' && /^(ECONN|ENOENT|EPIPE|ENOTFOUND|ETIMEDOUT|EACCES|EHOSTUNREACH)/.test(code)
  )
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
