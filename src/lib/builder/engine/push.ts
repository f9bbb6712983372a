import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../../core/errors.ts'
import { linesTo } from '../../core/one-line.ts'
import { isConnection, messageOf, NO_ENGINE } from '../../docker/errors.ts'
import { jsonLines } from '../../docker/json-lines.ts'
import { ANONYMOUS, engineAuthFor } from '../../registry/auth-config.ts'
import { splitReference } from '../../registry/image-name.ts'
import { parseRegistryMessage } from '../../registry/messages.ts'
import {
  findPushedTag,
  type ManifestReader,
  type PushFailure,
  pushing,
  registryPushError,
} from '../../registry/push-errors.ts'
import type { CredentialStore } from '../../registry/registry.ts'
import type { BuilderIo } from '../builder.ts'

/** How pushes are done. */
export interface PushOptions {
  /** Waits between the tries, in milliseconds; as many retries as there are numbers. */
  delays: number[]
  /** Asked where a text does not say enough. */
  registry?: ManifestReader | undefined
}

/**
 * Pushes an image of the engine under its reference; failures that may pass are tried again.
 * @returns the manifest's digest, `sha256:...`
 * @throws ConveyorError `unauthorized`, or `unavailable` when the registry is or does not take it
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
      const said = parseRegistryMessage(messageOf(thrown))
      const there = await findPushedTag(
        said,
        reference,
        options.registry,
        async ({ imageId }) => imageId === (await docker.getImage(reference).inspect()).Id,
      )
      if (there === null) throw thrown
      return there
    }
  })
}

/**
 * Tries a push until it succeeds, fails for good, or was tried often enough. A ConveyorError is no failure
 * of the push itself: it is thrown on.
 */
export async function withPushRetries<T>(
  reference: string,
  { delays, registry }: PushOptions,
  io: BuilderIo,
  push: () => Promise<T>,
): Promise<T> {
  for (const delay of [...delays, null]) {
    try {
      return await push()
    } catch (thrown) {
      io.signal.throwIfAborted()
      if (thrown instanceof ConveyorError) throw thrown
      const { error, soon } = await pushError(thrown, reference, registry)
      if (!error.retryable || !soon || delay === null) throw error
      await linesTo(io.log)(`push failed, trying again: ${error.message}`)
      await sleep(delay, undefined, { signal: io.signal })
    }
  }
  throw new Error('unreachable: the last try returns or throws')
}

/** What a failed push means. */
async function pushError(
  thrown: unknown,
  reference: string,
  registry: ManifestReader | undefined,
): Promise<PushFailure> {
  const text = messageOf(thrown)
  const what = `${pushing(reference)}: ${text}`
  if (GONE.test(text)) {
    const error = new ConveyorError('unavailable', `${what} (it was removed from the engine meanwhile)`, {
      cause: thrown,
    })
    return { error, soon: false }
  }
  if (isConnection(thrown)) {
    return { error: new ConveyorError('unavailable', what, { cause: thrown, hint: NO_ENGINE }), soon: true }
  }
  const failure = await registryPushError(text, reference, thrown, registry)
  return { ...failure, soon: failure.soon && !(thrown instanceof TriedAgain) }
}

/** The image is not in the engine; the second is the containerd store's. */
const GONE =
  /^(?:An image does not exist locally with the tag: \S+|\(HTTP code 404\) [a-z ]+ - (?:No such image: \S+|tag does not exist: \S+)\s*)$/

/** A push that failed after the engine itself has tried it several times. */
class TriedAgain extends Error {}

/** One push of one tag. @returns the digest that the registry gave it. */
async function pushOnce(
  docker: Dockerode,
  credentials: CredentialStore,
  reference: string,
  io: BuilderIo,
): Promise<string> {
  const authconfig = (await engineAuthFor(credentials, reference)) ?? ANONYMOUS
  const stream = await docker.getImage(reference).push({ authconfig, abortSignal: io.signal })
  let digest: string | undefined
  let triedAgain = false
  const last = new Map<string, string>()
  const say = linesTo(io.log)
  for await (const message of jsonLines<PushMessage>(stream as IncomingMessage)) {
    if (message.error !== undefined) throw new (triedAgain ? TriedAgain : Error)(message.error)
    digest = message.aux?.Digest ?? digest
    const { id, status } = message
    if (!id || !status) continue
    // Progress bars become one line a layer and end; of a countdown to another try, its begin is shown.
    const before = last.get(id)
    last.set(id, status)
    const counts = RETRYING.test(status) && !RETRYING.test(before ?? '')
    triedAgain ||= counts
    if (counts || (FINAL.test(status) && status !== before)) await say(`${id}: ${status}`)
  }
  digest ??= await pushedDigest(docker, reference)
  if (!digest) throw new Error('the push ended without a digest')
  return digest
}

/** Engines with containerd's image store do not tell the digest as they push. */
async function pushedDigest(docker: Dockerode, reference: string): Promise<string | undefined> {
  const { RepoDigests } = await docker.getImage(reference).inspect()
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
