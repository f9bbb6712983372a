import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Writable } from 'node:stream'
import { buildLocal } from '../app/build-local.ts'
import type { Config } from '../config/config.ts'
import { oneLine } from '../core/one-line.ts'
import { validRefName, validRepository, validSha } from '../core/validate.ts'
import { untilStopped } from '../util/lifecycle.ts'
import { EXIT_CODES } from './base-command.ts'

/** What a builder image is told: the contract of build-container.ts, from inside. */
export interface BuilderCommandOptions {
  repository: string
  sha: string
  /** Empty for a commit without a branch. */
  branch: string
  cache: boolean
  /** Of its cache mounts: the records that it could be derived from are the server's. Empty: one of its own. */
  cacheNamespace: string
}

/**
 * `conveyor builder`, the entrypoint of Conveyor's own builder image: fetches, builds, pushes and tags one
 * commit with the same core as the server, in the engine whose socket is mounted. Records of the build are
 * kept only while it runs, as the server has its own; mirrors stay in the data directory.
 * @returns the exit code
 * @throws ConveyorError what parsing the options and buildLocal throw; a build that fails is a result
 */
export async function builderCommand(
  options: BuilderCommandOptions,
  config: Config,
  stdout: Writable,
): Promise<number> {
  const { branch, cacheNamespace } = options
  const commit = { repository: validRepository(options.repository), sha: validSha(options.sha) }
  const target = branch === '' ? commit : { ...commit, branch: validRefName(branch) }
  const stop = untilStopped()
  const say = (line: string) => void stdout.write(`${oneLine(line)}\n`)
  const onLog = (bytes: Uint8Array) =>
    // A log that nobody reads ends no build.
    new Promise<void>((resolve) => stdout.write(bytes, () => resolve()))
  const recordsDir = await mkdtemp(join(tmpdir(), 'conveyor-builder-'))
  try {
    const io = { stdout, log: say }
    const { build } = await buildLocal(config, target, options.cache, onLog, io, stop, {
      recordsDir,
      told: true,
      ...(cacheNamespace === '' ? {} : { cacheNamespace }),
    })
    // The log has said what failed.
    return build.state === 'succeeded' ? 0 : EXIT_CODES[build.errorKind ?? 'build_failed']
  } finally {
    await rm(recordsDir, { recursive: true, force: true })
  }
}
