import { type Build, isEnded, shortName } from '../../core/build.ts'
import { about, type Log } from '../../core/log.ts'
import type { BuildContainer, Runner } from '../../runner/runner.ts'
import type { BuildStore } from '../../store/build-store.ts'

interface LeftoverParts {
  container: Runner
  store: Pick<BuildStore, 'get'>
  log: Log
}

/**
 * Removes the containers of builder images that no process watches: it died, and their build has ended or goes on in a later
 * attempt, perhaps elsewhere. Others may use the same engine or Swarm: what runs for the current attempt at a build stays,
 * and so does what belongs to builds that this store does not know.
 * @throws the first error of the engine or the store, once the others are removed
 */
export async function removeLeftovers({ container, store, log }: LeftoverParts): Promise<void> {
  const removed = (await container.containers()).map(async (found) => {
    const build = await store.get(found.buildId)
    if (!build || !isLeftover(found, build)) return
    await found.remove()
    log(`removed a container that an earlier attempt at ${shortName(build)} left running`, about(build))
  })
  for (const one of await Promise.allSettled(removed)) if (one.status === 'rejected') throw one.reason
}

function isLeftover({ attempt }: BuildContainer, build: Build): boolean {
  return isEnded(build.state) || (attempt !== null && attempt < build.attempt)
}
