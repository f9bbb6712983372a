import { once } from 'node:events'
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net'
import { ControlService } from '../../../src/lib/buildkit/gen/control.ts'
import { Packet } from '../../../src/lib/buildkit/gen/filesync.ts'
import { StatusResponse } from '../../../src/lib/buildkit/gen/status.ts'
import { frame, GrpcConnection, GrpcError } from '../../../src/lib/buildkit/grpc.ts'
import { Progress } from '../../../src/lib/buildkit/progress.ts'
import { FileTimes } from '../../../src/lib/buildkit/session/file-times.ts'
import { openSession } from '../../../src/lib/buildkit/session/session.ts'
import { StepRecord } from '../../../src/lib/buildkit/steps/step-record.ts'
import { Pace } from '../../../src/lib/util/pace.ts'
import { memoryContext } from '../../support/context/memory-context.ts'
import { drawStatus, encoded } from '../generate/buildkit-messages.ts'
import type { Chance } from '../generate/chance.ts'
import { mutatedBytes, pieces } from '../generate/mutate.ts'
import { excerpt, type Kind, type Subject, type Trial } from '../kind.ts'

/** BuildKit's progress messages and session requests, truncated or with changed bytes. */
export const buildkitKind: Kind = {
  share: 7,
  least: 200,
  parsers: [
    'buildkit/progress.ts',
    'buildkit/steps/step-graph.ts',
    'buildkit/steps/step-record.ts',
    'buildkit/grpc.ts',
    'buildkit/session/file-sync.ts',
    'buildkit/session/file-times.ts',
  ],
  async open(): Promise<Subject> {
    const server = await startAnswering()
    const sockets = await startPairing()
    return {
      draw(chance) {
        if (chance.percent(15)) return grpcTrial(chance, server)
        return chance.percent(15) ? sessionTrial(chance, sockets) : progressTrial(chance)
      },
      async [Symbol.asyncDispose]() {
        await Promise.all([server.close(), sockets.close()])
      },
    }
  },
}

const CONTEXT = memoryContext({
  Dockerfile: 'FROM scratch\n',
  'src/a': 'a',
  'src/b, c': 'b',
  big: 'x'.repeat(100_000),
})

/** Everything that is decoded can be rendered, and everything that is stored can be stored. */
/** Rendered in turns, as a session does it. */
export async function rendered(progress: Progress, status: Parameters<Progress['render']>[0]): Promise<void> {
  const pace = new Pace()
  for (const piece of progress.render(status)) {
    if (piece.length === 0) throw new Error('a piece of the log is empty')
    if (pace.isDue) await pace.rest()
  }
}

function progressTrial(chance: Chance): Trial {
  const messages = chance.times(1, 4, () => {
    const bytes = encoded(drawStatus(chance))
    return chance.percent(40) ? mutatedBytes(chance, bytes) : bytes
  })
  return {
    shown: () => messages.map(excerpt).join(' '),
    async run() {
      const progress = new Progress()
      const before = new StepRecord()
      const record = new StepRecord(before)
      for (const bytes of messages) {
        const message = decoded(bytes)
        if (!message) continue
        await rendered(progress, message)
        before.add(message)
        record.add(message)
        record.list(false)
      }
      before.list(true)
      record.images()
      progress.summary()
      void [progress.hasUncachedStep, progress.ranBeforeCopy, progress.outdatesCacheMounts]
      const times = await FileTimes.of(CONTEXT, null, 'basis')
      await FileTimes.of(CONTEXT, await times.encode(progress.clock), 'basis')
      const encodedTimes = mutatedBytes(chance, await times.allNew().encode(0))
      const again = await FileTimes.of(CONTEXT, encodedTimes, 'basis')
      for (const entry of CONTEXT.entries) again.isKept(entry)
    },
  }
}

/** Null if the bytes are not a message, which a stream rejects. */
function decoded(bytes: Buffer): StatusResponse | null {
  try {
    return StatusResponse.decode(bytes)
  } catch {
    return null
  }
}

/** How a server answers a call: with pieces of a stream, and then a status, or a premature end. */
interface Plan {
  pieces: Buffer[]
  headers: Record<string, string | number>
  trailers: Record<string, string>
  end: 'well' | 'cut' | 'reset' | 'no trailers'
}

