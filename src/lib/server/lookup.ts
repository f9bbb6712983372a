import type { FastifyRequest } from 'fastify'
import { type Artifact, type Build, shortName } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import { validRepository, validSha } from '../core/validate.ts'
import type { BuildStore } from '../store/build-store.ts'
import { mayUse } from './access/identity.ts'

/**
 * Path parameters that identify a build: `/{id}`, or `/{owner}/{repo}@{sha}`. If the slash of the latter is
 * URL-encoded, all of it is the key.
 */
type BuildParams = { key: string } | { owner: string; name: string }

/**
 * The build that the path of a request identifies, if its sender may see it.
 * @throws ConveyorError `not_found`, or `invalid` for a malformed repository or sha
 */
export function findBuild(store: BuildStore, request: FastifyRequest): Promise<Build> {
  return findBuildBy(store, request, keyOf(request.params as BuildParams))
}

/** The build with this id, or the newest one of `owner/name@sha`. @throws as findBuild */
export async function findBuildBy(store: BuildStore, request: FastifyRequest, key: string): Promise<Build> {
  const wanted = parseKey(key)
  const found =
    'id' in wanted
      ? ((await store.get(wanted.id)) ?? (await byShortId(store, wanted.id, request)))
      : await store.newest(wanted.repository, wanted.sha)
  return found && mayUse(request.identity, found.repository) ? found : notFound('build', wanted)
}

/** With fewer digits, an id would soon be another build's. */
const SHORT_ID = /^[0-9a-f-]{4,35}$/
/** How many builds with the same short id are looked at. */
const SIMILAR = 10

/** The build whose id begins with this. Null if there is none. @throws ConveyorError `invalid` if there are several */
async function byShortId(store: BuildStore, id: string, { identity }: FastifyRequest): Promise<Build | null> {
  if (!SHORT_ID.test(id)) return null
  const similar = await store.startingWith(id, SIMILAR)
  const [first, ...others] = similar.filter(({ repository }) => mayUse(identity, repository))
  if (!first || others.length === 0) return first ?? null
  const names = [first, ...others].map((build) => `${build.id} (${shortName(build)})`).join(', ')
  throw new ConveyorError('invalid', `several builds have an ID that begins with ${id}: ${names}`, {
    hint: 'Use more digits of the ID',
  })
}

/** By the artifact's id, or the newest of a commit. @throws as findBuild */
export async function findArtifact(store: BuildStore, request: FastifyRequest): Promise<Artifact> {
  const wanted = parseKey(keyOf(request.params as BuildParams))
  const found =
    'id' in wanted
      ? await store.artifact(wanted.id)
      : await store.newestArtifact(wanted.repository, wanted.sha)
  return found && mayUse(request.identity, found.repository) ? found : notFound('artifact', wanted)
}

type Wanted = { id: string } | { repository: string; sha: string }

function keyOf(params: BuildParams): string {
  return 'key' in params ? params.key : `${params.owner}/${params.name}`
}

function parseKey(key: string): Wanted {
  const at = key.lastIndexOf('@')
  if (at < 0) return { id: key }
  return { repository: validRepository(key.slice(0, at)), sha: validSha(key.slice(at + 1)) }
}

function notFound(what: string, wanted: Wanted): never {
  const name = 'id' in wanted ? wanted.id.slice(0, 200) : `${wanted.repository}@${wanted.sha}`
  throw new ConveyorError('not_found', `${what} ${name} not found`)
}
