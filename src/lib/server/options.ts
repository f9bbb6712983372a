import type { LatestPolicy } from '../build/publish.ts'
import type { Forge } from '../forge/forge.ts'
import type { LogStore } from '../logs/log-store.ts'
import type { Queue } from '../queue/queue.ts'
import type { ImageNames } from '../registry/registry.ts'
import type { History } from '../source/source.ts'
import type { BuildStore } from '../store/build-store.ts'
import type { Credentials } from './auth.ts'

export interface ServerOptions {
  store: BuildStore
  queue: Queue
  logs: LogStore
  forge: Pick<Forge, 'branchHead' | 'fullName'>
  /** Asked whether a branch contains the commit that is to be built. */
  history: History
  names: Pick<ImageNames, 'tag'>
  /** Which builds move `latest`. */
  latest: LatestPolicy
  /** Shared secret of the webhooks; null accepts unsigned ones. */
  githubSecret: string | null
  /** Asked for on everything but webhooks and /healthz; null asks nobody. */
  auth: Credentials | null
  /** Public base URL without a trailing slash. A function, as the port may be known late. */
  baseUrl: () => string
  /** The server's own log, one line at a time. */
  log: (line: string) => void
  /** Said in /healthz and at `/`. */
  version?: string
  /** How long a stream may say nothing; 25 s by default, below the idle limit of common proxies. */
  heartbeatMs?: number
}
