import { repositoryKey } from '../../core/repository-key.ts'

/** The value that stands for all further repositories. */
const OTHER = 'other'

/**
 * Values of the label `repository`, which are bounded: each costs memory here and in Prometheus for as long as both run.
 * The first `max` repositories get their own, in lower case, because forges ignore it.
 */
export class RepositoryLabel {
  readonly #known = new Set<string>()
  readonly #max: number

  constructor(max = 100) {
    this.#max = max
  }

  of(repository: string): string {
    const name = repositoryKey(repository)
    if (this.#known.has(name)) return name
    if (this.#known.size >= this.#max) return OTHER
    this.#known.add(name)
    return name
  }
}
