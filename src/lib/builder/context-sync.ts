import { randomUUID } from 'node:crypto'
import type { Endpoint } from '../buildkit/endpoint.ts'
import type { Progress } from '../buildkit/progress.ts'
import { entriesKey, FileTimes } from '../buildkit/session/file-times.ts'
import { selectEntries } from '../buildkit/session/follow-paths.ts'
import { linesTo } from '../core/one-line.ts'
import type { LogWriter } from '../logs/log-store.ts'
import type { BuildInput, SyncOptions } from './builder.ts'

/**
 * One build's part in what a BuildKit has of a repository: the times of its files, from what was noted of the last
 * build, and what is noted for the next one.
 */
export class ContextSync {
  readonly #input: BuildInput
  readonly #endpoint: Pick<Endpoint, 'id'>
  readonly #token = randomUUID()
  #isOutdated = false
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
    const record = await sync.records.begin(await this.#endpoint.id(), cacheKey, this.#token)
    return FileTimes.of(context, record, await this.#basis(sync))
  }

  /** With what is copied copiedBeforeRun: what commands make of that may be in cache mounts, older than all else. */
  async #basis({ basis, copiedBeforeRun }: SyncOptions): Promise<string | null> {
    const [known, paths] = await Promise.all([basis, copiedBeforeRun])
    if (known === null || paths.length === 0) return known
    const { entries } = this.#input.context
    return `${known} ${entriesKey(await selectEntries(entries, { follow: paths, include: [] }))}`
  }

  /** The build is done once more, and all its files are new. */
  restart(progress: Pick<Progress, 'ranBeforeCopy' | 'outdatesCacheMounts'>): void {
    this.#isOutdated ||= isOutdated(progress)
    this.times = this.times.then((times) => times.allNew())
  }

  /**
   * Notes what BuildKit has now; nothing, where all files have to be new for the next build: it built stand-ins for
   * sources before it got the sources, and later builds may take what it made of them from its cache, or made anew
   * what the content of cache mounts was made with.
   */
  async end(
    progress: Pick<Progress, 'ranBeforeCopy' | 'outdatesCacheMounts' | 'clock'>,
    log: LogWriter,
  ): Promise<void> {
    try {
      await this.#end(progress)
    } catch (error) {
      // What is not noted is new for the next build, which is no reason to fail this one.
      await linesTo(log)(`warning: the next build sends all files anew: ${(error as Error).message}`)
    }
  }

  async #end(progress: Parameters<ContextSync['end']>[0]): Promise<void> {
    const { sync, cacheKey } = this.#input
    if (!sync) return
    const isKnown = !this.#isOutdated && !isOutdated(progress)
    const files = isKnown ? (await this.times).encode(progress.clock) : null
    await sync.records.end(await this.#endpoint.id(), cacheKey, this.#token, files)
  }
}

function isOutdated(progress: Pick<Progress, 'ranBeforeCopy' | 'outdatesCacheMounts'>): boolean {
  return progress.outdatesCacheMounts || progress.ranBeforeCopy.some(mayMakeSources)
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
