import { join } from 'node:path'
import type { Writable } from 'node:stream'
import Dockerode from 'dockerode'
import { StatusReporter } from './build/report-status.ts'
import type { BuildParts } from './build/run-build.ts'
import { readBuildSecrets } from './build-secrets.ts'
import { engineBuilder } from './builder/engine-builder.ts'
import { type Config, secretsOf } from './config.ts'
import type { Forge } from './forge/forge.ts'
import { github } from './forge/github.ts'
import type { Releaser } from './lifecycle.ts'
import { fileLogStore } from './logs/file-log-store.ts'
import type { LogStore } from './logs/log-store.ts'
import { Redactor } from './logs/redact.ts'
import { stdoutLogStore } from './logs/stdout-log-store.ts'
import { memoryQueue } from './queue/memory-queue.ts'
import type { Queue } from './queue/queue.ts'
import { dockerConfigCredentials } from './registry/credentials.ts'
import { imageName, parseRegistryFlag, tagForRef } from './registry/image-name.ts'
import { registryClient } from './registry/registry-client.ts'
import { gitMirrors } from './source/git-mirrors.ts'
import { sqliteBuildStore } from './store/sqlite.ts'

/** Every part of a running Conveyor, made from its Config. */
export interface Adapters {
  queue: Queue
  logs: LogStore
  forge: Forge
  redactor: Redactor
  parts: BuildParts
}

export interface SetupIo {
  /** Build logs go here with `--logger stdout://`. */
  stdout: Writable
  /** What the person who runs Conveyor should know, one line at a time. */
  log: (line: string) => void
}

/**
 * Makes the adapters that a Config names: the only place that does. `releaser` closes them.
 * @throws ConveyorError when one can not be opened
 */
export async function setUp(config: Config, io: SetupIo, releaser: Releaser): Promise<Adapters> {
  const redactor = new Redactor()
  for (const secret of secretsOf(config)) redactor.add(secret)

  const store = await sqliteBuildStore({ file: config.db.file })
  releaser.add('build store', store, (it) => it.close())
  const queue = releaser.add('queue', memoryQueue(), (it) => it.close())
  const logs = releaser.add('log store', openLogs(config, io), (it) => it.close())

  const docker = new Dockerode()
  const credentials = dockerConfigCredentials({
    ...(config.dockerConfigDir ? { configDir: config.dockerConfigDir } : {}),
    onSecret: (secret) => redactor.add(secret),
  })
  const { host, insecure } = parseRegistryFlag(config.registry)
  const registry = registryClient({ credentials, insecureHosts: insecure ? [host] : [] })
  releaser.add('registry client', registry, (it) => it.close())
  const source = gitMirrors({
    dir: join(config.dataDir, 'mirrors'),
    url: config.git.url,
    ...(config.github.token ? { token: config.github.token } : {}),
    ...(config.git.sshKey ? { sshKey: config.git.sshKey } : {}),
    environment: config.git.environment,
    warn: io.log,
  })
  releaser.add('git mirrors', source, (it) => it.close())
  const forge = github({
    baseUrl: config.github.apiUrl,
    ...(config.github.token ? { token: config.github.token } : {}),
    log: io.log,
  })

  const parts: BuildParts = {
    store,
    source,
    registry,
    builder: engineBuilder({ docker, credentials }),
    names: { image: (repository) => imageName(config.registry, repository), tag: tagForRef },
    sourceUrl: (repository) => webUrl(config.git.url, repository),
    secrets: async (repository) => {
      const secrets = await readBuildSecrets(config.secretsDir, repository)
      for (const secret of Object.values(secrets)) redactor.add(secret)
      return secrets
    },
    latest: config.latest,
    dry: config.dry,
    network: config.buildNetwork,
  }
  return { queue, logs, forge, redactor, parts }
}

/** Statuses of a server whose logs are under `baseUrl`. */
export function statusReporter(
  { forge, parts }: Adapters,
  baseUrl: () => string,
  log: (line: string) => void,
): StatusReporter {
  return new StatusReporter({
    forge,
    store: parts.store,
    logUrl: (build) => `${baseUrl()}/logs/${build.id}`,
    log,
  })
}

function openLogs(config: Config, io: SetupIo): LogStore {
  switch (config.logger.kind) {
    case 'stdout':
      return stdoutLogStore({ dir: join(config.dataDir, 'logs'), out: io.stdout })
    case 'file':
      return fileLogStore({ dir: config.logger.dir })
  }
}

/** Where people see a repository: the git URL as a web address. */
function webUrl(template: string, repository: string): string {
  return template
    .replace(/^ssh:\/\/([^@/]*@)?/, 'https://')
    .replace(/^[\w.-]+@([\w.-]+):/, 'https://$1/')
    .replace('{repository}', repository)
    .replace(/\.git$/, '')
}
