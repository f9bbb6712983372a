import type { IncomingMessage } from 'node:http'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../core/errors.ts'
import { engineDown, isConnection, messageOf, statusOf } from '../docker/errors.ts'
import { jsonLines } from '../docker/json-lines.ts'
import { ANONYMOUS, engineAuthFor } from '../registry/auth-config.ts'
import { innermost, parseRegistryMessage } from '../registry/messages.ts'
import type { CredentialStore } from '../registry/registry.ts'
import { isTransient } from '../registry/response.ts'
import { noImage } from './errors.ts'

/**
 * Pulls the builder image, with the login for its registry.
 * @throws ConveyorError `invalid` if the image does not exist or access is denied; `unavailable` if the engine or
 * the registry is
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
    const said = parseRegistryMessage(message)
    if (said?.kind === 'answer' && !isTransient(said.answer)) throw noImage(image, innermost(message), error)
    if (statusOf(error) === undefined && isConnection(error)) engineDown(error)
    // No such image, or an invalid name.
    if (statusOf(error) === 404 || statusOf(error) === 400) throw noImage(image, innermost(message), error)
    throw new ConveyorError(
      'unavailable',
      `pulling the builder image ${image} failed: ${innermost(message)}`,
      {
        cause: error,
        hint: 'Check that its registry is running and that the engine can reach it',
      },
    )
  }
}
