import { ConveyorError } from '../core/errors.ts'

export const NO_ENGINE = 'Start the Docker engine, or set DOCKER_HOST to one that is running'

/** A request to the engine failed. @throws ConveyorError `unavailable`, always */
export function engineDown(thrown: unknown): never {
  throw new ConveyorError('unavailable', `cannot reach the Docker engine: ${messageOf(thrown)}`, {
    cause: thrown,
    hint: NO_ENGINE,
  })
}

/** Whether the connection to the engine failed. */
export function isConnection(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  return (
    typeof code === 'string' && /^(ECONN|ENOENT|EPIPE|ENOTFOUND|ETIMEDOUT|EACCES|EHOSTUNREACH)/.test(code)
  )
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** HTTP status of the engine's response; undefined if there was none. */
export function statusOf(error: unknown): number | undefined {
  return (error as { statusCode?: number } | null)?.statusCode
}

/** The engine's message, without the client's prefix. */
export function engineMessage(error: unknown): string {
  const { json, message } = error as { json?: { message?: unknown } | null; message?: string }
  const text = typeof json?.message === 'string' ? json.message : String(message ?? error)
  return text.replace(/^\(HTTP code \d+\) [^-]*- /, '').trim()
}
