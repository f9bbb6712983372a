import { join } from 'node:path'
import type { Writable } from 'node:stream'
import Dockerode from 'dockerode'
import { readBuildSecrets } from '../config/build-secrets.ts'
import { cacheGroupOf, refPatternsFor, settingsFor, submoduleHostsFor } from '../config/build-settings.ts'
import type { Config } from '../config/config.ts'
import { dockerProxies } from '../config/docker-proxies.ts'
import { ConveyorError } from '../core/errors.ts'
import type { Log } from '../core/log.ts'
import type { Postgres } from '../db/postgres.ts'
import type { Forge, WebhookParser } from '../forge/forge.ts'
import { githubWebhooks } from '../forge/github/webhook/webhook.ts'
import { fileLogStore } from '../logs/file.ts'
import type { LogStore } from '../logs/log-store.ts'
import { Redactor } from '../logs/redact.ts'
import { stdoutLogStore } from '../logs/stdout.ts'
import { parseProxy } from '../net/proxies.ts'
import { awsAgent } from '../net/proxy-agent.ts'
import { cacheNamespace } from '../pipeline/cache/namespace.ts'
import type { BuildObserver } from '../pipeline/observer.ts'
import type { BuildParts, SecretRedactor, StepProxies } from '../pipeline/parts.ts'
import { type BuildPolicy, buildPolicy } from '../pipeline/policy/build-policy.ts'
import { StatusReporter } from '../pipeline/status-reporter.ts'
import { memoryQueue } from '../queue/memory.ts'
import type { Queue } from '../queue/queue.ts'
import { type RegistryClient, type RegistryClientOptions, registryClient } from '../registry/client.ts'
import { dockerCredentials } from '../registry/docker-credentials.ts'
import { imageName, parseRegistryFlag, tagForRef } from '../registry/naming.ts'
import type { CredentialStore } from '../registry/registry.ts'
import { dockerRunner } from '../runner/docker.ts'
import type { Runner } from '../runner/runner.ts'
import { checkSwarm, swarmRunner } from '../runner/swarm/runner.ts'
import { gitHeads } from '../source/git/heads.ts'
import { gitHistory } from '../source/git/history.ts'
import { gitMirrors } from '../source/mirrors.ts'
import type { History, RemoteHeads } from '../source/source.ts'
import type { BuildStore } from '../store/build-store.ts'
import { sqliteBuildStore } from '../store/sqlite/sqlite.ts'
import type { Releaser } from '../util/lifecycle.ts'
import { builderAnswers, engineRoot, openBuilder } from './setup-builder.ts'
import { gitToken, openForge, openTokens } from './setup-github.ts'

/** All adapters of a running Conveyor, as its Config selects them. */
export interface Adapters {
  queue: Queue
  logs: LogStore
  forge: Forge
  webhooks: WebhookParser
  parts: BuildParts
  remoteHeads: RemoteHeads
  /** Which branches and git tags are built without anybody asking for it. */
  policy: BuildPolicy
  newRedactor: () => SecretRedactor
  /** Resolves if the builder responds: the engine, or at least one buildkitd. @throws ConveyorError */
  builderAnswers: () => Promise<void>
  /** Folder of the engine's images and caches; null if it is not on this machine, or unknown. */
  engineRoot: () => Promise<string | null>
  /** Sees the builds. */
  observer?: BuildObserver
}

export interface SetupIo {
  /** Build logs go here with `--logger stdout://`. */
  stdout: Writable
  /** Receives lines for the operator. */
  log: Log
}

/**
 * Opens the adapters that a Config selects; nothing else does. `releaser` closes them.
 * @throws ConveyorError if one cannot be opened
 */
