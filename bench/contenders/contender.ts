import type { Disk } from '../support/disk.ts'
import type { World } from '../support/world.ts'

/** A commit at the head of its branch, as a push announces it. */
export interface Push {
  repository: string
  branch: string
  sha: string
}

/** What a contender says about one push that became an image. */
export interface Flow {
  /** From the push (the webhook, or the start of the script) to the tags and the status. */
  seconds: number
  /** Where the time went, in seconds, as far as the contender tells. */
  split?: Record<string, number>
  /** What the contender wrote meanwhile. */
  log: string
}

/**
 * What is left of a machine. `cold`: no engine data, clones or mirrors. `warmed`: the same, but the
 * contender had the time to make itself ready. `new`: what belongs to the service and not to the machine (its
 * list of builds) is gone, too.
 */
export type Chill = 'cold' | 'warmed' | 'new'

/** One way from a push to an image with three tags and a commit status. */
export interface Contender extends AsyncDisposable {
  readonly name: string
  /** Everything that it writes is here. */
  readonly disk: Disk
  /** The image of a repository in the registry, without host and tag. */
  image(repository: string): string
  /** Replaces its machine. */
  chill(chill: Chill): Promise<void>
  /** The whole flow. Rejects with what went wrong. */
  run(push: Push): Promise<Flow>
}

/** Starts a contender on an empty disk of its own. */
export type StartContender = (world: World) => Promise<Contender>
