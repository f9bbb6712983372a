import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import Dockerode from 'dockerode'
import type { S3Location } from '../aws/s3-url.ts'
import type { Config } from '../config/config.ts'
import { ConveyorError } from '../core/errors.ts'
import { awsAgent } from '../net/proxy-agent.ts'
import { isIdentityToken } from '../registry/identity-token.ts'
import { splitReference } from '../registry/image-name.ts'
import { type PlainLogins, plainLogins } from '../registry/plain-logins.ts'
import { builderImage } from './builder-image.ts'
import { dataContainer } from './data-container.ts'
import { dataDirectory, engine, git } from './machine.ts'
import { settings, socketSettings } from './settings.ts'
import { type KeyPair, keyPair, PRIVATE_KEY, PUBLIC_KEY } from './ssh-key.ts'
import { type Step, Steps } from './step.ts'
import { uploadKeys } from './upload-keys.ts'

export interface BootstrapOptions {
  config: Pick<Config, 'dataDir' | 'build' | 'dockerConfigDir' | 'proxies'>
  /** Name of the builder image; null makes none. */
  image: string | null
  /** Arguments of its Dockerfile. */
  buildArgs: Record<string, string>
  /** Name of the container with its secrets; null makes none. */
  data: string | null
  /** Where to write the settings. */
  settings: string
  /** Folder of the ssh key pair. */
  sshDir: string
  /** Where to upload it; null: nowhere. */
  bucket: S3Location | null
}

export interface BootstrapIo {
  /** Told of each thing as soon as it stands. */
  tell: (step: Step) => void
  /** Progress of the image's build, in whole lines. */
  log: (text: string) => void
}

/**
 * Prepares a machine for Conveyor: data directory, ssh key, settings, builder image, and the container with that
 * image's secrets. What is there stays as it is, and what cannot be made keeps nothing else from being made.
 * @returns the ssh key for GitHub; null when there is none
 */
export async function bootstrap(options: BootstrapOptions, io: BootstrapIo): Promise<KeyPair | null> {
  const { config, data, image, bucket, buildArgs } = options
  const docker = new Dockerode()
  const steps = new Steps(io.tell)
  await steps.run('data directory', () => dataDirectory(config.dataDir))
  await steps.run('git', git)
  const answers = await steps.run('Docker engine', () => engine(docker))
  const keys = await steps.take(
    'ssh key',
    () => keyPair(options.sshDir),
    (pair) => pair.step,
  )
  if (bucket && keys) await steps.run('keys in the bucket', () => uploadKeys(bucket, keys, awsAgent(config)))
  await steps.run('settings', async () =>
    settings(options.settings, {
      sshKey: join(options.sshDir, PRIVATE_KEY),
      ...(await socketSettings((docker.modem as { socketPath?: string }).socketPath)),
    }),
  )
  const logins = await steps.take(
    'docker logins',
    () => plainLogins(config.dockerConfigDir ?? undefined),
    loginsStep,
  )

  /** A step that needs the engine; it has said already why it does not answer. */
  const inEngine = (what: string, make: () => Promise<Step>) =>
    steps.run(what, async () => {
      if (answers) return make()
      throw new ConveyorError('unavailable', 'not made without an engine')
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

function loginsStep({ hosts, unsupported }: PlainLogins): Step {
  const carried = hosts.length > 0 ? hosts.join(', ') : 'none yet'
  if (unsupported.length === 0) return { state: 'there', text: `docker logins: ${carried}` }
  const hint = 'Builds in the engine use them all the same; for a builder image, docker login with a token'
  return { state: 'missing', text: `docker logins: ${carried}, but not ${unsupported.join('; ')}. ${hint}` }
}

function loginFor(logins: PlainLogins, image: string): Dockerode.AuthConfig | undefined {
  const { host } = splitReference(image)
  const found = logins.forHost(host)
  if (!found) return undefined
  // Dockerode hands these to BuildKit, to which a password without a user name is an identity token.
  const username = isIdentityToken(found) ? '' : found.username
  return { username, password: found.password, serveraddress: host }
}
