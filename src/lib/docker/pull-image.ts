import type { IncomingMessage } from 'node:http'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../core/errors.ts'
import { ANONYMOUS, engineAuthFor } from '../registry/auth-config.ts'
import { innermost, readRegistryText } from '../registry/messages.ts'
import type { CredentialStore } from '../registry/registry.ts'
import { isPassing } from '../registry/response.ts'
import { noImage, statusOf } from '../runner/errors.ts'
import { engineDown, isConnection, messageOf } from './errors.ts'
import { jsonLines } from './json-lines.ts'

/**
 * Pulls an image, with the login for its registry.
 * @throws ConveyorError `invalid` when there is no such image or we may not have it; `unavailable` when the
 * engine or the registry does not answer
 */
export async function pullImage(
  docker: Dockerode,
  credentials: CredentialStore,
  image: string,
  signal: AbortSignal,
): Promise<void> {
  const authconfig = (await engineAuthFor(credentials, image)) ?? ANONYMOUS
  try {
    const stream = await docker.pull(image, { authconfig, abortSignal: signal })
    for await (const { error } of jsonLines<{ error?: string }>(stream as IncomingMessage)) {
      if (error !== undefined) throw new Error(error)
    }
  } catch (error) {
    signal.throwIfAborted()
    const message = messageOf(error)
    const said = readRegistryText(message)
    if (said?.kind === 'answer' && !isPassing(said.answer)) throw noImage(image, innermost(message), error)
    if (statusOf(error) === undefined && isConnection(error)) engineDown(error)
    // The engine says that there is none, or calls the name a bad one.
    if (statusOf(error) === 404 || statusOf(error) === 400) throw noImage(image, innermost(message), error)
    throw new ConveyorError(
      'unavailable',
      `pulling the builder image ${image} failed: ${innermost(message)}`,
      {
        cause: error,
        hint: 'Check that its registry runs and that the engine can reach it',
      },
    )
  }
}
