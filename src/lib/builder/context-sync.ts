import { randomUUID } from 'node:crypto'
import type { Endpoint } from '../buildkit/endpoint.ts'
import type { Progress } from '../buildkit/progress.ts'
import { entriesKey, FileTimes } from '../buildkit/session/file-times.ts'
import { selectEntries } from '../buildkit/session/follow-paths.ts'
import type { LogSink } from '../core/build-log/sink.ts'
import { linesTo } from '../core/one-line.ts'
import type { BuildInput, SyncOptions } from './builder.ts'

/**
 * Keeps track of a BuildKit's copy of a repository's files across builds: chooses the files' times by the record of the
 * last build, and writes the record for the next one.
 */
export class ContextSync {
  readonly #input: BuildInput
  readonly #endpoint: Pick<Endpoint, 'id'>
  readonly #token = randomUUID()
  #isOutdated = false
  /** Modification times of the files. */
  times: Promise<FileTimes>

  /** Created just before the build. */
  constructor(input: BuildInput, endpoint: Pick<Endpoint, 'id'>) {
    this.#input = input
    this.#endpoint = endpoint
    this.times = this.#begin()
    // Awaited when BuildKit requests files, if ever.
    this.times.catch(() => {})
  }

  async #begin(): Promise<FileTimes> {
    const { context, sync, cacheKey } = this.#input
    if (!sync) return FileTimes.of(context, null, null)
    const record = await sync.records.begin(await this.#endpoint.id(), cacheKey, this.#token)
    return FileTimes.of(context, record, await this.#basis(sync))
  }

  /** Includes files copied before RUN: cache mounts may hold results made from them that are older than all else. */
  async #basis({ basis, copiedBeforeRun }: SyncOptions): Promise<string | null> {
    const [known, paths] = await Promise.all([basis, copiedBeforeRun])
    if (known === null || paths.length === 0) return known
    const { entries } = this.#input.context
    const selected = await selectEntries(entries, { follow: paths, include: [] })
    return `${known} ${await entriesKey(selected)}`
  }

  /** Prepares for another run of the build, with new times for all files. */
  restart(progress: Pick<Progress, 'ranBeforeCopy' | 'outdatesCacheMounts'>): void {
    this.#isOutdated ||= isOutdated(progress)
    this.times = this.times.then((times) => times.allNew())
  }

  /**
   * Records what BuildKit has now. Nothing is recorded, so that all files get a new time in the next build, if this
   * build compiled placeholder sources before it copied the real ones (later builds may get the results from the cache),
   * or recreated something that the content of cache mounts depends on.
   */
  async end(
    progress: Pick<Progress, 'ranBeforeCopy' | 'outdatesCacheMounts' | 'clock'>,
    log: LogSink,
  ): Promise<void> {
    try {
      await this.#end(progress)
    } catch (error) {
      // Without a record, the next build sends all files; that is no reason to fail this one.
      await linesTo(log)(`warning: the next build will resend all files: ${(error as Error).message}`)
    }
  }

  async #end(progress: Parameters<ContextSync['end']>[0]): Promise<void> {
    const { sync, cacheKey } = this.#input
    if (!sync) return
    const isKnown = !this.#isOutdated && !isOutdated(progress)
    const files = isKnown ? await (await this.times).encode(progress.clock) : null
    await sync.records.end(await this.#endpoint.id(), cacheKey, this.#token, files)
  }
}

function isOutdated(progress: Pick<Progress, 'ranBeforeCopy' | 'outdatesCacheMounts'>): boolean {
  return progress.outdatesCacheMounts || progress.ranBeforeCopy.some(mayMakeSources)
}

/**
 * Whether a command before COPY may write placeholders for files that are copied later, as is common to build
 * dependencies before the sources: `echo 'fn main() {}' >src/main.rs && cargo build`. This is a guess: a false positive
 * costs one more transfer; with a false negative, a placeholder's result stays until the source changes.
 */
function mayMakeSources(command: string): boolean {
  return WRITES.test(command.replace(/[0-9&]?>{1,2} ?(?:&[0-9]|\/dev\/\w+)/g, ''))
}

const WRITES =
  />|<<|[\s;&|(](?:touch|tee|cp|mv|ln|dd|cargo (?:init|new)|dotnet new)(?![\w.-])|(?:[;&|(]|RUN)\s+install\s/
