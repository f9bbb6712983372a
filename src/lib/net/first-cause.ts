/** Why a connection failed. If a host has several addresses, the combined error says nothing: the first one counts. */
export function firstCause(error: unknown): { code?: string | undefined; message: string } {
  if (error instanceof AggregateError && error.message === '' && error.errors.length > 0) {
    return firstCause(error.errors[0])
  }
  return error instanceof Error ? (error as NodeJS.ErrnoException) : { message: String(error) }
}
