import { createHash } from 'node:crypto'
import { type Build, shortName } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import { frontendsOf } from '../../dockerfile/instructions.ts'
import type { BuildParts } from '../parts.ts'

/**
 * What a build of a fork's commit runs with. Somebody with write access has approved the commit, but its author has no
 * such access: the build gets no secrets, no SSH agent and no passwords of proxies, and shares no cache, so that it
 * neither sees what others have built nor leaves anything for them.
 */
export function partsFor(build: Pick<Build, 'fork'>, parts: BuildParts): BuildParts {
  const { fork } = build
  if (!fork) return parts
  return {
    ...parts,
    secrets: async () => ({}),
    async proxies() {
      const { variables, secrets } = await parts.proxies()
      const open = Object.entries(variables).filter(
        ([, url]) => !secrets.some((secret) => url.includes(secret)),
      )
      return { variables: Object.fromEntries(open), secrets: [] }
    },
    cacheNamespace: (repository) =>
      createHash('sha256')
        .update(`${parts.cacheNamespace(repository)} pull ${fork.pull}`)
        .digest('hex'),
    settings(repository) {
      const settings = parts.settings(repository)
      // The names of hosts are part of the cache key of each RUN step: so these never match those of other builds. Without
      // that, a step that had no secret here would count as done for the repository, too.
      const hosts = { ...settings.hosts, [`pull-${fork.pull}.fork.invalid`]: '127.0.0.1' }
      return { ...settings, hosts, ssh: null }
    },
  }
}

/** Identifies the files of a repository in BuildKit; those of a fork are apart. */
export function cacheKeyOf({ repository, fork }: Pick<Build, 'repository' | 'fork'>): string {
  const key = repositoryKey(repository)
  return fork ? `${key}#pull-${fork.pull}` : key
}

/** By its moving tags, or 1.4 or newer; what a digest or an old tag stands for is unknown. */
const STOCK_FRONTEND =
  /^(docker\.io\/)?docker\/dockerfile(:(latest|labs|1|1-labs|1\.([4-9]|[1-9]\d)(\.\d{1,3})?(-labs)?))?$/

/**
 * A frontend of its own, or an old one, could leave out what keeps its steps apart from others in the cache.
 * @param dockerfile null if it could not be read, so that nobody knows what it selects
 * @throws ConveyorError `invalid`
 */
export function checkFrontend(build: Build, dockerfile: string | null): void {
  if (!build.fork) return
  const refused = `cannot build ${shortName(build)} of a fork: its Dockerfile`
  if (dockerfile === null) throw new ConveyorError('invalid', `${refused} cannot be read`)
  const other = frontendsOf(dockerfile).find((name) => !STOCK_FRONTEND.test(name))
  if (other === undefined) return
  throw new ConveyorError(
    'invalid',
    other === ''
      ? `${refused} is for another frontend`
      : `${refused} selects the frontend ${other.slice(0, 200)}`,
    { hint: 'Forks may use docker/dockerfile:1, or 1.4 and newer: change the first line, # syntax=' },
  )
}

/** A builder image pushes and uses caches as it likes. */
export function noForksInContainers(build: Build): ConveyorError {
  return new ConveyorError(
    'invalid',
    `cannot build ${shortName(build)} of a fork with a builder image (--builder image or swarm)`,
    { hint: 'Push the commit to a branch of the repository after a review, or use the built-in builder' },
  )
}
