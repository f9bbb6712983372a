import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import { isRepositoryPattern } from '../core/allowed-repositories.ts'
import { ConveyorError } from '../core/errors.ts'
import { oneLine } from '../core/one-line.ts'
import { POSTGRES_FORM } from '../db/postgres-url.ts'
import { type Proxies, proxiesOf } from '../net/proxies.ts'
import type { LatestPolicy } from '../pipeline/publish.ts'
import { ACCEPT_NEW } from '../source/git/ssh-hosts.ts'
import { type BuildOptions, buildOptions } from './build-options.ts'
import { type BuilderConfig, builderConfig, type PackingConfig, packingConfig } from './builder-options.ts'
import { githubPlaces } from './github-places.ts'
import { OptionReader } from './option-reader.ts'
import { BUILD_OPTIONS, DEFAULT_DATA_DIR, type OptionName, type OptionValues } from './options.ts'
import { withSecretFiles } from './secret-files.ts'
import {
  addressPairs,
  baseUrl,
  DAY_MS,
  database,
  duration,
  isAddressPair,
  isHostPattern,
  logger,
  parseCredentials,
  passwordsOf,
  queue,
  registry,
  retryDelays,
  wholeNumber,
} from './values.ts'

/** Everything that can be set, checked. What is secret in it never leaves the process in a message. */
export interface Config {
  /** Address to listen on. */
  host: string
  /** 0 takes any free port. */
  port: number
  /** Public base URL without a trailing slash; null: `http://localhost:<port>`. */
  url: string | null
  /** Basic authentication of all but webhooks; `none` leaves it open, null answers this machine alone. */
  auth: { username: string; password: string } | 'none' | null
  /** More names of the server. */
  allowedHosts: string[]
  /** Patterns of the repositories that may be built; none allow all. */
  allow: string[]
  github: { token: string | null; secret: string | null; apiUrl: string }
  /** `environment` is where git gets its PATH, proxies and ssh agent from. */
  git: { url: string; sshKey: string | null; knownHosts: string | null; environment: NodeJS.ProcessEnv }
  /** As `--registry` gave it; image-name.ts reads it. */
  registry: string
  /** Where this process reaches registries by other addresses, both `host:port`. */
  registryAddresses: ReadonlyMap<string, string>
  latest: LatestPolicy
  dry: boolean
  builder: BuilderConfig
  /** What was given of BUILD_OPTIONS, or follows from it, for Conveyor's own builder image: its environment. */
  given: Record<string, string>
  packing: PackingConfig
  buildNetwork: string | null
  build: BuildOptions
  /** Folder of build secrets; see build-secrets.ts. */
  secretsDir: string
  logger:
    | { kind: 'stdout' }
    | { kind: 'file'; dir: string }
    | { kind: 's3'; bucket: string; prefix: string }
    | { kind: 'cloudwatch'; group: string }
    /** In the database that the builds are in. */
    | { kind: 'postgres' }
  /** `url` of Postgres is null for the database that the builds are in. */
  queue: { kind: 'memory' } | { kind: 'sqs'; url: string } | { kind: 'postgres'; url: string | null }
  db: { kind: 'sqlite'; file: string } | { kind: 'postgres'; url: string }
  dataDir: string
  workers: number
  timeoutMs: number
  /** How long builds that run may go on after the process was asked to stop. */
  drainMs: number
  /** How many repositories a worker that starts makes itself ready for. */
  warm: number
  /** Seconds before each further attempt at a build that a broken part has failed. */
  retryDelays: number[]
  /** Where docker's config.json is; null: ~/.docker. */
  dockerConfigDir: string | null
  /** The engine's address; null: its socket on this machine. */
  dockerHost: string | null
  /** How this machine gets to others. git reads its own from `git.environment`. */
  proxies: Proxies
  /** What can be, but is hardly meant: a line for whoever starts it. */
  warnings: string[]
}

/**
 * Checks option values and makes a Config of them.
 * @param inFiles options whose secrets may be in the files that variables name
 * @throws ConveyorError `invalid` that lists every problem, one a line: flag, variable, value, what is accepted.
 */