export async function setUp(config: Config, io: SetupIo, releaser: Releaser): Promise<Adapters> {
  const { postgres, store } = await openDatabaseAndStore(config, releaser)
  const queue = releaser.add('queue', await openQueue(config, io, postgres), (it) => it.close())
  const logs = releaser.add('log store', await openLogs(config, io, postgres, queue), (it) => it.close())

  const secret = await store.secret('cache mounts')
  const docker = new Dockerode()
  const credentials = openCredentials(config)
  const registry = openRegistry(config, credentials)
  releaser.add('registry client', registry, (it) => it.close())
  const tokens = openTokens(config, io.log)
  const remote = {
    url: config.git.url,
    token: gitToken(config, tokens),
    ...(config.git.sshKey ? { sshKey: config.git.sshKey } : {}),
    ...(config.git.knownHosts ? { knownHosts: config.git.knownHosts } : {}),
    environment: config.git.environment,
  }
  const lfs = {
    dir: join(config.dataDir, 'lfs'),
    cacheBytes: config.git.lfsCacheBytes ?? undefined,
    hosts: config.git.lfsHosts,
    proxies: config.proxies,
  }
  const source = gitMirrors({
    ...{ dir: join(config.dataDir, 'mirrors'), ...remote, lfs, warn: io.log },
    submoduleHosts: (repository) => submoduleHostsFor(config.git, repository),
    gitFolder: (repository) => settingsFor(config.build, repository).git,
  })
  releaser.add('git mirrors', source, (it) => it.close())
  const forge = openForge(config, tokens, io.log)
  const git = gitHistory({ dir: join(config.dataDir, 'history'), ...remote })
  const remoteHeads = gitHeads({ dir: join(config.dataDir, 'history'), ...remote })

  if (config.builder.kind === 'swarm' && !queue.durable) await checkSwarm(docker)
  const proxies = () => dockerProxies(config.dockerConfigDir, config.dockerHost)
  const container = openRunner(config, docker, credentials, await proxies())
  const builder = await openBuilder(config, docker, credentials, registry, io.log)
  releaser.add('builder', builder, (it) => it.close())
  const parts: BuildParts = {
    store,
    source,
    history: { head: git.head, contains: containedBy(forge, git) },
    readFromForge: (...args) => forge.file(...args),
    registry,
    builder,
    ...(container ? { container } : {}),
    names: { image: (repository) => imageName(config.registry, repository), tag: tagForRef },
    sourceUrl: (repository) => webUrl(config.git.url, repository),
    secrets: (repository) => readBuildSecrets(config.build.secretsDir, repository),
    proxies: async () => stepProxies(await proxies()),
    cacheNamespace: (repository) =>
      cacheNamespace(secret, repository, cacheGroupOf(config.build, repository)),
    latest: config.latest,
    dry: config.dry,
    settings: (repository) => settingsFor(config.build, repository),
  }
  return {
    ...{ queue, logs, forge, webhooks: githubWebhooks, parts, remoteHeads },
    policy: buildPolicy((repository) => refPatternsFor(config.build, repository), config.build.supersede),
    newRedactor,
    builderAnswers: () => builderAnswers(config, docker),
    engineRoot: () => engineRoot(config, docker),
  }
}

/** The build store alone, for commands that need nothing else. `releaser` closes it. @throws ConveyorError */
export async function openBuildStore(config: Config, releaser: Releaser): Promise<BuildStore> {
  return (await openDatabaseAndStore(config, releaser)).store
}

/** One pool for the builds, their queue and logs if these share a database. */
async function openDatabaseAndStore(config: Config, releaser: Releaser) {
  const postgres = await openDatabase(config)
  if (postgres) releaser.add('database', postgres, (it) => it.close())
  const store = releaser.add('build store', await openStore(config, postgres), (it) => it.close())
  return { postgres, store }
}

/** Masks no secrets yet. */
export function newRedactor(): SecretRedactor {
  return new Redactor()
}

function stepProxies(variables: Record<string, string>): StepProxies {
  const secrets = Object.values(variables).flatMap((value) => parseProxy(value)?.secrets ?? [])
  return { variables, secrets }
}

/** Queries the forge, which needs no transfer; if it does not know, the git server. */
function containedBy(forge: Forge, git: History): History['contains'] {
  return async (repository, head, sha, signal) => {
    const known = await forge.contains(repository, head, sha, signal).catch((error: unknown) => {
      signal?.throwIfAborted()
      if (error instanceof ConveyorError) return null
      throw error
    })
    return known ?? git.contains(repository, head, sha, signal)
  }
}

/** Reporter of commit statuses that link to the pages of builds under `baseUrl`. */
export function statusReporter(
  { forge, parts, observer }: Adapters,
  { github }: Config,
  baseUrl: () => string,
  log: Log,
): StatusReporter {
  return new StatusReporter({
    forge,
    store: parts.store,
    buildUrl: (build) => `${baseUrl()}/builds/${build.id}`,
    ...(github.checks !== 'off' && { checks: { forge, mode: github.checks } }),
    ...(observer && { observer }),
    log,
  })
}

