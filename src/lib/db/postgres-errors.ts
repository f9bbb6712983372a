import pg from 'pg'
import { ConveyorError, type ErrorOptions } from '../core/errors.ts'
import { isUntrusted } from '../net/certificates.ts'

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
    return explainConnection(thrown, problem)
  }
  if (code.startsWith('28')) {
    const tls = code === '28000' ? '; one that wants TLS is asked with ?sslmode=verify-full' : ''
    return problem('unauthorized', 'refuses the login', { hint: `Check user and password in its URL${tls}` })
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
  // Data that cannot be stored (a null byte, too long for an index): it never will be.
  if (/^(22|54)/.test(code)) return problem('invalid', 'does not take a value')
  // Connection, transaction rolled back, resources, server going down or standing by, system.
  const passes = /^(08|40|53|55|57|58)|^25006$/.test(code)
  return problem('unavailable', 'failed', { retryable: passes })
}

type Problem = (kind: ConveyorError['kind'], what: string, options?: ErrorOptions) => ConveyorError

/** What went wrong before the server could say anything. */
function explainConnection(thrown: unknown, problem: Problem): ConveyorError {
  const code = codeOf(thrown)
  const final = (what: string, hint: string) => problem('unavailable', what, { hint, retryable: false })
  if (isUntrusted(thrown)) {
    return final(
      'has a certificate that is not trusted',
      'Give that of its authority, or its own if it is self-signed: ?sslmode=verify-full&sslrootcert=FILE in its URL',
    )
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return final('has a certificate for other names', 'Use one of those as the host in its URL')
  }
  if (code.startsWith('CERT_') || ['INVALID_PURPOSE', 'INVALID_CA', 'PATH_LENGTH_EXCEEDED'].includes(code)) {
    return final('has a certificate that is not valid', 'Have a new one made, for a server')
  }
  if ((code === 'ENOENT' || code === 'EACCES') && syscallOf(thrown) === 'open') {
    return final('cannot be connected to', 'Correct the file in its URL: sslrootcert, sslcert or sslkey')
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return problem('unavailable', 'has a host name that is not known here', {
      hint: 'Check the host in its URL, and the name server of this machine',
    })
  }
  // Of pg itself: it has no code.
  if (reasonOf(thrown) === 'The server does not support SSL connections') {
    return final('has no TLS', 'Leave sslmode out of its URL, or switch ssl on at the server')
  }
  return problem('unavailable', 'does not answer', {
    hint: 'Check that the Postgres server runs and that its host and port are right',
  })
}

function codeOf(thrown: unknown): string {
  if (thrown instanceof AggregateError && thrown.errors.length > 0) return codeOf(thrown.errors[0])
  return (thrown as NodeJS.ErrnoException).code ?? ''
}

function syscallOf(thrown: unknown): string {
  return (thrown as NodeJS.ErrnoException).syscall ?? ''
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
