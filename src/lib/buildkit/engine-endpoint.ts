import type { Duplex } from 'node:stream'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../core/errors.ts'
import { NO_ENGINE } from '../docker/errors.ts'
import { dial, late, RESPONSE_MS, request } from '../docker/request.ts'
import { cachedOnSuccess, type Endpoint, sessionHeaders } from './endpoint.ts'

/**
 * The BuildKit inside a Docker Engine, 20.10 and later. Both connections are HTTP requests upgraded to
 * HTTP/2 without TLS: https://docs.docker.com/reference/api/engine/ (`/grpc` and `/session`).
 */
export function engineEndpoint(docker: Dockerode): Endpoint {
  return {
    name: 'the Docker engine',
    // The worker id that BuildKit reports is the same in all old engines.
    id: cachedOnSuccess(async () => {
      try {
        return (await request<{ ID: string }>(docker, 'GET', '/info')).ID
      } catch (error) {
        throw new ConveyorError(
          'unavailable',
          `cannot reach the Docker engine: ${(error as Error).message}`,
          {
            cause: error,
            hint: NO_ENGINE,
          },
        )
      }
    }),
    connect: () => hijack(docker, '/grpc', {}, 'accept a connection to its BuildKit'),
    attach: (hello) => hijack(docker, '/session', sessionHeaders(hello), 'open a build session'),
  }
}

async function hijack(
  docker: Dockerode,
  path: string,
  headers: Record<string, string | string[]>,
  what: string,
): Promise<Duplex> {
  // Not a signal with a limit: it would end the connection, too.
  const limit = new AbortController()
  const timer = setTimeout(() => limit.abort(), RESPONSE_MS)
  try {
    return (await dial(docker, {
      path,
      method: 'POST',
      hijack: true,
      headers: { Upgrade: 'h2c', ...headers },
      statusCodes: { 101: true, 200: true },
      abortSignal: limit.signal,
    })) as Duplex
  } catch (thrown) {
    const error = limit.signal.aborted ? late(RESPONSE_MS, thrown) : (thrown as Error)
    throw new ConveyorError('unavailable', `the Docker engine did not ${what}: ${error.message}`, {
      cause: error,
      hint: 'Check DOCKER_HOST, and that the engine is running (docker version) and is 20.10 or newer',
    })
  } finally {
    clearTimeout(timer)
  }
}
