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
export class TagCleaner {
  readonly #parts: CleanParts
  /** How often the tag of a pull request got no answer. */
  #failures = new Map<string, number>()
  /** Whether the last request got none. */
  #isUnavailable = false

  constructor(parts: CleanParts) {
    this.#parts = parts
  }

  /** @throws what the store throws */
  async sweep(): Promise<void> {
    const { store, log } = this.#parts
    const pulls = await store.pulls.uncleaned(AT_ONCE)
    const failures = new Map(pulls.map((pull) => [nameOf(pull), this.#failures.get(nameOf(pull)) ?? 0]))
    this.#failures = failures
    const times = (pull: PullRequest) => failures.get(nameOf(pull)) ?? 0
    // One that never gets an answer does not keep the others from theirs.
    for (const pull of pulls.toSorted((one, other) => times(one) - times(other))) {
      let isUnavailable = false
      try {
        await cleanTag(pull, this.#parts)
      } catch (error) {
        const { kind, advice } = toConveyorError(error, 'failed')
        isUnavailable = kind === 'unavailable'
        const isNews = !isUnavailable || (!this.#isUnavailable && times(pull) === 0)
        if (isNews) log(`removing the tag of ${nameOf(pull)}: ${advice}`, { level: 'warn' })
      }
      this.#isUnavailable = isUnavailable
      if (isUnavailable) {
        failures.set(nameOf(pull), times(pull) + 1)
        // Each of the others could cost a time limit.
        return
      }
      await store.pulls.markCleaned(pull)
    }
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
