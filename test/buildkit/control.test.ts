import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import {
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { engineEndpoint } from '../../src/lib/buildkit/engine-endpoint.ts'
import {
  ControlService,
  type ListWorkersRequest,
  type ListWorkersResponse,
} from '../../src/lib/buildkit/gen/control.ts'
import type { StatusResponse } from '../../src/lib/buildkit/gen/status.ts'
import { GrpcCode, GrpcConnection, GrpcError } from '../../src/lib/buildkit/grpc.ts'
import { hasBuilt } from '../../src/lib/buildkit/history.ts'
import { Progress } from '../../src/lib/buildkit/progress.ts'
import { FileTimes } from '../../src/lib/buildkit/session/file-times.ts'
import { openSession } from '../../src/lib/buildkit/session/session.ts'
import { EMPTY_SOLVE, solve } from '../../src/lib/buildkit/solve.ts'
import { listWorkers } from '../../src/lib/buildkit/workers.ts'
import { fresh, NOBODY } from '../builder/builder.contract.ts'
import { memoryContext } from '../support/context/memory-context.ts'
import { engine } from '../support/global-setup.ts'
import { tempDir } from '../support/temp.ts'

const worker = (ID: string) => ({ ID, Labels: {}, platforms: [], GCPolicy: [], BuildkitVersion: undefined })
const NEVER = new AbortController().signal

async function failure(work: Promise<unknown>): Promise<GrpcError> {
  const thrown = await work.then(
    () => new Error('it succeeded'),
    (error: unknown) => error,
  )
  expect(thrown).toBeInstanceOf(GrpcError)
  return thrown as GrpcError
}

describe('gRPC on an existing connection', () => {
  const resources = new AsyncDisposableStack()
  let path: string
  let cancelled = 0
  beforeAll(async () => {
    const folder = resources.use(await tempDir('conveyor-grpc-'))
    path = join(folder.path, 'grpc.sock')
    const server = new Server()
    const handlers: UntypedServiceImplementation = {
      listWorkers: (
        call: ServerUnaryCall<ListWorkersRequest, ListWorkersResponse>,
        done: sendUnaryData<ListWorkersResponse>,
      ) => {
        const [asked] = call.request.filter
        if (asked === 'fail') done({ code: status.FAILED_PRECONDITION, details: 'größer als 100 %' })
        else done(null, { record: [worker(asked ?? '')] })
      },
      // One log of each size, then the end; or nothing, and no end.
      status: (call: ServerWritableStream<{ Ref: string }, StatusResponse>) => {
        const { Ref } = call.request
        call.on('cancelled', () => cancelled++)
        for (const size of Ref.split(',').filter((one) => one !== '')) {
          const msg = Buffer.alloc(Number(size), size)
          call.write({
            vertexes: [],
            statuses: [],
            logs: [{ vertex: '', timestamp: undefined, stream: 1n, msg }],
            warnings: [],
          })
        }
        if (Ref !== '') call.end()
      },
    }
    for (const name of ['diskUsage', 'prune', 'solve', 'session', 'listenBuildHistory'])
      handlers[name] ??= () => {}
    server.addService(ControlService, handlers)
    await new Promise<void>((resolve, reject) =>
      server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      ),
    )
    resources.defer(() => server.forceShutdown())
  })
  afterAll(() => resources.disposeAsync())

  test('one response, and messages of any size in order', async () => {
    await using connection = new GrpcConnection(connect(path))
    const { record } = await connection.unary(ControlService.listWorkers, { filter: ['me'] })
    expect(record.map(({ ID }) => ID)).toEqual(['me'])
    const sizes = [0, 1, 100_000, 3, 3_000_000, 0, 70_000]
    const got: number[] = []
    for await (const { logs } of connection.stream(ControlService.status, { Ref: sizes.join(',') })) {
      const { msg } = logs[0] ?? { msg: Buffer.alloc(0) }
      expect(msg.equals(Buffer.alloc(msg.length, String(msg.length)))).toBe(true)
      got.push(msg.length)
    }
    expect(got).toEqual(sizes)
  })

  test('a status other than OK is an error with the original message', async () => {
    await using connection = new GrpcConnection(connect(path))
    const error = await failure(connection.unary(ControlService.listWorkers, { filter: ['fail'] }))
    expect(error).toMatchObject({ code: status.FAILED_PRECONDITION, message: 'größer als 100 %' })
  })

  test('aborting ends the call on the server, too', async () => {
    await using connection = new GrpcConnection(connect(path))
    const abort = new AbortController()
    const waiting = connection.unary(ControlService.status, { Ref: '' }, abort.signal)
    const ended = expect(waiting).rejects.toThrow('enough')
    await connection.unary(ControlService.listWorkers, { filter: [''] }) // it has begun
    const before = cancelled
    abort.abort(new Error('enough'))
    await ended
    await expect.poll(() => cancelled).toBe(before + 1)
    await expect(connection.unary(ControlService.status, { Ref: '1' }, abort.signal)).rejects.toThrow(
      'enough',
    )
  })

  test('a lost connection is unavailable, then and later', async () => {
    const socket = connect(path)
    await using connection = new GrpcConnection(socket)
    const waiting = failure(connection.unary(ControlService.status, { Ref: '' }))
    await connection.unary(ControlService.listWorkers, { filter: [''] })
    socket.destroy()
    expect(await waiting).toMatchObject({ code: GrpcCode.unavailable })
    const later = failure(connection.unary(ControlService.status, { Ref: '1' }))
    expect(await later).toMatchObject({ code: GrpcCode.unavailable })
  })

  test('a server of another protocol is unavailable', async () => {
    await using folder = await tempDir('conveyor-grpc-')
    const other = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    other.listen(join(folder.path, 'http.sock'))
    await once(other, 'listening')
    await using connection = new GrpcConnection(connect(join(folder.path, 'http.sock')))
    const error = await failure(connection.unary(ControlService.listWorkers, { filter: [] }))
    expect(error).toMatchObject({ code: GrpcCode.unavailable })
    other.close()
  })
})

