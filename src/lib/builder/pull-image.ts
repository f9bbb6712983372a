import type { IncomingMessage } from 'node:http'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../errors.ts'
import type { Credentials } from '../registry/registry.ts'
import { authOf } from './engine-auth.ts'
import { engineDown } from './engine-errors.ts'
import { noImage, statusOf } from './image-errors.ts'
import { jsonLines } from './json-lines.ts'

/**
 * Pulls an image, with the login for its registry.
 * @throws ConveyorError `invalid` when there is no such image or we may not have it; `unavailable` when the
 * engine or the registry does not answer
 */
export async function pullImage(
  docker: Dockerode,
  credentials: Credentials,
  image: string,
  signal: AbortSignal,
): Promise<void> {
  const authconfig = await authOf(credentials, image)
  try {
    const stream = await docker.pull(image, { authconfig, abortSignal: signal })
    for await (const { error } of jsonLines<{ error?: string }>(stream as IncomingMessage)) {
      if (error !== undefined) throw new Error(error)
    }
  } catch (error) {
    signal.throwIfAborted()
    const message = String((error as Error).message)
    if (REFUSED.test(message)) throw noImage(image, message, error)
    if (statusOf(error) === undefined && 'code' in (error as object)) engineDown(error)
    throw new ConveyorError('unavailable', `pulling the builder image ${image} failed: ${message}`, {
      cause: error,
      hint: 'Check that its registry runs and that the engine can reach it',
    })
  }
}

const REFUSED =
  /not found|denied|unauthorized|authentication required|no basic auth|does not exist|invalid reference/i
