import type { BuildJson } from '../api/build.ts'
import { ConveyorError } from '../core/errors.ts'
import { validRepository, validSha } from '../core/validate.ts'
import { call } from './call.ts'
import { type Connection, Dropped } from './connection.ts'
import { asBuild, asBuildPage } from './received.ts'

/** Which builds to list; see GET /builds. */
export interface BuildQuery {
  repository?: string | undefined
  branch?: string | undefined
  state?: string | undefined
  since?: string | undefined
  text?: string | undefined
  limit: number
}

/** The server answers with at most so many builds at once. */
const PAGE = 100
const MOST_PAGES = 10_000

/** The builds that match, newest first, at most `limit`. @throws as call */
export async function listBuilds(
  connection: Connection,
  { limit, ...query }: BuildQuery,
): Promise<BuildJson[]> {
  const builds: BuildJson[] = []
  let cursor: string | null = ''
  for (let page = 1; cursor !== null && builds.length < limit; page++) {
    // Pages of a filter that few builds fit may be empty: of a million builds, some hundred.
    if (page > MOST_PAGES) throw new ConveyorError('unavailable', 'the server sends pages without end')
    const parameters = new URLSearchParams({ limit: String(Math.min(PAGE, limit - builds.length)) })
    for (const [name, value] of Object.entries(query)) if (value) parameters.set(name, value)
    if (cursor !== '') parameters.set('cursor', cursor)
    const found = asBuildPage(await call(connection, 'GET', `builds?${parameters}`))
    builds.push(...found.builds)
    const next = found.next === null ? null : (URL.parse(found.next)?.searchParams.get('cursor') ?? null)
    if (next === cursor) throw new ConveyorError('unavailable', 'the server sent the same page again')
    cursor = next
  }
  return builds
}

/** Path of the build that `target` names. @param target an id, the beginning of one, or OWNER/NAME@SHA @throws ConveyorError `invalid` */
function buildPath(target: string): string {
  const at = target.lastIndexOf('@')
  if (at > 0) {
    const sha = target.slice(at + 1)
    const isShort = /^[0-9a-f]{7,39}$/i.test(sha)
    return `builds/${validRepository(target.slice(0, at))}@${isShort ? sha.toLowerCase() : validSha(sha)}`
  }
  if (/^[0-9a-f-]{4,36}$/i.test(target)) return `builds/${target.toLowerCase()}`
  throw new ConveyorError('invalid', `${JSON.stringify(target.slice(0, 200))} does not name a build`, {
    hint: 'Use the ID of a build, at least its first 4 digits, or OWNER/NAME@SHA; `conveyor list` shows them',
  })
}

/** @throws as buildPath and call */
export async function getBuild(connection: Connection, target: string): Promise<BuildJson> {
  return asBuild(await call(connection, 'GET', buildPath(target)))
}

/** Resolves to the build, which has ended or is being stopped. @throws as buildPath and call */
export async function cancelBuild(connection: Connection, target: string): Promise<BuildJson> {
  return asBuild(await call(connection, 'POST', `${buildPath(target)}/cancel`))
}

/** Resolves to the new build. @param cache undefined: as in the build itself @throws as buildPath and call */
export async function retryBuild(
  connection: Connection,
  target: string,
  cache: boolean | undefined,
): Promise<BuildJson> {
  const body = cache === undefined ? undefined : { cache }
  return asBuild(await call(connection, 'POST', `${buildPath(target)}/retry`, body))
}

/** The log of a build as it is now. @throws as call */
export async function* logNow(connection: Connection, { id }: BuildJson): AsyncGenerator<Uint8Array> {
  try {
    yield* connection.send('GET', `logs/${id}?follow=false`, 'text/plain')
  } catch (error) {
    throw error instanceof Dropped ? connection.unavailable(error) : error
  }
}
