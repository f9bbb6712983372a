import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream/promises'

/** A step that waits at a gate. */
interface Visit {
  /** Resolves when it stops waiting: it was let through, or its process is gone. */
  gone: Promise<void>
}

/** A place where RUN steps wait until a test lets them continue, so that no test has to rely on timing. */
export interface Gate extends AsyncDisposable {
  /** A shell command that waits here, and fails if the gate is disposed. Unique each time, so never cached. */
  command(): string
  /** The next one that arrives; each is answered once. */
  arrival(): Promise<Visit>
  /** Lets through all that wait now or arrive later. */
  open(): void
}

/** Needs RUN steps in the network of the host (`--build.network host`). */
export async function startGate(): Promise<Gate> {
  const arrivals = new Arrivals<Visit>()
  const opened = Promise.withResolvers<void>()
  const server = createServer((_request, response) => {
    arrivals.add({ gone: closed(response) })
    void opened.promise.then(() => response.end('go on\n'))
  })
  const port = await listen(server)
  return {
    command: () => `wget -q -O /dev/null http://127.0.0.1:${port}/${randomUUID()}`,
    arrival: () => arrivals.next(),
    open: opened.resolve,
    [Symbol.asyncDispose]: () => close(server),
  }
}

interface Held extends Visit {
  method: string
  url: string
}

/** A proxy in front of a registry that can hold or fail requests. */
export interface RegistryFront extends AsyncDisposable {
  /** `127.0.0.1:PORT`, for `--registry`. */
  readonly host: string
  /** Every request so far, as `PUT /v2/acme/web/manifests/main`. */
  readonly requests: string[]
  /** Every tag that was moved so far, in order. */
  readonly tagged: { repository: string; tag: string; digest: string }[]
  /** Holds every matching request from now on. `arrival` resolves with the next one, `release` lets all continue. */
  hold(pattern: RegExp): { arrival(): Promise<Held>; release(): void }
  /** Answers every matching request with this status from now on; null ends it. */
  fail(pattern: RegExp, status: number | null): void
}

export async function startRegistryFront(registryHost: string): Promise<RegistryFront> {
  const [host, port] = registryHost.split(':')
  const requests: string[] = []
  const tagged: RegistryFront['tagged'] = []
  const holds = new Set<{ pattern: RegExp; arrivals: Arrivals<Held>; released: Promise<void> }>()
  const failures = new Map<string, { pattern: RegExp; status: number }>()

  async function handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = incoming
    const line = `${method} ${url}`
    requests.push(line)
    const gone = closed(response)
    for (const { pattern, arrivals, released } of holds) {
      if (!pattern.test(line)) continue
      arrivals.add({ method, url, gone })
      await Promise.race([released, gone])
    }
    if (response.destroyed) return
    const failure = [...failures.values()].find(({ pattern }) => pattern.test(line))
    if (failure) {
      incoming.resume()
      response.writeHead(failure.status).end()
      return
    }
    const onward = request({ host, port, method, path: url, headers })
    const answered = once(onward, 'response') as Promise<[IncomingMessage]>
    answered.catch(() => {}) // awaited below, unless the request itself breaks first
    await pipeline(incoming, onward)
    const [answer] = await answered
    const [, repository, tag] = /^PUT \/v2\/(.+)\/manifests\/([^:]+)$/.exec(line) ?? []
    if (repository && tag && answer.statusCode === 201) {
      tagged.push({ repository, tag, digest: String(answer.headers['docker-content-digest']) })
    }
    response.writeHead(answer.statusCode ?? 502, answer.headers)
    await pipeline(answer, response)
  }
  // A connection that breaks on one side is reset on the other, as when a registry dies.
  const server = createServer((incoming, response) => {
    handle(incoming, response).catch(() => response.destroy())
  })
  const own = await listen(server)

  return {
    host: `127.0.0.1:${own}`,
    requests,
    tagged,
    hold(pattern) {
      const released = Promise.withResolvers<void>()
      const arrivals = new Arrivals<Held>()
      const entry = { pattern, arrivals, released: released.promise }
      holds.add(entry)
      const release = () => {
        holds.delete(entry)
        released.resolve()
      }
      return { arrival: () => arrivals.next(), release }
    },
    fail(pattern, status) {
      if (status === null) failures.delete(pattern.source)
      else failures.set(pattern.source, { pattern, status })
    },
    [Symbol.asyncDispose]: () => close(server),
  }
}

/** A queue of values and of waiting receivers; each value goes to one receiver. */
class Arrivals<T> {
  readonly #values: T[] = []
  readonly #waiting: ((value: T) => void)[] = []

  add(value: T): void {
    const first = this.#waiting.shift()
    if (first) first(value)
    else this.#values.push(value)
  }

  next(): Promise<T> {
    const value = this.#values.shift()
    return value === undefined
      ? new Promise((resolve) => this.#waiting.push(resolve))
      : Promise.resolve(value)
  }
}

function closed(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => response.once('close', resolve))
}

async function listen(server: ReturnType<typeof createServer>): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return (server.address() as AddressInfo).port
}

async function close(server: ReturnType<typeof createServer>): Promise<void> {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
}
