import { toConveyorError } from './errors.ts'

/** What a line of the process's own log is about, for those who search a log. */
export interface LogFields {
  /** `info` by default; `warn` for a line that begins with `warning: `. */
  level?: 'warn' | 'error' | 'fatal'
  /** Id of a build. */
  build?: string
  repository?: string
  /** Of the commit, its first twelve digits. */
  sha?: string
  /** GitHub's id of a webhook delivery. */
  delivery?: string
  /** Id of an HTTP request within the process. */
  request?: string
}

/** The process's own log: one line of text at a time, and what it is about. */
export type Log = (line: string, fields?: LogFields) => void

/** The fields of a line about a build. */
export function about(build: { id: string; repository: string; sha: string }): LogFields {
  return { build: build.id, repository: build.repository, sha: build.sha.slice(0, 12) }
}

/**
 * For work that is repeated (see util/periodic.ts), perhaps every second: logs the first of several failures in a row.
 * @returns called with each failure; `isNews`: the time before, it did not fail, or there was none
 */
export function logFirst(
  log: Log,
  what: string,
  fields?: LogFields,
): (error: unknown, isNews: boolean) => void {
  return (error, isNews) => {
    if (isNews) log(`${what}: ${toConveyorError(error, 'failed').advice}`, fields)
  }
}
