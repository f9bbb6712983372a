import { randomUUID } from 'node:crypto'
import type { Endpoint } from '../buildkit/endpoint.ts'
import { FileTimes } from '../buildkit/file-times.ts'
import type { Progress } from '../buildkit/progress.ts'
import type { BuildInput } from './builder.ts'

/**
 * One build's part in what a BuildKit has of a repository: the times of its files, from what was noted of the last
 * build, and what is noted for the next one.
 */
export class Sync {
  readonly #input: BuildInput
  readonly #endpoint: Pick<Endpoint, 'id'>
  readonly #token = randomUUID()
  #madeSources = false
  /** When each file was changed. */
  times: Promise<FileTimes>

  /** To be made just before the build. */
  constructor(input: BuildInput, endpoint: Pick<Endpoint, 'id'>) {
    this.#input = input
    this.#endpoint = endpoint
    this.times = this.#begin()
    // Awaited when files are asked for, if they are.
    this.times.catch(() => {})
  }

  async #begin(): Promise<FileTimes> {
    const { context, sync, cacheKey } = this.#input
    if (!sync) return FileTimes.of(context, null, null)
    const token = sync.isNoted ? this.#token : null
    const record = await sync.records.begin(await this.#endpoint.id(), cacheKey, token)
    return FileTimes.of(context, record, await sync.basis)
  }

  /** The build is done once more, and all its files are new. */
  startAgain(progress: Pick<Progress, 'ranBeforeCopy'>): void {
    this.#madeSources ||= progress.ranBeforeCopy.some(mayMakeSources)
    this.times = this.times.then((times) => times.anew())
  }

  /**
   * Notes what BuildKit has now. Where it built stand-ins for sources before it got the sources, and later builds
   * may take what it made of them from its cache, all files have to be new for the next build: nothing is noted.
   */
  async end(progress: Pick<Progress, 'ranBeforeCopy' | 'clock'>): Promise<void> {
    const { sync, cacheKey } = this.#input
    if (!sync?.isNoted) return
    const isKnown = !this.#madeSources && !progress.ranBeforeCopy.some(mayMakeSources)
    const files = isKnown ? (await this.times).encode(progress.clock) : null
    await sync.records.end(await this.#endpoint.id(), cacheKey, this.#token, files)
  }
}

/**
 * Whether a command that runs before COPY may write stand-ins for what is copied then, as one does to have
 * dependencies built before the sources: `echo 'fn main() {}' >src/main.rs && cargo build`. A guess that costs one
 * more transfer where it is wrongly yes; wrongly no, a stand-in stays until its source changes.
 */
function mayMakeSources(command: string): boolean {
  return WRITES.test(command.replace(/[0-9&]?>{1,2} ?(?:&[0-9]|\/dev\/\w+)/g, ''))
}

const WRITES =
  />|<<|[\s;&|(](?:touch|tee|cp|mv|ln|dd|cargo (?:init|new)|dotnet new)(?![\w.-])|(?:[;&|(]|RUN)\s+install\s/
