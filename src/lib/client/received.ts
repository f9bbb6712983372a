import type { BuildJson, EndEventJson, LogEventJson } from '../api/build.ts'
import { ConveyorError } from '../core/errors.ts'

/**
 * Checks of what a server sent, as far as the client relies on it: commands compute with these values, or print them as
 * they are. Each returns the value. @throws ConveyorError `unavailable`
 */

/** Printed to stdout, where scripts read it. */
const IMAGE = /^[\x21-\x7e]{1,1000}$/
const ID = /^[\w-]{1,100}$/

export function asBuild(value: unknown): BuildJson {
  const build = objectOf(value, 'a build')
  const texts = ['repository', 'sha', 'state', 'created_at'].every((key) => typeof build[key] === 'string')
  const optional = ['branch', 'tag', 'error', 'started_at', 'completed_at'].every((key) =>
    isTextOrNone(build[key]),
  )
  const { commit, withheld } = build
  const ok =
    texts &&
    optional &&
    isImageOrNone(build.image) &&
    ID.test(String(build.id)) &&
    (commit == null || hasTexts(commit, 'title')) &&
    (withheld == null || (Array.isArray(withheld) && withheld.every((one) => hasTexts(one, 'tag', 'reason'))))
  if (!ok) throw unexpected('a build')
  return value as BuildJson
}

export function asBuildPage(value: unknown): { builds: BuildJson[]; next: string | null } {
  const { builds, next } = objectOf(value, 'a list of builds')
  if (!Array.isArray(builds) || !isTextOrNone(next)) throw unexpected('a list of builds')
  return { builds: builds.map(asBuild), next: next ?? null }
}

export function asLogEvent(value: unknown): LogEventJson {
  const { offset, bytes } = objectOf(value, 'a piece of a log')
  if (!Number.isSafeInteger(offset) || typeof bytes !== 'string') throw unexpected('a piece of a log')
  return value as LogEventJson
}

export function asEnd(value: unknown): EndEventJson {
  const { state, image, error } = objectOf(value, 'the end of a build')
  if (typeof state !== 'string' || !isImageOrNone(image) || !isTextOrNone(error))
    throw unexpected('the end of a build')
  return value as EndEventJson
}

function objectOf(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw unexpected(what)
  return value as Record<string, unknown>
}

function isTextOrNone(value: unknown): value is string | null | undefined {
  return value == null || typeof value === 'string'
}

function isImageOrNone(value: unknown): boolean {
  return value == null || (typeof value === 'string' && IMAGE.test(value))
}

function hasTexts(value: unknown, ...keys: string[]): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    keys.every((key) => typeof (value as Record<string, unknown>)[key] === 'string')
  )
}

function unexpected(what: string): ConveyorError {
  return new ConveyorError('unavailable', `the server did not send ${what} as expected`, {
    hint: 'Check the server URL (--url or CONVEYOR_URL), and that the server is not older than this command',
  })
}
