import pg from 'pg'
import { ConveyorError, type ErrorOptions } from '../core/errors.ts'
import { isUntrusted } from '../net/certificates.ts'

/**
 * Turns what pg throws into a ConveyorError. Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
 * @param where the database as named in messages, without the login
 */
export function explainPostgres(thrown: unknown, where: string): ConveyorError {
  if (thrown instanceof ConveyorError) return thrown
  const reason = reasonOf(thrown)
  const problem = (kind: ConveyorError['kind'], what: string, options: ErrorOptions = {}) =>
    new ConveyorError(kind, `database ${where} ${what}: ${reason}`, { cause: thrown, ...options })

  const code = thrown instanceof pg.DatabaseError ? thrown.code : undefined
  if (code === undefined) {
    if (/SASL|password must be/.test(reason)) {
      return problem('unauthorized', 'requires a password', { hint: 'Add it to the database URL' })
    }
    return explainConnection(thrown, problem)
  }
  if (code.startsWith('28')) {
    const tls = code === '28000' ? '; if the server requires TLS, add ?sslmode=verify-full' : ''
    return problem('unauthorized', 'rejected the login', {
      hint: `Check the user and password in its URL${tls}`,
    })
  }
  if (code === '3D000') {
    return problem('not_found', 'does not exist', {
      hint: 'Create it (createdb), or correct its name in the URL',
    })
  }
  if (code === '42501') {
    return problem('unauthorized', 'denied access', {
      hint: 'Make the user in its URL the owner of the database, or allow that user to create tables',
    })
  }
  if (code === '53300') {
    return problem('unavailable', 'has no connections left', {
      hint: 'Raise max_connections on the Postgres server, or put a pooler in session mode in front of it',
    })
  }
  if (code === '53100')
    return problem('unavailable', 'is out of disk space', { hint: 'Free up space on its disk' })
  // Data that can never be stored: a null byte, or too long for an index.
  if (/^(22|54)/.test(code)) return problem('invalid', 'rejected a value')
  // Connection, transaction rollback, resources, shutdown or standby, system errors.
  const passes = /^(08|40|53|55|57|58)|^25006$/.test(code)
  return problem('unavailable', 'failed', { retryable: passes })
}

type Problem = (kind: ConveyorError['kind'], what: string, options?: ErrorOptions) => ConveyorError

/** Explains errors without a response from the server. */
function explainConnection(thrown: unknown, problem: Problem): ConveyorError {
  const code = codeOf(thrown)
  const final = (what: string, hint: string) => problem('unavailable', what, { hint, retryable: false })
  if (isUntrusted(thrown)) {
    return final(
      'has an untrusted certificate',
      'Add its CA certificate, or its own certificate if it is self-signed, to its URL: ?sslmode=verify-full&sslrootcert=FILE',
    )
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return final('has a certificate for other host names', 'Use one of them as the host in its URL')
  }
  if (code.startsWith('CERT_') || ['INVALID_PURPOSE', 'INVALID_CA', 'PATH_LENGTH_EXCEEDED'].includes(code)) {
    return final('has an invalid certificate', 'Issue a new server certificate')
  }
  if ((code === 'ENOENT' || code === 'EACCES') && syscallOf(thrown) === 'open') {
    return final('cannot be reached', 'Correct the path of sslrootcert, sslcert or sslkey in its URL')
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return problem('unavailable', 'has a host name that cannot be resolved', {
      hint: 'Check the host in its URL, and the DNS settings of this machine',
    })
  }
  // From pg itself, without a code.
  if (reasonOf(thrown) === 'The server does not support SSL connections') {
    return final('does not support TLS', 'Remove sslmode from its URL, or enable TLS on the server')
  }
  return problem('unavailable', 'does not respond', {
    hint: 'Check that the Postgres server is running, and the host and port in its URL',
  })
}

function codeOf(thrown: unknown): string {
  if (thrown instanceof AggregateError && thrown.errors.length > 0) return codeOf(thrown.errors[0])
  return (thrown as NodeJS.ErrnoException).code ?? ''
}

function syscallOf(thrown: unknown): string {
  return (thrown as NodeJS.ErrnoException).syscall ?? ''
}

/** Whether a transaction was rolled back only because of a concurrent one. */
export function isConflict(thrown: unknown): boolean {
  const cause = thrown instanceof ConveyorError ? thrown.cause : thrown
  return cause instanceof pg.DatabaseError && (cause.code === '40001' || cause.code === '40P01')
}

/** Whether a statement timed out. Its connection still waits for the answer, and can no longer be used. */
export function isTimeout(thrown: unknown): boolean {
  const cause = thrown instanceof ConveyorError ? thrown.cause : thrown
  return cause instanceof Error && cause.message === 'Query read timeout'
}

function reasonOf(thrown: unknown): string {
  // A host with several addresses fails with one error for each, and no message for all.
  if (thrown instanceof AggregateError && thrown.errors.length > 0) return reasonOf(thrown.errors[0])
  return thrown instanceof Error ? thrown.message : String(thrown)
}
