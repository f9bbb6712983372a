import pg from 'pg'
import { ConveyorError, type ErrorOptions } from './errors.ts'

/**
 * Turns what pg throws into a ConveyorError. Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
 * @param where names the database, without the login.
 */
export function explainPostgres(thrown: unknown, where: string): ConveyorError {
  if (thrown instanceof ConveyorError) return thrown
  const reason = reasonOf(thrown)
  const problem = (kind: ConveyorError['kind'], what: string, options: ErrorOptions = {}) =>
    new ConveyorError(kind, `database ${where} ${what}: ${reason}`, { cause: thrown, ...options })

  const code = thrown instanceof pg.DatabaseError ? thrown.code : undefined
  if (code === undefined) {
    if (/SASL|password must be/.test(reason)) {
      return problem('unauthorized', 'asks for a password', { hint: 'Give it in the URL of the database' })
    }
    return problem('unavailable', 'does not answer', {
      hint: 'Check that the Postgres server runs and that its host and port are right',
    })
  }
  if (code.startsWith('28')) {
    return problem('unauthorized', 'refuses the login', { hint: 'Check user and password in its URL' })
  }
  if (code === '3D000') {
    return problem('not_found', 'does not exist', { hint: 'Create it (createdb), or correct the name' })
  }
  if (code === '42501') {
    return problem('unauthorized', 'refuses', {
      hint: 'Make the user of its URL the owner of the database, or grant it the right to create tables',
    })
  }
  if (code === '53300') {
    return problem('unavailable', 'has no connection left', {
      hint: 'Raise max_connections of the Postgres server, or put a pooler in session mode before it',
    })
  }
  if (code === '53100') return problem('unavailable', 'cannot grow', { hint: 'Make room on its disk' })
  // Data that can not be stored (a null byte, too long for an index): it never will be.
  if (/^(22|54)/.test(code)) return problem('invalid', 'does not take a value')
  // Connection, transaction rolled back, resources, server going down or standing by, system.
  const passes = /^(08|40|53|55|57|58)|^25006$/.test(code)
  return problem('unavailable', 'failed', { retryable: passes })
}

/** Whether a transaction was rolled back only because of another one at the same time. */
export function isConflict(thrown: unknown): boolean {
  const cause = thrown instanceof ConveyorError ? thrown.cause : thrown
  return cause instanceof pg.DatabaseError && (cause.code === '40001' || cause.code === '40P01')
}

/** Whether a statement got no answer in time. Its connection still waits for it, and is of no more use. */
export function isTimeout(thrown: unknown): boolean {
  const cause = thrown instanceof ConveyorError ? thrown.cause : thrown
  return cause instanceof Error && cause.message === 'Query read timeout'
}

function reasonOf(thrown: unknown): string {
  // A name with several addresses fails with an error for each, and no message of its own.
  if (thrown instanceof AggregateError && thrown.errors.length > 0) return reasonOf(thrown.errors[0])
  return thrown instanceof Error ? thrown.message : String(thrown)
}