export function parseConfig(values: OptionValues, inFiles: readonly OptionName[] = []): Config {
  const known = withSecretFiles(values, inFiles, process.env)
  const options = new OptionReader(known.values, known.problems)
  const { problems } = options

  const dataDir = resolve(options.text('data-dir') ?? DEFAULT_DATA_DIR)
  const db =
    options.get('db', `sqlite://FILE or ${POSTGRES_FORM}`, database) ??
    ({ kind: 'sqlite', file: join(dataDir, 'conveyor.db') } as const)
  const places = githubPlaces(options)
  const proxies = proxiesOf(process.env)
  const config = {
    host: options.text('host'),
    port: options.get('port', 'a port number from 0 to 65535', wholeNumber(0, 65_535)),
    url: options.get('url', 'an http:// or https:// URL without a login, ? and #', baseUrl),
    auth: options.get('auth', 'user:pass, or none', (v) => (v === 'none' ? v : parseCredentials(v))),
    allowedHosts: options.list('allowed-hosts', 'names of hosts, without port', isHostPattern),
    allow: options.list('allow', 'OWNER/NAME with * for any characters, such as acme/*', isRepositoryPattern),
    github: {
      token: options.get('github.token', 'a token without spaces or line breaks', (v) =>
        /^\S+$/.test(v) ? v : undefined,
      ),
      secret: options.text('github.secret'),
      apiUrl: places.apiUrl,
    },
    git: {
      url: places.gitUrl,
      sshKey: options.text('git.ssh-key'),
      knownHosts: options.text('git.known-hosts'),
      environment: process.env,
    },
    registry: options.get(
      'registry',
      'host[:port][/prefix], for example ghcr.io/acme or http://registry.lan:5000',
      registry,
    ),
    registryAddresses: addressPairs(
      options.list(
        'registry.address',
        'NAME:PORT=HOST:PORT, such as localhost:5000=registry:5000',
        isAddressPair,
      ),
    ),
    latest: options.oneOf('latest', ['always', 'default-branch']),
    dry: options.flag('dry'),
    builder: builderConfig(options),
    given: {
      ...options.given(BUILD_OPTIONS),
      ...(places.enterpriseSsh && { GIT_URL: places.enterpriseSsh }),
      // A file of this machine is none of the image's.
      ...(options.text('git.known-hosts') === ACCEPT_NEW && { GIT_KNOWN_HOSTS: ACCEPT_NEW }),
    },
    packing: packingConfig(options),
    buildNetwork: options.name('build.network', 'network, such as host or none'),
    build: buildOptions(options),
    secretsDir: resolve(options.text('build.secrets') ?? join(dataDir, 'secrets')),
    logger:
      options.get(
        'logger',
        'stdout://, file://DIR, s3://BUCKET[/PREFIX], cloudwatch://GROUP or postgres://',
        logger,
      ) ?? ({ kind: db.kind === 'postgres' ? 'postgres' : 'stdout' } as const),
    queue: options.get(
      'queue',
      `memory://, postgres://, sqs://HOST/PATH, sqs:// with SQS_QUEUE_URL, or ${POSTGRES_FORM}`,
      (v) => queue(v, process.env.SQS_QUEUE_URL),
    ),
    db,
    dataDir,
    workers:
      options.get('workers', 'a whole number from 1 to 1000', wholeNumber(1, 1000)) ?? availableParallelism(),
    warm: options.get('warm', 'a whole number from 0 to 1000', wholeNumber(0, 1000)),
    timeoutMs: options.get(
      'timeout',
      'a duration from 1s to 24h, such as 90s, 20m or 1h',
      duration(1000, DAY_MS),
    ),
    drainMs: options.get('drain', 'a duration from 0s to 24h, such as 30s or 10m', duration(0, DAY_MS)),
    retryDelays: options.get(
      'retry.delays',
      'up to 10 durations of at most 1h, such as 5s,30s, or none',
      retryDelays,
    ),
    dockerConfigDir: process.env.DOCKER_CONFIG ?? null,
    dockerHost: process.env.DOCKER_HOST || null,
    proxies,
    warnings: [...options.warnings, ...proxies.unusable.map(unusableProxy)],
  }
  if (config.queue && config.queue.kind !== 'memory' && db.kind !== 'postgres') {
    options.reject(
      'queue',
      `is ${config.queue.kind}://, for workers on any machine: expected --db postgres://... too, where they find the builds`,
    )
  }
  if (config.logger.kind === 'postgres' && db.kind !== 'postgres') {
    options.reject('logger', 'is postgres://, the database of --db: expected --db postgres://... too')
  }
  if (problems.length > 0) {
    throw new ConveyorError(
      'invalid',
      `the configuration has ${count(problems)}:\n  ${problems.map(oneLine).join('\n  ')}`,
      { list: true },
    )
  }
  return Object.freeze(config) as Config
}

/** The secret values of a config: what no log may show. */
export function secretsOf(config: Config): string[] {
  const urls = [config.db, config.queue].map((part) => ('url' in part ? part.url : null))
  return [
    config.github.token,
    config.github.secret,
    config.auth === 'none' ? null : config.auth?.password,
    ...urls.flatMap((url) => passwordsOf(url)),
    ...[config.proxies.http, config.proxies.https].flatMap((proxy) => proxy?.secrets ?? []),
  ].filter((value) => value != null)
}

function unusableProxy(name: string): string {
  return `${name} is for git alone: expected http://[USER:PASSWORD@]HOST[:PORT] for all the rest`
}

function count(problems: string[]): string {
  return problems.length === 1 ? 'a problem' : `${problems.length} problems`
}