async function startAnswering() {
  const state = { plan: { pieces: [], headers: {}, trailers: {}, end: 'well' } as Plan }
  const sessions = new Set<ServerHttp2Session>()
  const server: Http2Server = createServer()
  server.on('session', (session) =>
    sessions.add(session.on('close', () => sessions.delete(session)).on('error', () => {})),
  )
  server.on('stream', (stream) => {
    stream.on('error', () => {})
    answer(stream, state.plan)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return Object.assign(state, {
    port: (server.address() as AddressInfo).port,
    async close() {
      for (const session of sessions) session.destroy()
      server.close()
      await once(server, 'close')
    },
  })
}

function answer(stream: ServerHttp2Stream, { pieces: all, headers, trailers, end }: Plan): void {
  stream.respond(headers, { waitForTrailers: end === 'well' })
  stream.on('wantTrailers', () => stream.sendTrailers(trailers))
  for (const piece of all) stream.write(piece)
  if (end === 'cut') setImmediate(() => stream.session?.destroy())
  else if (end === 'reset') setImmediate(() => stream.close(2))
  else stream.end()
}

type Sockets = Awaited<ReturnType<typeof startPairing>>

/** Creates connections with both ends in this process. */
async function startPairing() {
  const server = createTcpServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    async pair(): Promise<[Socket, Socket]> {
      const one = connect((server.address() as AddressInfo).port, '127.0.0.1')
      const [[other]] = await Promise.all([
        once(server, 'connection') as Promise<[Socket]>,
        once(one, 'connect'),
      ])
      return [one, other.on('error', () => {})]
    },
    async close() {
      server.close()
      await once(server, 'close')
    },
  }
}

function grpcTrial(chance: Chance, server: Awaited<ReturnType<typeof startAnswering>>): Trial {
  const messages = chance.times(0, 3, () => frame(encoded(drawStatus(chance))))
  const bytes = chance.percent(60) ? mutatedBytes(chance, Buffer.concat(messages)) : Buffer.concat(messages)
  const plan: Plan = {
    pieces: pieces(chance, bytes),
    headers: {
      ':status': chance.one([200, 200, 200, 503, 404]),
      'content-type': chance.one(['application/grpc', 'text/html']),
    },
    trailers: chance.one([
      { 'grpc-status': '0' },
      { 'grpc-status': '0' },
      {},
      { 'grpc-status': '2', 'grpc-message': chance.one(['gr%C3%B6%C3%9Fer', '%zz', 'x'.repeat(5000), '']) },
      { 'grpc-status': 'x' },
    ] as Record<string, string>[]),
    end: chance.one(['well', 'well', 'well', 'cut', 'reset', 'no trailers']),
  }
  const isUnary = chance.percent(30)
  return {
    shown: () => `${JSON.stringify([plan.headers, plan.trailers, plan.end])} ${excerpt(bytes)}`,
    async run() {
      server.plan = plan
      await using connection = new GrpcConnection(connect(server.port, '127.0.0.1'))
      try {
        if (isUnary) await connection.unary(ControlService.listWorkers, { filter: [] })
        else
          for await (const status of connection.stream(ControlService.status, { Ref: 'x' }))
            await rendered(new Progress(), status)
      } catch (error) {
        if (!(error instanceof GrpcError)) throw error
      }
    },
  }
}

const METHODS = [
  '/moby.filesync.v1.FileSync/DiffCopy',
  '/moby.filesync.v1.Auth/Credentials',
  '/moby.buildkit.secrets.v1.Secrets/GetSecret',
  '/grpc.health.v1.Health/Check',
  '/moby.filesync.v1.Auth/FetchToken',
  '/x/y',
]

/** A session, and a BuildKit that sends arbitrary requests over it; the session keeps serving others. */
function sessionTrial(chance: Chance, sockets: Sockets): Trial {
  const method = chance.percent(75) ? (METHODS[0] ?? '') : chance.one(METHODS)
  const packets = chance.times(0, 5, () => ({
    ...{ type: chance.one([1, 1, 1, 2, 3, 4, 4, 99]), stat: undefined },
    ...{
      ID: chance.one([0, 1, 2, 3, 4, 4, 5, 2 ** 31]),
      data: Buffer.from(chance.one(['', 'no space left', 'x'.repeat(1000)])),
    },
  }))
  const framed = Buffer.concat(packets.map((packet) => frame(Packet.encode(packet as Packet).finish())))
  const bytes = chance.percent(40) ? mutatedBytes(chance, framed) : framed
  const metadata = {
    ...(chance.percent(50) ? { 'dir-name': chance.one(['context', 'dockerfile', 'x']) } : {}),
    ...(chance.percent(50)
      ? { followpaths: chance.one([['src'], ['.dockerignore'], ['b, c', '[a'], ['*']]) }
      : {}),
  }
  const cut = pieces(chance, bytes)
  const end = chance.one(['end', 'end', 'close', 'destroy'])
  return {
    shown: () => `${method} ${JSON.stringify(metadata)} ${end} ${excerpt(bytes)}`,
    async run() {
      const [ours, theirs] = await sockets.pair()
      const times = FileTimes.of(CONTEXT, null, 'basis')
      const options = {
        context: CONTEXT,
        times,
        sharedKey: 'x',
        credentials: { forHost: async () => null },
        secrets: { a: Buffer.from('b') },
        ssh: null,
      }
      await using session = await openSession({ attach: async () => ours }, options)
      await using connection = new GrpcConnection(theirs)
      const call = connection.open(method, metadata)
      for (const piece of cut) call.write(piece)
      if (end === 'end') call.end()
      else if (end === 'close') setImmediate(() => call.close(8))
      else setImmediate(() => theirs.destroy())
      // After half a message, the session waits for the other half until that BuildKit disconnects.
      const away = setTimeout(() => theirs.destroy(), 300)
      try {
        for await (const message of connection.messages(call, method)) void message.length
      } catch (error) {
        if (!(error instanceof GrpcError)) throw error
      } finally {
        clearTimeout(away)
      }
      if (session.broken.aborted && !(session.broken.reason instanceof Error))
        throw new Error('the session failed without a reason')
    },
  }
}
