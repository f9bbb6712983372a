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
      : await ofCommit(store, wanted, request, (sha) => newestOf(store, wanted.repository, sha))
  return found && mayUse(request.identity, found.repository) ? found : notFound('build', wanted)
}

/** Of the repository itself or, if there is none, of a fork. */
async function newestOf(store: BuildStore, repository: string, sha: string): Promise<Build | null> {
  return (await store.newest(repository, sha)) ?? store.newest(repository, sha, 'any')
}

/** With fewer digits, an id would soon be another build's. */
const SHORT_ID = /^[0-9a-f-]{4,35}$/
/** How many commits with the same short id are looked at, and how many builds are named. */
const SIMILAR = 10
/** How many builds with the same short id are looked at: of ten million, 150 begin with the same 4 digits. */
const MOST_SIMILAR = 1000

/** The build whose id begins with this. Null if there is none. @throws ConveyorError `invalid` if there are several */
async function byShortId(store: BuildStore, id: string, { identity }: FastifyRequest): Promise<Build | null> {
  if (!SHORT_ID.test(id)) return null
  const similar = await store.startingWith(id, MOST_SIMILAR)
  const [first, ...others] = similar.filter(({ repository }) => mayUse(identity, repository))
  if (!first || others.length === 0) return first ?? null
  const named = [first, ...others].slice(0, SIMILAR)
  const names = named.map((build) => `${build.id} (${shortName(build)})`).join(', ')
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
      : await ofCommit(store, wanted, request, (sha) => store.newestArtifact(wanted.repository, sha))
  return found && mayUse(request.identity, found.repository) ? found : notFound('artifact', wanted)
}

interface WantedCommit {
  repository: string
  /** Full, or at least SHORT_SHA digits of it. */
  sha: string
}

type Wanted = { id: string } | WantedCommit

/** As git abbreviates them. */
const SHORT_SHA = 7

/** What `find` has of a commit. @throws ConveyorError `invalid` if its short id is that of several commits */
async function ofCommit<T>(
  store: BuildStore,
  { repository, sha }: WantedCommit,
  { identity }: FastifyRequest,
  find: (sha: string) => Promise<T | null>,
): Promise<T | null> {
  if (sha.length >= 40 || !mayUse(identity, repository)) return find(sha)
  const [first, ...others] = await store.commitsStartingWith(repository, sha, SIMILAR)
  if (first === undefined || others.length === 0) return first === undefined ? null : find(first)
  const names = [first, ...others].join(', ')
  throw new ConveyorError('invalid', `several commits of ${repository} begin with ${sha}: ${names}`, {
    hint: 'Use more digits of the sha',
  })
}

function keyOf(params: BuildParams): string {
  return 'key' in params ? params.key : `${params.owner}/${params.name}`
}

function parseKey(key: string): Wanted {
  const at = key.lastIndexOf('@')
  if (at < 0) return { id: key }
  const [repository, sha] = [validRepository(key.slice(0, at)), key.slice(at + 1).toLowerCase()]
  const isShort = sha.length >= SHORT_SHA && sha.length < 40 && /^[0-9a-f]+$/.test(sha)
  return { repository, sha: isShort ? sha : validSha(sha) }
}

function notFound(what: string, wanted: Wanted): never {
  const name = 'id' in wanted ? wanted.id.slice(0, 200) : `${wanted.repository}@${wanted.sha}`
  throw new ConveyorError('not_found', `${what} ${name} not found`)
}