/** @param onSecret receives the secrets that are found */
export function openCredentials(
  { dockerConfigDir }: Config,
  onSecret?: (secret: string) => void,
): CredentialStore {
  return dockerCredentials({
    ...(dockerConfigDir ? { configDir: dockerConfigDir } : {}),
    ...(onSecret && { onSecret }),
  })
}

export function openRegistry(
  config: Config,
  credentials: CredentialStore,
  options: Pick<RegistryClientOptions, 'backoffMs'> = {},
): RegistryClient {
  const { host, insecure } = parseRegistryFlag(config.registry)
  return registryClient({
    credentials,
    insecureHosts: insecure ? [host] : [],
    mayBeLocal: (name) => name === host,
    addresses: config.registryAddresses,
    proxies: config.proxies,
    ...options,
  })
}

// Optional adapters are loaded on use: the AWS SDK alone takes as long as everything else.

async function openDatabase({ db }: Config): Promise<Postgres | null> {
  if (db.kind !== 'postgres') return null
  const { Postgres } = await import('../db/postgres.ts')
  return new Postgres({ url: db.url })
}

async function openStore({ db }: Config, postgres: Postgres | null): Promise<BuildStore> {
  if (db.kind === 'sqlite') return sqliteBuildStore({ file: db.file })
  const { postgresBuildStore } = await import('../store/postgres.ts')
  return postgresBuildStore({ postgres: required(postgres) })
}

export async function openQueue(
  { queue, proxies }: Config,
  { log }: SetupIo,
  postgres: Postgres | null,
): Promise<Queue> {
  const httpsAgent = awsAgent({ proxies })
  switch (queue.kind) {
    case 'memory':
      return memoryQueue({ shared: postgres !== null })
    case 'postgres': {
      const { postgresQueue } = await import('../queue/postgres/queue.ts')
      return postgresQueue(queue.url === null ? { postgres: required(postgres) } : { url: queue.url })
    }
    case 'sqs': {
      const { sqsQueue } = await import('../queue/sqs/queue.ts')
      return sqsQueue({ url: queue.url, log, ...(httpsAgent && { httpsAgent }) })
    }
  }
}

export async function openLogs(
  { logger, dataDir, proxies }: Config,
  { stdout }: SetupIo,
  postgres: Postgres | null,
  queue: Pick<Queue, 'durable'>,
): Promise<LogStore> {
  const httpsAgent = awsAgent({ proxies })
  switch (logger.kind) {
    case 'stdout':
      return stdoutLogStore({ dir: join(dataDir, 'logs'), out: stdout, remote: queue.durable })
    case 'file':
      return fileLogStore({ dir: logger.dir })
    case 'postgres': {
      const { postgresLogStore } = await import('../logs/postgres/log-store.ts')
      return postgresLogStore({ postgres: required(postgres) })
    }
    case 's3': {
      const { s3LogStore } = await import('../logs/s3/log-store.ts')
      return s3LogStore({ bucket: logger.bucket, prefix: logger.prefix, ...(httpsAgent && { httpsAgent }) })
    }
    case 'cloudwatch': {
      const { cloudwatchLogStore } = await import('../logs/cloudwatch/log-store.ts')
      return cloudwatchLogStore({ group: logger.group, ...(httpsAgent && { httpsAgent }) })
    }
  }
}

function required(postgres: Postgres | null): Postgres {
  if (!postgres) throw new Error('parseConfig accepts no option that needs a database without one')
  return postgres
}

/** What runs builds in a builder image, if configured, with the same proxies as `docker run`; else null. */
function openRunner(
  { builder, inherited }: Config,
  docker: Dockerode,
  credentials: CredentialStore,
  proxies: Record<string, string>,
): Runner | null {
  if (builder.kind === 'engine' || builder.kind === 'buildkit') return null
  const { image, network, mounts: binds, data: dataContainer, privileged, constraints } = builder
  const common = { docker, image, credentials, network, binds, environment: { ...proxies, ...inherited } }
  return builder.kind === 'swarm'
    ? swarmRunner({ ...common, constraints })
    : dockerRunner({ ...common, dataContainer, privileged })
}

/** The web page of a repository, derived from the git URL. */
function webUrl(template: string, repository: string): string {
  return template
    .replace(/^ssh:\/\/([^@/]*@)?/, 'https://')
    .replace(/^[\w.-]+@([\w.-]+):/, 'https://$1/')
    .replace('{repository}', repository)
    .replace(/\.git$/, '')
}
