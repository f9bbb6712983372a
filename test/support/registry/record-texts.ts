/**
 * Records the error texts of engines and BuildKit when a registry rejects a request, or a step fails:
 *
 *     node test/support/registry/record-texts.ts [NAME...]
 *
 * NAME is one of SUBJECTS; all of them by default. Needs root, and what `bin/setup.sh test` creates. Writes
 * test/support/registry/recordings/NAME.json, which test/registry/messages.test.ts reads. Takes several minutes each,
 * because engines and BuildKit retry some requests.
 */
import { once } from 'node:events'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { type AddressInfo, createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import { argv, stdout } from 'node:process'
import type Dockerode from 'dockerode'
import type { BuildInput } from '../../../src/lib/builder/builder.ts'
import { imageRequest } from '../../../src/lib/builder/buildkit/request.ts'
import { buildOverHttp } from '../../../src/lib/builder/engine/build-transport.ts'
import { withSession } from '../../../src/lib/builder/session.ts'
import { solve } from '../../../src/lib/buildkit/solve.ts'
import { NO_SETTINGS } from '../../../src/lib/core/settings.ts'
import { jsonLines } from '../../../src/lib/docker/json-lines.ts'
import { memoryContext } from '../context/memory-context.ts'
import { type Files, failingSteps } from '../images/failing-steps.ts'
import { putImage } from '../images/put-image.ts'
import { memoryLog } from '../memory-log.ts'
import { projectRoot } from '../processes.ts'
import { ANSWERS, answerWith, faultyRegistry, isKind, type RequestKind } from './answers.ts'
import { frontOf, httpDouble } from './doubles.ts'
import { type RecordedSubject, SUBJECTS } from './recorded-subjects.ts'
import { startRegistry } from './registry.ts'

/** One failure. Parts of its texts that vary from run to run are replaced. */
export interface Recording {
  /** `push`; `pull` of a base image; `image pull` of an engine; or `step`. */
  phase: string
  /** The rejected request, or the failing step. */
  request: string
  answer: string
  /** The error of the build or push; null if it succeeded. */
  text: string | null
  /** The vertex that failed. */
  failed: { name: string; error: string } | null
}
type Ended = Pick<Recording, 'text' | 'failed'>

const PUSH: RequestKind[] = [
  'token',
  'HEAD manifest',
  'HEAD blob',
  'POST upload',
  'PATCH upload',
  'PUT upload',
  'PUT manifest',
]
const PULL: (RequestKind | 'GET layer')[] = [
  'token',
  'HEAD manifest',
  'GET manifest',
  'GET blob',
  'GET layer',
]
/** How many run at once. */
const WIDTH = 16

let count = 0
function inputOf(files: Files, reference: string, rest: Partial<BuildInput> = {}): BuildInput {
  return {
    context: memoryContext(files),
    reference,
    push: false,
    cacheKey: `recorded-${++count}`,
    cacheNamespace: 'recorded',
    sync: null,
    cache: true,
    cacheFrom: [],
    labels: {},
    secrets: {},
    ...NO_SETTINGS,
    network: 'host',
    epoch: 1_700_000_000,
    ...rest,
  }
}

/** Builds, and pushes if BuildKit does so itself. */
async function build({ endpoint, classic }: RecordedSubject, input: BuildInput): Promise<Ended> {
  let failed: Recording['failed'] = null
  const explain = (thrown: unknown, ours: Error | undefined, step: Recording['failed'] | undefined) => {
    failed = step ?? null
    return ours ?? (thrown as Error)
  }
  const io = { log: memoryLog(), signal: AbortSignal.timeout(240_000) }
  const options = { endpoint, credentials: { forHost: async () => null }, explain }
  const format = { compression: 'gzip', oci: true } as const
  try {
    await withSession(input, io, options, async (session, solveIo) => {
      if (classic) return void (await buildOverHttp(classic, input, session, solveIo))
      await solve(endpoint, imageRequest(input, { session, format, insecure: false }), solveIo)
    })
    return { text: null, failed: null }
  } catch (error) {
    return { text: (error as Error).message, failed }
  }
}

async function push(subject: RecordedSubject, reference: string): Promise<Ended> {
  const files = { Dockerfile: 'FROM scratch\nCOPY x /\n', x: reference }
  const built = await build(subject, inputOf(files, reference, { push: true }))
  if (built.text !== null || !subject.classic) return built
  return read(subject.classic.getImage(reference).push({ authconfig: { username: '', password: '' } }))
}

/** The engine's own pull. */
function pull(engine: Dockerode, reference: string): Promise<Ended> {
  return read(engine.pull(reference, { authconfig: { username: '', password: '' } }))
}

async function read(asked: Promise<NodeJS.ReadableStream>): Promise<Ended> {
  try {
    for await (const { error } of jsonLines<{ error?: string }>((await asked) as IncomingMessage)) {
      if (error !== undefined) throw new Error(error)
    }
    return { text: null, failed: null }
  } catch (error) {
    return { text: (error as Error).message, failed: null }
  }
}

async function record(name: string): Promise<void> {
  const makeSubject = SUBJECTS[name]
  if (!makeSubject) throw new Error(`NAME is one of ${Object.keys(SUBJECTS).join(', ')}`)
  await using resources = new AsyncDisposableStack()
  const registry = resources.use(await startRegistry())
  const { front, faults } = await faultyRegistry(registry.host)
  resources.use(front)
  const files = resources.use(await fileServer())
  const subject = resources.use(await makeSubject())
  const { engine, classic } = subject

  const recordings: Recording[] = []
  const note = (phase: string, request: string, answer: string, ended: Ended, own = 'of none') => {
    const hosts = {
      ...Object.fromEntries([front.host, registry.host, own].map((host) => [host, 'registry.test:5000'])),
      [files.host]: 'files.test',
    }
    const text = ended.text === null ? null : plain(ended.text, hosts)
    const failed = ended.failed && {
      name: plain(ended.failed.name, hosts),
      error: plain(ended.failed.error, hosts),
    }
    recordings.push({ phase, request, answer, text, failed })
  }
  const work: (() => Promise<void>)[] = []
  const refusal = (kind: RequestKind | 'GET layer', answer: string) => {
    const repository = `case-${++count}`
    const request = kind === 'GET layer' ? 'GET blob' : kind
    const set = (of?: string) => faults.set(repository, { request, answer, ...(of ? { of } : {}) })
    return { path: `${repository}/app`, reference: `${front.host}/${repository}/app:1`, set }
  }
  const fromOf = (reference: string) =>
    inputOf({ Dockerfile: `FROM ${reference}\nCOPY Dockerfile /\n` }, 'built/here:1')

  for (const [answer, planned] of Object.entries(ANSWERS)) {
    for (const request of PUSH) {
      work.push(async () => {
        const { reference, set } = refusal(request, answer)
        set()
        note('push', request, answer, await push(subject, reference))
      })
    }
    for (const request of PULL) {
      const base = async () => {
        const { path, reference, set } = refusal(request, answer)
        const layer = await putImage(registry.host, path)
        set(request === 'GET layer' ? layer : undefined)
        return reference
      }
      work.push(async () => note('pull', request, answer, await build(subject, fromOf(await base()))))
      if (engine) {
        work.push(async () => note('image pull', request, answer, await pull(engine, await base())))
      }
    }
    if (!classic) continue
    work.push(async () => {
      await using own = await frontOf(registry.host, (req, res) => {
        if (!isKind('ping', req)) return false
        answerWith(planned, res)
        return true
      })
      note('push', 'ping', answer, await push(subject, `${own.host}/acme/app:1`), own.host)
    })
  }
  const hosts = { 'nobody listens': '127.0.0.1:1', 'no such host': 'no-such-host.invalid:5000' }
  for (const [answer, host] of Object.entries(hosts)) {
    const reference = `${host}/acme/app:1`
    work.push(async () => note('push', 'connection', answer, await push(subject, reference)))
    work.push(async () => note('pull', 'connection', answer, await build(subject, fromOf(reference))))
    if (engine) work.push(async () => note('image pull', 'connection', answer, await pull(engine, reference)))
  }
  work.push(async () => {
    const gone = createTcpServer((socket) => socket.destroy())
    gone.listen(0, '127.0.0.1')
    await once(gone, 'listening')
    const host = `127.0.0.1:${(gone.address() as AddressInfo).port}`
    const reference = `${host}/acme/app:1`
    note('push', 'connection', 'closed at once', await push(subject, reference), host)
    note('pull', 'connection', 'closed at once', await build(subject, fromOf(reference)), host)
    gone.close()
  })

  const shell = { path: 'bin/sh', content: await readFile('/bin/busybox'), mode: 0o755 }
  await putImage(registry.host, 'base', [{ path: 'bin', directory: true }, shell])
  for (const [request, context] of Object.entries(failingSteps(`http://${files.host}`))) {
    const here = Object.entries(context).map(([path, content]) => [
      path,
      typeof content === 'string' ? content.replaceAll('REGISTRY', registry.host) : content,
    ])
    const target = request === 'a target that is not there' ? 'nowhere' : null
    const input = inputOf(Object.fromEntries(here), 'built/here:1', { target })
    work.push(async () => note('step', request, '', await build(subject, input)))
  }
  await inParallel(work)
  recordings.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
  const folder = join(projectRoot, 'test/support/registry/recordings')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, `${name}.json`), `${JSON.stringify(recordings, null, 1)}\n`)
  stdout.write(`${name}: ${recordings.length} recordings\n`)
}

