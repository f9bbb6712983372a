import { createHmac, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { Agent, request } from 'node:http'
import { pushPayload } from '../support/github/push.ts'
import { type ConveyorServer, startConveyor } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'
import type { WebhookInput } from './generate/webhook-bodies.ts'
import { MOST_MEMORY, MOST_MS } from './run.ts'

const SECRET = 'the-secret-of-the-fuzz'

export interface Answer {
  status: number
  body: string
}

/** `conveyor server` in a separate process, with the default store and queue. */
export class ServerChild implements AsyncDisposable {
  readonly #server: ConveyorServer
  readonly #resources: AsyncDisposableStack
  readonly #agent = new Agent({ keepAlive: true })
  #longest = 0
  #accepted = 0
  #memory = 0

  private constructor(server: ConveyorServer, resources: AsyncDisposableStack) {
    this.#server = server
    this.#resources = resources
  }

  static async start(): Promise<ServerChild> {
    await using resources = new AsyncDisposableStack()
    const { path } = resources.use(await tempDir('conveyor-fuzz-'))
    // No GitHub, git server, registry or engine is reachable, so every build fails.
    const unreachable = 'http://127.0.0.1:1'
    const env = {
      ...{
        PORT: '0',
        HOST: '127.0.0.1',
        DATA_DIR: path,
        DOCKER_CONFIG: path,
        DOCKER_HOST: 'tcp://127.0.0.1:1',
      },
      ...{
        GITHUB_SECRET: SECRET,
        GITHUB_TOKEN: 'none',
        GITHUB_URL: unreachable,
        GIT_URL: `${unreachable}/{repository}.git`,
      },
      ...{ REGISTRY: unreachable, WORKERS: '1', ALLOW: 'acme/*' },
    }
    const server = await startConveyor(['server'], { env })
    resources.defer(async () => void (await server.kill()))
    return new ServerChild(server, resources.move())
  }

  webhook({ event, delivery, contentType, body }: WebhookInput): Promise<Answer> {
    return this.ask('POST', '/webhooks/github', body, {
      'x-github-event': event,
      'x-github-delivery': delivery,
      'x-hub-signature-256': `sha256=${createHmac('sha256', SECRET).update(body).digest('hex')}`,
      ...(contentType === undefined ? {} : { 'content-type': contentType }),
    })
  }

  /** @param cutAt offset in the body at which the connection is closed */
  ask(
    method: string,
    path: string,
    body: Buffer | null,
    headers: Record<string, string>,
    cutAt?: number,
  ): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    const length = body ? { 'content-length': body.length } : {}
    const options = { method, headers: { ...headers, ...length }, agent: this.#agent }
    const sent = request(`${this.#server.url}${path}`, options, (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (piece: string) => {
        text += piece
      })
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: text })).on('error', reject)
    })
    sent.on('error', (error) => (cutAt === undefined ? reject(error) : resolve({ status: 0, body: '' })))
    if (cutAt === undefined) sent.end(body ?? undefined)
    else sent.write((body ?? Buffer.alloc(0)).subarray(0, cutAt), () => sent.destroy())
    return promise
  }

  /** Checks that other requests are answered quickly and an ordinary push is accepted. Null if so, else the problem. */
  async problem(): Promise<string | null> {
    const health = await this.timed(() => this.ask('GET', '/healthz', null, {}))
    if (health.status !== 200) return `/healthz answered ${health.status}`
    const sha = randomUUID().replaceAll('-', '').padEnd(40, '0')
    const push = await pushPayload({ repository: 'acme/ordinary', ref: 'refs/heads/main', sha })
    const body = Buffer.from(JSON.stringify(push))
    const input = { event: 'push', delivery: randomUUID(), contentType: 'application/json', body }
    const answer = await this.timed(() => this.webhook(input))
    if (answer.status !== 202) return `an ordinary webhook got ${answer.status}: ${answer.body}`
    this.#accepted += 1
    const status = await readFile(`/proc/${this.#server.pid}/status`, 'utf8')
    this.#memory = Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) * 1024
    if (this.#memory > MOST_MEMORY) return `the server used ${mib(this.#memory)} of memory`
    return this.#longest > MOST_MS ? `a request waited for ${Math.round(this.#longest)} ms` : null
  }

  /** Runs a request of another client, and records how long it waited. */
  async timed<T>(work: () => Promise<T>): Promise<T> {
    const { result, ms } = await waited(this.#server.pid, work)
    this.#longest = Math.max(this.#longest, ms)
    return result
  }

  figures(): string {
    return `(server: ${this.#accepted} ordinary webhooks, longest wait ${Math.round(this.#longest)} ms, ${mib(this.#memory)})`
  }

  /** Unexpected lines in the server's output. */
  complaints(): string[] {
    return this.#server
      .stderr()
      .split('\n')
      .filter((line) => /Warning:|^\s+at .+[:(]|Unhandled|Uncaught/.test(line))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#agent.destroy()
    await this.#resources.disposeAsync()
  }
}

/**
 * How long a request has to wait for a server's event loop, in milliseconds: at most its duration, and at most the CPU
 * time of the loop meanwhile. Time in which a process waits for a CPU does not count.
 */
export async function waited<T>(pid: number, work: () => Promise<T>): Promise<{ result: T; ms: number }> {
  const [begun, ours, theirs] = [performance.now(), scheduled('self'), scheduled(pid)]
  const result = await work()
  const [ended, oursNow, theirsNow] = [performance.now(), scheduled('self'), scheduled(pid)]
  const wall = ended - begun - (oursNow.queued - ours.queued) - (theirsNow.queued - theirs.queued)
  return { result, ms: Math.min(wall, theirsNow.computed - theirs.computed) }
}

/** CPU time of a process's main thread, and the time that it waited for a CPU, in milliseconds. */
function scheduled(pid: number | 'self'): { computed: number; queued: number } {
  // Synchronously: the thread pool's own wait for a CPU is not in these figures.
  const text = readFileSync(`/proc/${pid}/schedstat`, 'utf8')
  const [computed = 0, queued = 0] = text.split(' ').map((ns) => Number(ns) / 1e6)
  return { computed, queued }
}

function mib(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`
}
