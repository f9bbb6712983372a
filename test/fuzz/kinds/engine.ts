import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import Dockerode from 'dockerode'
import { buildError } from '../../../src/lib/builder/build-errors.ts'
import type { BuildInput } from '../../../src/lib/builder/builder.ts'
import { buildOverHttp } from '../../../src/lib/builder/engine/build-transport.ts'
import { pushFromEngine } from '../../../src/lib/builder/engine/push.ts'
import { Progress } from '../../../src/lib/buildkit/progress.ts'
import { ConveyorError } from '../../../src/lib/core/errors.ts'
import { demultiplex } from '../../../src/lib/docker/container-logs.ts'
import { pullByDigest } from '../../../src/lib/docker/images.ts'
import { parseRegistryMessage } from '../../../src/lib/registry/messages.ts'
import { findPushedTag, registryPushError } from '../../../src/lib/registry/push-errors.ts'
import { memoryContext } from '../../support/context/memory-context.ts'
import { drawStatus, drawText, encoded, recordedTexts, stepName } from '../generate/buildkit-messages.ts'
import type { Chance } from '../generate/chance.ts'
import { mutated, mutatedBytes, pieces } from '../generate/mutate.ts'
import { excerpt, type Kind, mayRefuse, type Subject, type Trial } from '../kind.ts'
import { rendered } from './buildkit.ts'
import { drawDockerfile } from './dockerfile.ts'

const NEVER = new AbortController().signal
const IO = { signal: NEVER, log: { async write() {}, async flush() {}, async close() {}, async end() {} } }
const NOBODY = { forHost: async () => null }

/** The Docker engine's streams of builds, pulls and pushes, container logs, and error messages. */
export const engineKind: Kind = {
  share: 14,
  least: 1500,
  parsers: [
    ...[
      'docker/json-lines.ts',
      'builder/engine/build-transport.ts',
      'docker/container-logs.ts',
      'builder/step-errors.ts',
    ],
    ...['builder/build-errors.ts', 'registry/messages.ts', 'registry/push-errors.ts'],
  ],
  async open(): Promise<Subject> {
    const recorded = await recordedTexts()
    const engine = await startEngine()
    return {
      draw(chance) {
        if (chance.percent(15)) return streamTrial(chance, engine)
        if (chance.percent(20)) return logTrial(chance)
        const { text, failed } = chance.one(recorded)
        return textTrial(chance, text, failed ?? { name: stepName(chance), error: text })
      },
      [Symbol.asyncDispose]: () => engine.close(),
    }
  },
}

type FuzzedEngine = Awaited<ReturnType<typeof startEngine>>

