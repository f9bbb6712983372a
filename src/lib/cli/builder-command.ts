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

/** Settings of a build in a builder image: the contract of runner/runner.ts. */
export interface BuilderCommandOptions {
  repository: string
  sha: string
  /** Empty for a commit without a branch. */
  branch: string
  cache: boolean
  /** Namespace of the cache mounts, derived from a secret of the server. Empty: a namespace of its own. */
  cacheNamespace: string
}

/**
 * `conveyor builder`, the entrypoint of Conveyor's builder image: fetches, builds, pushes and tags one commit
 * with the same core as the server, in the engine whose socket is mounted. Records of the build are deleted
 * afterwards, because the server keeps its own; mirrors stay in the data directory.
 * @returns the exit code
 * @throws ConveyorError as validate.ts and buildLocal; a failed build is a result
 */
export async function builderCommand(
  options: BuilderCommandOptions,
  config: Config,
  stdout: Writable,
): Promise<number> {
  const { branch, cacheNamespace } = options
  const order = {
    repository: validRepository(options.repository),
    sha: validSha(options.sha),
    ref: branch === '' ? null : { kind: 'branch' as const, name: validRefName(branch) },
  }
  const stop = untilStopped()
  const log = (line: string) => void stdout.write(`${oneLine(line)}\n`)
  const onLog = (bytes: Uint8Array) =>
    // A closed stdout does not stop the build.
    new Promise<void>((resolve) => stdout.write(bytes, () => resolve()))
  const recordsDir = await mkdtemp(join(tmpdir(), 'conveyor-builder-'))
  try {
    const io = { stdout, log }
    const { build } = await buildLocal(config, order, options.cache, onLog, io, stop, {
      recordsDir,
      isVerified: true,
      ...(cacheNamespace === '' ? {} : { cacheNamespace }),
    })
    // The log already contains the error.
    return build.state === 'succeeded' ? 0 : EXIT_CODES[build.errorKind ?? 'build_failed']
  } finally {
    await rm(recordsDir, { recursive: true, force: true })
  }
}
