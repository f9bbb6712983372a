import type { Disk } from '../support/disk.ts'
import type { World } from '../support/world.ts'

/** A commit at the head of its branch, as a push announces it. */
export interface Push {
  repository: string
  branch: string
  sha: string
}

/** One push that became an image, as a contender reports it. */
export interface Flow {
  /** From the push (the webhook, or the start of the script) to the tags and the status. */
  seconds: number
  /** Where the time went, in seconds, if the contender reports it. */
  split?: Record<string, number>
  /** The contender's output. */
  log: string
}

/**
 * What a machine still has. `cold`: no engine data, clones or mirrors. `warmed`: the same, but the contender had
 * time to warm up. `new`: the data of the service (its list of builds) is gone, too.
 */
export type Chill = 'cold' | 'warmed' | 'new'

/** A tool that turns a push into an image with three tags and a commit status. */
export interface Contender extends AsyncDisposable {
  readonly name: string
  /** Everything that it writes. */
  readonly disk: Disk
  /** The image of a repository in the registry, without host and tag. */
  image(repository: string): string
  /** Replaces its machine. */
  chill(chill: Chill): Promise<void>
  /** The whole flow. Rejects with what went wrong. */
  run(push: Push): Promise<Flow>
}

/** Starts a contender on its own empty disk. */
export type StartContender = (world: World) => Promise<Contender>
