import type { Forge } from '../forge/forge.ts'
import type { LogStore } from '../logs/log-store.ts'
import type { LatestPolicy } from '../pipeline/publish.ts'
import type { Queue } from '../queue/queue.ts'
import type { ImageNames } from '../registry/registry.ts'
import type { History } from '../source/source.ts'
import type { BuildStore } from '../store/build-store.ts'
import type { AccessOptions } from './access.ts'

/** Response of /readyz: whether builds work, and the state of each component they need, by name. */
export interface Readiness {
  ready: boolean
  parts: Record<string, 'ok' | 'unavailable'>
}

export interface ServerOptions extends AccessOptions {
  store: BuildStore
  queue: Queue
  logs: LogStore
  forge: Pick<Forge, 'branchHead' | 'defaultBranch' | 'fullName'>
  /** Asked whether a branch contains the commit that is to be built. */
  history: History
  names: Pick<ImageNames, 'tag'>
  /** Which builds move `latest`. */
  latest: LatestPolicy
  /** Shared secret of the webhooks; null takes unsigned ones as a hint: see unsigned-push.ts. */
  githubSecret: string | null
  /** Which repositories may be built; all by default. */
  isAllowed?: (repository: string) => boolean
  /** Public base URL without a trailing slash. A function, as the port may be known late. */
  baseUrl: () => string
  /** The server's own log, one line at a time. */
  log: (line: string) => void
  /** What /readyz says: whether builds work. Without, that they do. */
  ready?: () => Promise<Readiness>
  /** Said in /healthz and at `/`. */
  version?: string
  /** Where large webhooks wait for their signature; the system's folder for such by default. */
  spoolDir?: string
  /** How long a request may take to arrive; 30 s by default. */
  arrivalMs?: number
  /** How long a stream may say nothing; 25 s by default, below the idle limit of common proxies. */
  heartbeatMs?: number
}
