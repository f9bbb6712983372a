import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import Dockerode from 'dockerode'
import type { S3Location } from '../aws/s3-url.ts'
import type { Config } from '../config/config.ts'
import { ConveyorError } from '../core/errors.ts'
import { awsAgent } from '../net/proxy-agent.ts'
import { buildkitAuth } from '../registry/auth-config.ts'
import { type PlainLogins, plainLogins } from '../registry/docker-credentials.ts'
import { parseReference } from '../registry/image-name.ts'
import { builderImage } from './builder-image.ts'
import { dataContainer } from './data-container.ts'
import { dataDirectory, engine, git } from './machine.ts'
import { settings, socketSettings } from './settings.ts'
import { type KeyPair, keyPair, PRIVATE_KEY, PUBLIC_KEY } from './ssh-key.ts'
import { type BootstrapStep, StepReporter } from './step.ts'
import { uploadKeys } from './upload-keys.ts'

export interface BootstrapOptions {
  config: Pick<Config, 'dataDir' | 'build' | 'dockerConfigDir' | 'proxies'>
  /** Name of the builder image; null for none. */
  image: string | null
  /** Build arguments of its Dockerfile. */
  buildArgs: Record<string, string>
  /** Name of the container with its secrets; null for none. */
  data: string | null
  /** File for the settings. */
  settings: string
  /** Folder of the SSH key pair. */
  sshDir: string
  /** Bucket to upload it to; null for none. */
  bucket: S3Location | null
}

export interface BootstrapIo {
  /** Receives each step as soon as it is finished. */
  report: (step: BootstrapStep) => void
  /** Receives the progress of the image build, in whole lines. */
  log: (text: string) => void
}

/** The engine's socket; undefined if it is reached over TCP. Without DOCKER_HOST, the client looks for one. */
async function socketOf({ modem }: Dockerode): Promise<string | undefined> {
  return (modem as unknown as { getSocketPath(): Promise<string> | undefined }).getSocketPath()
}

/**
 * Prepares a machine for Conveyor: data directory, SSH key, settings, builder image, and the container with that
 * image's secrets. Keeps what already exists. A step that fails does not stop the others.
 * @returns the SSH key for GitHub; null if it could not be created
 */
export async function bootstrap(options: BootstrapOptions, io: BootstrapIo): Promise<KeyPair | null> {
  const { config, data, image, bucket, buildArgs } = options
  const docker = new Dockerode()
  const steps = new StepReporter(io.report)
  await steps.run('data directory', () => dataDirectory(config.dataDir))
  await steps.run('git', git)
  const hasEngine = await steps.run('Docker engine', () => engine(docker))
  const keys = await steps.perform(
    'SSH key',
    () => keyPair(options.sshDir),
    (pair) => pair.step,
  )
  if (bucket && keys) await steps.run('keys in the bucket', () => uploadKeys(bucket, keys, awsAgent(config)))
  await steps.run('settings', async () =>
    settings(options.settings, {
      sshKey: join(options.sshDir, PRIVATE_KEY),
      ...(await socketSettings(await socketOf(docker))),
    }),
  )
  const logins = await steps.perform(
    'Docker logins',
    () => plainLogins(config.dockerConfigDir ?? undefined),
    loginsStep,
  )

  /** A step that needs the engine; why that is missing has been reported already. */
  const inEngine = (what: string, action: () => Promise<BootstrapStep>) =>
    steps.run(what, async () => {
      if (hasEngine) return action()
      throw new ConveyorError('unavailable', 'requires a Docker engine')
    })
  if (data !== null) {
    const knownHosts = await readFile(join(options.sshDir, 'known_hosts'), 'utf8').catch(() => null)
    const files = {
      ...(knownHosts && { '.ssh/known_hosts': knownHosts }),
      ...(keys && { [`.ssh/${PRIVATE_KEY}`]: keys.privateKey, [`.ssh/${PUBLIC_KEY}`]: keys.publicKey }),
      ...(logins && { '.docker/config.json': logins.config }),
    }
    await inEngine('data container', () => dataContainer({ docker, name: data, files }))
  }
  if (image !== null) {
    const login = logins && buildArgs.NODE_IMAGE ? loginFor(logins, buildArgs.NODE_IMAGE) : undefined
    const { network } = config.build
    await inEngine('builder image', () =>
      builderImage({ docker, image, buildArgs, network, login, log: io.log }),
    )
  }
  return keys
}

function loginsStep({ hosts, unsupported }: PlainLogins): BootstrapStep {
  const usable = hosts.length > 0 ? hosts.join(', ') : 'none yet'
  if (unsupported.length === 0) return { state: 'ok', text: `Docker logins: ${usable}` }
  const hint = 'Builds in the engine can use them; for a builder image, run docker login with a token'
  return { state: 'missing', text: `Docker logins: ${usable}, but not ${unsupported.join('; ')}. ${hint}` }
}

function loginFor(logins: PlainLogins, image: string): Dockerode.AuthConfig | undefined {
  const { host } = parseReference(image)
  const found = logins.forHost(host)
  if (!found) return undefined
  // Dockerode passes these on to BuildKit.
  const { Username, Secret } = buildkitAuth(found)
  return { username: Username, password: Secret, serveraddress: host }
}