/** An engine that answers every request with the same pieces. */
async function startEngine() {
  const state = { pieces: [] as Buffer[], isCutOff: false }
  const server = createServer((request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': 'application/json' })
    for (const piece of state.pieces) response.write(piece)
    if (state.isCutOff) setImmediate(() => response.destroy())
    else response.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const docker = new Dockerode({
    host: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    protocol: 'http',
  })
  return Object.assign(state, {
    docker,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  })
}

const INPUT: BuildInput = {
  ...{
    context: memoryContext({ Dockerfile: 'FROM scratch\n' }),
    reference: 'x:1',
    cacheKey: 'x',
    cacheFrom: [],
    cache: true,
  },
  ...{
    labels: {},
    buildArgs: {},
    secrets: {},
    ssh: null,
    target: null,
    platforms: [],
    hosts: { db: '10.0.0.1' },
    ulimits: { nofile: '1024:2048', core: '0' },
    network: null,
  },
} as unknown as BuildInput

function streamTrial(chance: Chance, engine: FuzzedEngine): Trial {
  const text = chance.times(0, 6, () => drawLine(chance)).join('')
  const bytes = chance.percent(50) ? mutatedBytes(chance, Buffer.from(text)) : Buffer.from(text)
  const what = chance.whole(0, 2)
  const [cut, isCutOff] = [pieces(chance, bytes), chance.percent(20)]
  return {
    shown: () => `${['build', 'pull', 'push'][what]}: ${excerpt(bytes)}`,
    async run() {
      Object.assign(engine, { pieces: cut, isCutOff })
      const progress = new Progress()
      const onStatus = (status: Parameters<Progress['render']>[0]) => rendered(progress, status)
      if (what === 1) await mayRefuse(() => pullByDigest(engine.docker, NOBODY, 'a/b@sha256:c', NEVER))
      else if (what === 2)
        await mayRefuse(() => pushFromEngine(engine.docker, NOBODY, 'a/b:1', { delays: [] }, IO))
      else
        await buildOverHttp(engine.docker, INPUT, 'session', { onStatus, signal: NEVER }).catch((thrown) =>
          explained(thrown, isCutOff),
        )
    },
  }
}

/** An unreadable stream is not a result of the build. */
async function explained(thrown: unknown, isCutOff: boolean): Promise<void> {
  const error = await buildError({ thrown, ours: undefined, failed: undefined })
  if (thrown instanceof SyntaxError || thrown instanceof TypeError || thrown instanceof RangeError)
    throw thrown
  if (
    isCutOff &&
    !(thrown instanceof ConveyorError) &&
    /aborted|ECONNRESET/.test(error.message) &&
    !error.retryable
  )
    throw error
}

function drawLine(chance: Chance): string {
  const aux = chance.one([
    () => encoded(drawStatus(chance)).toString('base64'),
    () => mutatedBytes(chance, encoded(drawStatus(chance))).toString('base64'),
    () =>
      chance.one([
        null,
        1,
        {},
        [],
        'x',
        undefined,
        { ID: 1 },
        { ID: 'sha256:a' },
        { Digest: 'sha256:b' },
        { Digest: 1 },
      ]),
  ])()
  const line = JSON.stringify(
    chance.one([
      { id: chance.one(['moby.buildkit.trace', 'moby.image.id']), aux },
      { id: 'moby.buildkit.trace', aux },
      {
        id: chance.one(['a', 1, null, {}]),
        status: chance.one(['Pushed', 'Retrying in 5 seconds', 'Layer already exists', 1, null]),
        aux,
      },
      { error: chance.one(['', 'denied: x', null, 1, {}, ['x']]), errorDetail: {} },
      chance.one([null, 1, 'x', [], true]),
    ]),
  )
  const text = chance.percent(20) ? mutated(chance, line, ['"', '{', '}', '\n', '\r\n', '\0']) : line
  return text + chance.one(['\n', '\n', '\r\n', '', '\n\n'])
}

function logTrial(chance: Chance): Trial {
  const frames = chance.times(0, 6, () => {
    const body = Buffer.from(chance.one(['', 'a\n', 'é', 'x'.repeat(chance.size(5000))]))
    const head = Buffer.from([chance.one([0, 1, 2, 3, 4, 255]), 0, 0, 0, 0, 0, 0, 0])
    head.writeUInt32BE(chance.percent(90) ? body.length : chance.one([0, 1, 2 ** 32 - 1]), 4)
    return Buffer.concat([head, body])
  })
  const long = chance.percent(1)
    ? [Buffer.from([chance.whole(1, 3), 0, 0, 0, 255, 255, 255, 255]), Buffer.alloc(2 << 20, 'é')]
    : []
  const cut = pieces(chance, mutatedBytes(chance, Buffer.concat([...frames, ...long])))
  return {
    shown: () => excerpt(Buffer.concat(cut)),
    run: () =>
      mayRefuse(async () => {
        let bytes = 0
        for await (const piece of demultiplex(arriving(cut))) bytes += piece.length
        if (bytes > cut.reduce((sum, piece) => sum + piece.length, 0))
          throw new Error('more comes out than goes in')
      }),
  }
}

async function* arriving(cut: Buffer[]): AsyncGenerator<Buffer> {
  yield* cut
}

function textTrial(chance: Chance, recorded: string, step: { name: string; error: string }): Trial {
  const text = drawText(chance, recorded)
  const name = chance.percent(50) ? stepName(chance) : step.name
  const failed = chance.percent(70)
    ? { name, error: chance.percent(70) ? text : drawText(chance, step.error) }
    : undefined
  const file = chance.percent(50) ? drawDockerfile(chance) : 'FROM a\nCOPY <<EOF /b\nEOF\n'
  const found = chance.one([
    null,
    'sha256:a',
    new ConveyorError('unauthorized', 'x'),
    new ConveyorError('unavailable', 'y'),
  ])
  const ask = async () => {
    if (found instanceof ConveyorError) throw found
    return found
  }
  const registry = chance.percent(60)
    ? {
        head: ask,
        async manifest() {
          if (manifest === null) throw new ConveyorError('not_found', 'z')
          return { digest: 'sha256:a', mediaType: 'x', bytes: Buffer.from(manifest) }
        },
      }
    : undefined
  const manifest = chance.one([null, '{"config":{"digest":"sha256:b"}}', 'null', '{"config":', '[]'])
  const isSame = chance.percent(30)
  return {
    shown: () => `${excerpt(text)} ${excerpt(JSON.stringify(failed))} ${excerpt(file)}`,
    async run() {
      const thrown = new Error(text)
      const error = await buildError(
        { thrown, ours: undefined, failed },
        { dockerfile: async () => file, registry },
      )
      if (!(error instanceof ConveyorError)) throw error
      await registryPushError(text, 'ghcr.io/acme/app:1', thrown, { registry })
      await mayRefuse(() =>
        findPushedTag(
          parseRegistryMessage(text),
          'ghcr.io/acme/app:1',
          { registry },
          async () => isSame,
          !isSame,
        ),
      )
    },
  }
}
