import { readFile } from 'node:fs/promises'
import { cpus, release, totalmem } from 'node:os'
import type { BurstResult } from '../burst.ts'
import type { CacheExportResult } from '../cache-export.ts'
import type { CliResult } from '../cli.ts'
import type { FlowResults } from '../flows.ts'
import type { LimitResult } from '../limit.ts'
import type { ListsResult } from '../lists/lists.ts'
import type { MemoryResult } from '../memory.ts'
import { run } from '../support/run.ts'

/** The results of a run of the benchmark, as in its JSON file. Parts that did not run are missing. */
export interface Results {
  /** Start time, in ISO 8601. */
  date: string
  machine: Machine
  /** Measured runs of each scenario and contender. */
  runs: number
  flows?: FlowResults
  /** The physical limits. */
  limit?: LimitResult
  cacheExport?: CacheExportResult
  burst?: BurstResult
  memory?: MemoryResult
  cli?: CliResult
  /** Lists of builds in large stores. */
  lists?: ListsResult
}

/** What the figures depend on, without anything that identifies the machine. */
export interface Machine {
  cores: number
  memoryGiB: number
  system: string
  kernel: string
  /** Of the disks that the contenders work on. */
  fileSystem: string
  node: string
  /** Of the Docker Engine. */
  engine: string
  git: string
  buildah: string
}

export async function describeMachine(fileSystem: string): Promise<Machine> {
  const osRelease = await readFile('/etc/os-release', 'utf8').catch(() => '')
  return {
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: /^PRETTY_NAME="(.+)"$/m.exec(osRelease)?.[1] ?? 'Linux',
    kernel: release().split('-')[0] ?? '',
    fileSystem,
    node: process.versions.node,
    engine: versionIn(await run('dockerd', ['--version'])),
    git: versionIn(await run('git', ['--version'])),
    buildah: versionIn(await run('buildah', ['--version'])),
  }
}

function versionIn(text: string): string {
  return /\d+\.\d+[\w.+-]*/.exec(text)?.[0] ?? text.trim()
}