describe("BuildKit's Control API in an engine of 2020, through /grpc", () => {
  const endpoint = () => engineEndpoint(engine().docker)
  const name = () => `control/t${process.pid}:1`

  /** A build whose image goes to the classic store, which only the engine's own exporter can write to. */
  async function build(dockerfile: string, signal = NEVER) {
    const context = memoryContext({ Dockerfile: dockerfile })
    const options = { context, times: FileTimes.of(context, null, null), sharedKey: 'control', secrets: {} }
    await using session = await openSession(endpoint(), { ...options, credentials: NOBODY, ssh: null })
    const progress = new Progress()
    let text = ''
    const request = {
      ...EMPTY_SOLVE,
      Session: session.id,
      Exporter: 'moby',
      ExporterAttrs: { name: name() },
      FrontendAttrs: { filename: 'Dockerfile', 'force-network-mode': 'host' },
      Entitlements: ['network.host'],
    }
    const onStatus = async (message: StatusResponse) => {
      text += Buffer.concat([...progress.render(message)]).toString()
    }
    const answer = await solve(endpoint(), request, { onStatus, signal }).catch((error) => {
      throw Object.assign(error, { log: text })
    })
    return { answer, text, steps: progress.summary() }
  }

  test('a build, its progress and its result', async () => {
    expect(await listWorkers(endpoint())).toHaveLength(1)
    const { answer, text, steps } = await build(`FROM conveyor-test/busybox:1\nRUN echo said-${fresh()}`)
    // What it printed, not its name, which says so as well.
    expect(text).toMatch(/^#\d+ \d+\.\d+ said-\d/m)
    expect(steps).toMatchObject({ total: 1, cached: 0 })
    expect((await engine().docker.getImage(name()).inspect()).Id).toBe(answer['containerimage.digest'])
    // It remembers nothing, which is not an error.
    expect(await hasBuilt(endpoint(), 'control/x')).toBe(false)
  })

  test('a step that fails is the error, after its output', async () => {
    const error = await failure(build('FROM conveyor-test/busybox:1\nRUN echo about-to-fail; exit 7'))
    expect(error.message).toContain('exit code: 7')
    expect(error).toMatchObject({ log: expect.stringContaining(' about-to-fail\n') })
  })

  test('a session and a connection may end as soon as they have started', async () => {
    const context = memoryContext({})
    const times = FileTimes.of(context, null, null)
    const options = { context, times, sharedKey: 'short', secrets: {}, credentials: NOBODY, ssh: null }
    const cancelled = AbortSignal.abort(new Error('enough'))
    for (let count = 0; count < 10; count++) {
      await using session = await openSession(endpoint(), options)
      await using connection = new GrpcConnection(await endpoint().connect())
      const request = { ...EMPTY_SOLVE, Session: session.id }
      await expect(connection.unary(ControlService.solve, request, cancelled)).rejects.toThrow('enough')
    }
  })
})
