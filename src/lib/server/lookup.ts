import type { FastifyRequest } from 'fastify'
import type { Artifact, Build } from '../core/build.ts'
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
export async function findBuild(store: BuildStore, request: FastifyRequest): Promise<Build> {
  const wanted = parseKey(request.params as BuildParams)
  const found =
    'id' in wanted ? await store.get(wanted.id) : await store.newest(wanted.repository, wanted.sha)
  return found && mayUse(request.identity, found.repository) ? found : notFound('build', wanted)
}

/** By the artifact's id, or the newest of a commit. @throws as findBuild */
export async function findArtifact(store: BuildStore, request: FastifyRequest): Promise<Artifact> {
  const wanted = parseKey(request.params as BuildParams)
  const found =
    'id' in wanted
      ? await store.artifact(wanted.id)
      : await store.newestArtifact(wanted.repository, wanted.sha)
  return found && mayUse(request.identity, found.repository) ? found : notFound('artifact', wanted)
}

type Wanted = { id: string } | { repository: string; sha: string }

function parseKey(params: BuildParams): Wanted {
  const key = 'key' in params ? params.key : `${params.owner}/${params.name}`
  const at = key.lastIndexOf('@')
  if (at < 0) return { id: key }
  return { repository: validRepository(key.slice(0, at)), sha: validSha(key.slice(at + 1)) }
}

function notFound(what: string, wanted: Wanted): never {
  const name = 'id' in wanted ? wanted.id.slice(0, 200) : `${wanted.repository}@${wanted.sha}`
  throw new ConveyorError('not_found', `${what} ${name} not found`)
}
