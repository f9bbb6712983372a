import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../errors.ts'
import type { Credentials } from '../registry/registry.ts'
import type { BuilderIo } from './builder.ts'
import { authOf } from './engine-auth.ts'
import { pushError } from './engine-errors.ts'
import { jsonLines } from './json-lines.ts'

/**
 * Pushes an image of the engine under its reference; failures that may pass are tried again.
 * @param delays waits between the tries, in milliseconds; as many retries as there are numbers
 * @returns the manifest's digest, `sha256:...`
 * @throws ConveyorError `unauthorized`, or `unavailable` when the registry is
 */
export async function pushFromEngine(
  docker: Dockerode,
  credentials: Credentials,
  reference: string,
  delays: number[],
  io: BuilderIo,
): Promise<string> {
  return retried(reference, delays, io, () => pushOnce(docker, credentials, reference, io))
}

/**
 * Tries a push until it succeeds, fails for good, or was tried often enough. A ConveyorError is no failure
 * of the push itself: it is thrown on.
 */
export async function retried<T>(
  reference: string,
  delays: number[],
  io: BuilderIo,
  push: () => Promise<T>,
): Promise<T> {
  for (const delay of [...delays, null]) {
    try {
      return await push()
    } catch (thrown) {
      io.signal.throwIfAborted()
      if (thrown instanceof ConveyorError) throw thrown
      const error = pushError(thrown, reference)
      if (!error.retryable || delay === null) throw error
      await io.log.write(`push failed, trying again: ${error.message}\n`)
      await sleep(delay, undefined, { signal: io.signal })
    }
  }
  throw new Error('unreachable: the last try returns or throws')
}

/** One push of one tag. @returns the digest that the registry gave it. */
async function pushOnce(
  docker: Dockerode,
  credentials: Credentials,
  reference: string,
  io: BuilderIo,
): Promise<string> {
  const authconfig = await authOf(credentials, reference)
  const stream = await docker.getImage(reference).push({ authconfig, abortSignal: io.signal })
  let digest: string | undefined
  const last = new Map<string, string>()
  for await (const message of jsonLines<PushMessage>(stream as IncomingMessage)) {
    if (message.error !== undefined) throw new Error(message.error)
    digest = message.aux?.Digest ?? digest
    const { id, status } = message
    if (!id || !status) continue
    // Progress bars become one line a layer and end; of a countdown to another try, its begin is shown.
    const before = last.get(id)
    last.set(id, status)
    const counts = RETRYING.test(status) && !RETRYING.test(before ?? '')
    if (counts || (FINAL.test(status) && status !== before)) await io.log.write(`${id}: ${status}\n`)
  }
  digest ??= await pushedDigest(docker, reference)
  if (!digest) throw new Error('the push ended without a digest')
  return digest
}

/** Engines with containerd's image store do not tell the digest as they push. */
async function pushedDigest(docker: Dockerode, reference: string): Promise<string | undefined> {
  const { RepoDigests } = await docker.getImage(reference).inspect()
  const start = `${reference.slice(0, reference.lastIndexOf(':'))}@`
  return RepoDigests.find((name) => name.startsWith(start))?.slice(start.length)
}

interface PushMessage {
  error?: string
  id?: string
  status?: string
  aux?: { Digest?: string }
}

const FINAL = /^(Pushed$|Layer already exists$|Mounted from )/
const RETRYING = /^Retrying in /
