import type { Duplex } from 'node:stream'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../core/errors.ts'
import { askOnce, type Endpoint, helloHeaders } from './endpoint.ts'

/**
 * The BuildKit in a Docker Engine, 20.10 and later. Both connections are HTTP requests that turn into
 * HTTP/2 without TLS: https://docs.docker.com/reference/api/engine/ (`/grpc` and `/session`).
 */
export function engineEndpoint(docker: Dockerode): Endpoint {
  return {
    name: 'the Docker engine',
    // BuildKit's own id is the same in every engine of old.
    id: askOnce(async () => {
      try {
        return (await docker.info()).ID as string
      } catch (error) {
        throw new ConveyorError(
          'unavailable',
          `the Docker engine does not answer: ${(error as Error).message}`,
          {
            cause: error,
            hint: 'Start the Docker engine, or set DOCKER_HOST to one that runs',
          },
        )
      }
    }),
    connect: () => hijack(docker, '/grpc', {}, 'take a connection to its BuildKit'),
    attach: (hello) => hijack(docker, '/session', helloHeaders(hello), 'open a build session'),
  }
}

async function hijack(
  docker: Dockerode,
  path: string,
  headers: Record<string, string | string[]>,
  what: string,
): Promise<Duplex> {
  const { promise, resolve, reject } = Promise.withResolvers<Duplex>()
  docker.modem.dial(
    {
      path,
      method: 'POST',
      hijack: true,
      headers: { Upgrade: 'h2c', ...headers },
      statusCodes: { 101: true, 200: true },
    },
    (error, socket) => {
      if (error) {
        reject(
          new ConveyorError('unavailable', `the Docker engine did not ${what}: ${error.message}`, {
            cause: error,
            hint: 'Check that the engine runs (docker version) and is 20.10 or newer, and DOCKER_HOST',
          }),
        )
      } else resolve(socket as Duplex)
    },
  )
  return promise
}