/** Files for ADD: `/404` gets that status. */
function fileServer() {
  return httpDouble((req, res) => {
    const status = Number(/^\/(\d{3})$/.exec(req.url ?? '')?.[1] ?? 200)
    const cutOff = { status, headers: { 'content-length': '1000' }, body: 'x' }
    if (req.url === '/cut') answerWith(cutOff, res)
    else res.writeHead(req.url?.includes('.git') ? 404 : status).end('a file')
  })
}

/** The text without the parts that vary from run to run. */
function plain(text: string, hosts: Record<string, string>): string {
  return Object.entries(hosts)
    .reduce((result, [host, name]) => result.replaceAll(host, name), text)
    .replace(/case-\d+/g, 'acme')
    .replace(/127\.0\.0\.1:\d+->/g, '127.0.0.1:PORT->')
    .replace(/ on [\d.]+:53:/g, ' on 127.0.0.1:53:')
    .replace(/\/uploads\/[\w-]+\?[^" :]*/g, '/uploads/UUID?_state=STATE')
    .replace(/[0-9a-f]{64}/g, 'f'.repeat(64))
    .replace(/\/\S+\/buildkit-mount\d+/g, '/DATA/buildkit-mount1')
    .replace(/\/\S+\/overlay2\/[0-9a-z]+\/merged/g, '/DATA/overlay2/layer/merged')
    .replace(/ref [0-9a-z-]{25,36}::[0-9a-z]{25}/g, `ref ${'x'.repeat(25)}::${'y'.repeat(25)}`)
}

const keyOf = ({ phase, request, answer }: Recording) => `${phase} ${request} ${answer}`

async function inParallel(work: (() => Promise<void>)[]): Promise<void> {
  const left = [...work]
  const lane = async () => {
    for (let next = left.shift(); next; next = left.shift()) await next()
  }
  await Promise.all(Array.from({ length: WIDTH }, lane))
}

const names = argv.length > 2 ? argv.slice(2) : Object.keys(SUBJECTS)
for (const name of names) await record(name)
