import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type Dockerode from 'dockerode'
import { StatusResponse } from '../../buildkit/gen/status.ts'
import type { SolveIo } from '../../buildkit/solve.ts'
import { ConveyorError } from '../../core/errors.ts'
import { jsonLines, unreadable } from '../../docker/json-lines.ts'
import { dial } from '../../docker/request.ts'
import type { BuildInput } from '../builder.ts'
import { cacheMountArgs } from '../cache-mount-args.ts'

/** A BuildTransport: the engine's `/build` API, which passes the build on to BuildKit. */
export async function buildOverHttp(
  docker: Dockerode,
  input: BuildInput,
  session: string,
  { onStatus, signal }: SolveIo,
): Promise<string> {
  const buildId = randomUUID()
  const response = await post(docker, signal, '/build?', {
    version: '2',
    session,
    buildid: buildId,
    remote: 'client-session',
    dockerfile: input.context.dockerfile,
    t: input.reference,
    labels: input.labels,
    // Inline cache: lets a worker that has never built this repository start from the pushed image.
    buildargs: { ...cacheMountArgs(input), ...input.buildArgs, BUILDKIT_INLINE_CACHE: '1' },
    ...(input.cache ? {} : { nocache: 'true' }),
    ...(input.cache && input.cacheFrom.length > 0 ? { cachefrom: JSON.stringify(input.cacheFrom) } : {}),
    ...(input.network ? { networkmode: input.network } : {}),
    ...settingsQuery(input),
  })
  // Closing the connection cancels most builds; the cancel call also works between two steps.
  const cancel = () => {
    response.destroy()
    post(docker, AbortSignal.timeout(5000), '/build/cancel?', { id: buildId }).then(
      (answer) => answer.resume(),
      () => {}, // the build has ended, or the engine is gone: there is nothing left to cancel
    )
  }
  signal.addEventListener('abort', cancel, { once: true })
  try {
    let imageId: string | undefined
    for await (const message of jsonLines<BuildMessage>(response)) {
      if (message.error !== undefined) throw new Error(String(message.error))
      if (message.id === 'moby.buildkit.trace') await onStatus(statusOf(message.aux))
      else if (message.id === 'moby.image.id') imageId = idOf(message.aux)
    }
    if (!imageId)
      throw new ConveyorError('unavailable', 'the Docker engine finished the build without a result')
    return imageId
  } finally {
    signal.removeEventListener('abort', cancel)
  }
}

function settingsQuery({ target, platforms, hosts, ulimits }: BuildInput): Record<string, unknown> {
  const extraHosts = Object.entries(hosts).map(([name, address]) => `${name}:${address}`)
  const limits = Object.entries(ulimits).map(([Name, value]) => {
    const [soft, hard = soft] = value.split(':')
    return { Name, Soft: Number(soft), Hard: Number(hard) }
  })
  return {
    ...(target ? { target } : {}),
    ...(platforms[0] ? { platform: platforms[0] } : {}),
    ...(extraHosts.length > 0 ? { extrahosts: extraHosts } : {}),
    ...(limits.length > 0 ? { ulimits: JSON.stringify(limits) } : {}),
  }
}

function statusOf(aux: unknown): StatusResponse {
  try {
    return StatusResponse.decode(Buffer.from(String(aux), 'base64'))
  } catch (error) {
    throw unreadable('invalid progress', error)
  }
}

function idOf(aux: unknown): string {
  const { ID: id } = (aux ?? {}) as { ID?: unknown }
  if (typeof id !== 'string') throw unreadable('an image has no id')
  return id
}

interface BuildMessage {
  error?: string
  id?: string
  /** A StatusResponse in base64 for a trace; {ID} for the image id. */
  aux?: unknown
}

function post(
  docker: Dockerode,
  abortSignal: AbortSignal,
  path: string,
  query: Record<string, unknown>,
): Promise<IncomingMessage> {
  const options = { _query: query, _body: {} }
  const statusCodes = { 200: true }
  return dial(docker, {
    ...{ path, method: 'POST', options, isStream: true, statusCodes, abortSignal },
  }) as Promise<IncomingMessage>
}
