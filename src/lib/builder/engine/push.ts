import type { IncomingMessage } from 'node:http'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../../core/errors.ts'
import { linesTo } from '../../core/one-line.ts'
import { isConnection, messageOf, NO_ENGINE } from '../../docker/errors.ts'
import { inspectImage } from '../../docker/images.ts'
import { jsonLines } from '../../docker/json-lines.ts'
import { ANONYMOUS, engineAuthFor } from '../../registry/auth-config.ts'
import { splitReference } from '../../registry/image-name.ts'
import { parseRegistryMessage } from '../../registry/messages.ts'
import {
  findPushedTag,
  type ManifestReader,
  type PushFailure,
  pushing,
  type RegistryLookup,
  registryPushError,
} from '../../registry/push-errors.ts'
import type { CredentialStore } from '../../registry/registry.ts'
import { retry } from '../../util/retry.ts'
import type { BuilderIo } from '../builder.ts'

export interface PushOptions {
  /** Delays before the retries, in milliseconds. */
  delays: number[]
  /** Queried where a message is not specific enough. */
  registry?: ManifestReader | undefined
}

/**
 * Pushes an image of the engine; transient failures are retried.
 * @returns the manifest's digest, `sha256:...`
 * @throws ConveyorError `unauthorized`, or `unavailable` if the registry is or rejects the image
 */
export async function pushFromEngine(
  docker: Dockerode,
  credentials: CredentialStore,
  reference: string,
  options: PushOptions,
  io: BuilderIo,
): Promise<string> {
  return withPushRetries(reference, options, io, async () => {
    try {
      return await pushOnce(docker, credentials, reference, io)
    } catch (thrown) {
      const message = parseRegistryMessage(messageOf(thrown))
      const digest = await findPushedTag(
        message,
        reference,
        { registry: options.registry, signal: io.signal },
        async ({ imageId }) => imageId === (await inspectImage(docker, reference)).Id,
      )
      if (digest === null) throw thrown
      return digest
    }
  })
}

/**
 * Retries a push until it succeeds, fails permanently, or is out of retries. A ConveyorError is not a failure of the push
 * itself and is passed on.
 */
export async function withPushRetries<T>(
  reference: string,
  { delays, registry }: PushOptions,
  io: BuilderIo,
  push: () => Promise<T>,
): Promise<T> {
  let failure: PushFailure | undefined
  const attempt = async () => {
    failure = undefined
    try {
      return await push()
    } catch (thrown) {
      io.signal.throwIfAborted()
      if (thrown instanceof ConveyorError) throw thrown
      failure = await pushError(thrown, reference, { registry, signal: io.signal })
      throw failure.error
    }
  }
  return retry(attempt, {
    delays,
    isRetryable: () => failure?.soon === true && failure.error.retryable,
    signal: io.signal,
    onRetry: (error) => linesTo(io.log)(`push failed, retrying: ${(error as Error).message}`),
  })
}

/** Classifies a failed push. */
async function pushError(thrown: unknown, reference: string, lookup: RegistryLookup): Promise<PushFailure> {
  const text = messageOf(thrown)
  const what = `${pushing(reference)}: ${text}`
  if (GONE.test(text)) {
    const error = new ConveyorError(
      'unavailable',
      `${what} (the image was removed from the engine in the meantime)`,
      {
        cause: thrown,
      },
    )
    return { error, soon: false }
  }
  if (isConnection(thrown)) {
    return { error: new ConveyorError('unavailable', what, { cause: thrown, hint: NO_ENGINE }), soon: true }
  }
  const failure = await registryPushError(text, reference, thrown, lookup)
  return { ...failure, soon: failure.soon && !(thrown instanceof RetriedByEngine) }
}

/** The image is not in the engine; the second form is the containerd store's. */
const GONE =
  /^(?:An image does not exist locally with the tag: \S+|\(HTTP code 404\) [a-z ]+ - (?:No such image: \S+|tag does not exist: \S+)\s*)$/

/** A push that failed after the engine's own retries. */
class RetriedByEngine extends Error {}

/** Pushes once. @returns the manifest's digest */
async function pushOnce(
  docker: Dockerode,
  credentials: CredentialStore,
  reference: string,
  io: BuilderIo,
): Promise<string> {
  const authconfig = (await engineAuthFor(credentials, reference)) ?? ANONYMOUS
  const stream = await docker.getImage(reference).push({ authconfig, abortSignal: io.signal })
  let digest: string | undefined
  let retried = false
  const last = new Map<string, string>()
  const say = linesTo(io.log)
  for await (const message of jsonLines<PushMessage>(stream as IncomingMessage)) {
    if (message.error !== undefined) throw new (retried ? RetriedByEngine : Error)(message.error)
    digest = message.aux?.Digest ?? digest
    const { id, status } = message
    if (!id || !status) continue
    // Progress bars are reduced to one line per layer, and a countdown to a retry to its first line.
    const before = last.get(id)
    last.set(id, status)
    const isRetry = RETRYING.test(status) && !RETRYING.test(before ?? '')
    retried ||= isRetry
    if (isRetry || (FINAL.test(status) && status !== before)) await say(`${id}: ${status}`)
  }
  digest ??= await pushedDigest(docker, reference)
  if (!digest) throw new Error('the push ended without a digest')
  return digest
}

/** Engines with the containerd image store do not report the digest during a push. */
async function pushedDigest(docker: Dockerode, reference: string): Promise<string | undefined> {
  const { RepoDigests } = await inspectImage(docker, reference)
  const { name } = splitReference(reference)
  return RepoDigests.map(splitReference).find((one) => one.name === name)?.digest ?? undefined
}

interface PushMessage {
  error?: string
  id?: string
  status?: string
  aux?: { Digest?: string }
}

const FINAL = /^(Pushed$|Layer already exists$|Mounted from )/
const RETRYING = /^Retrying in /
