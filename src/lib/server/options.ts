import type { Log } from '../core/log.ts'
import type { LatestPolicy } from '../core/settings.ts'
import type { Forge, WebhookParser } from '../forge/forge.ts'
import type { LogStore } from '../logs/log-store.ts'
import type { BuildObserver } from '../pipeline/observer.ts'
import type { BuildPolicy } from '../pipeline/policy/build-policy.ts'
import type { StatusReporter } from '../pipeline/status-reporter.ts'
import type { Queue } from '../queue/queue.ts'
import type { ImageNames } from '../registry/registry.ts'
import type { History } from '../source/source.ts'
import type { BuildStore } from '../store/build-store.ts'
import type { AccessOptions, SignInOptions } from './access/options.ts'
import type { Readiness, ServerMetrics } from './operations.ts'
import type { AppSetup } from './setup/app-setup.ts'

export interface ServerOptions extends AccessOptions, SignInOptions {
  store: BuildStore
  queue: Queue
  logs: LogStore
  forge: Pick<Forge, 'branchHead' | 'defaultBranch' | 'fullName' | 'pull' | 'permission' | 'message'>
  /** Parser of the forge's webhooks. */
  webhooks: WebhookParser
  /** Reports the builds that end here: those that are cancelled before a worker has them. */
  statuses: Pick<StatusReporter, 'report'>
  observer?: BuildObserver
  /** Looks up whether a branch contains the commit to build. */
  history: History
  names: Pick<ImageNames, 'tag'>
  /** Which builds move `latest`. */
  latest: LatestPolicy
  /** How an administrator makes a GitHub App; there is no page for it by default. */
  setup?: AppSetup
  /** Shared secret of the webhooks. With null, unsigned pushes are verified with the forge: see unsigned-push.ts. */
  githubSecret: string | null
  /** Whether a repository may be built; all may by default. */
  isAllowed?: (repository: string) => boolean
  /** Which pushes are built; all of them by default. */
  policy?: BuildPolicy
  /** Whether pull requests get tags, and those of forks can be approved; they do by default. */
  pulls?: boolean
  /** Called when a pull request is closed, whose tag is to be removed then. */
  onPullClosed?: () => void
  /** Public base URL without a trailing slash. A function, because the port may be known only after listening. */
  baseUrl: () => string
  /** The server's own log, one line at a time. */
  log: Log
  /** Readiness for /readyz; ready by default. */
  ready?: () => Promise<Readiness>
  /** Where people see repositories and commits, `https://github.com`, for links in pages; none by default. */
  webUrl?: string | null
  /** Metrics for /metrics; there is no such route by default. */
  metrics?: ServerMetrics
  /** Who sees the states that badges show: anyone, or only those who may read; the latter by default. */
  badges?: 'public' | 'private'
  /** Shown by /healthz and at `/`. */
  version?: string
  /** Folder for large webhook bodies until their signature is verified; the system's temporary folder by default. */
  spoolDir?: string
  /** Longest time for receiving a request; 30 s by default. */
  arrivalMs?: number
  /** Logs and events that one user or token may follow at the same time; 2000 by default. */
  maxStreams?: number
  /** Interval of heartbeats in idle streams; 25 s by default, below the idle timeout of common proxies. */
  heartbeatMs?: number
  /** How long the log of a finished build may go without output or an end before it counts as whole; 3 s by default. */
  logGraceMs?: number
}
