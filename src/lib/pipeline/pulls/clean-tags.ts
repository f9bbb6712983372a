import { ConveyorError, toConveyorError } from '../../core/errors.ts'
import type { Log } from '../../core/log.ts'
import type { PullRequest } from '../../core/pull-request.ts'
import type { ImageNames, Registry } from '../../registry/registry.ts'
import type { BuildStore } from '../../store/build-store.ts'
import { pullRef } from './pulls.ts'

interface CleanParts {
  store: Pick<BuildStore, 'pulls' | 'dropTag'>
  registry: Pick<Registry, 'deleteTag'>
  names: Pick<ImageNames, 'image'>
  /** The server's own log, one line at a time. */
  log: Log
}

/** Of closed pull requests at a time; the next sweep takes the others. */
const AT_ONCE = 100

/**
 * Removes the tags of closed pull requests from the registry; the images stay, under the tags of their commits. A
 * registry that refuses is not asked again; one that does not answer is, by the next sweep.
 */
export async function cleanTags(parts: CleanParts): Promise<void> {
  /** Registries that do not answer would cost a time limit for each tag. */
  let unavailable = false
  for (const pull of await parts.store.pulls.uncleaned(AT_ONCE)) {
    if (unavailable) return
    try {
      await cleanTag(pull, parts)
    } catch (error) {
      const { kind, advice } = toConveyorError(error, 'failed')
      unavailable = kind === 'unavailable'
      parts.log(`removing the tag of ${nameOf(pull)}: ${advice}`, { level: 'warn' })
      if (unavailable) continue
    }
    await parts.store.pulls.markCleaned(pull)
  }
}

async function cleanTag(pull: PullRequest, { store, registry, names, log }: CleanParts): Promise<void> {
  const image = names.image(pull.repository)
  let isOpen = false
  let isGone = false
  const remove = async (tag: string) => {
    // It may have been reopened since it was listed.
    isOpen = (await store.pulls.get(pull.repository, pull.number))?.open ?? false
    if (!isOpen) isGone = await registry.deleteTag(image, tag)
  }
  const tag = await store.dropTag(image, pullRef(pull.number), remove)
  if (tag === null || isOpen) return
  if (isGone) log(`removed tag ${tag} of ${image}: ${nameOf(pull)} is closed`)
  else throw new ConveyorError('invalid', `the registry does not remove tags: ${image}:${tag} stays`)
}

function nameOf({ repository, number }: PullRequest): string {
  return `pull request #${number} of ${repository}`
}
