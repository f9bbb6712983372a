import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { ConveyorError } from '../../src/lib/core/errors.ts'
import { guardedConnector } from '../../src/lib/net/addresses.ts'
import { clientWith } from '../support/registry/doubles.ts'
import { pushToEnd, startWorld, type World } from '../support/world.ts'

/** Which addresses are contacted for names in Dockerfiles and for URLs from registries. */

/** A server on this machine that records its clients, and responds as `answer` says. */
async function listen(answer: { status: number; headers?: Record<string, string> } = { status: 404 }) {
  const agents: (string | undefined)[] = []
  const server = createServer(({ headers }, response) => {
    agents.push(headers['user-agent'])
    response.writeHead(answer.status, answer.headers).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, agents }
}

const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => {
      throw new Error('it did not fail')
    },
    (error: ConveyorError) => error,
  )

describe('the address of a connection', () => {
  const ask = async (loopback: boolean, url: string) => {
    const dispatcher = new Agent({ connect: guardedConnector(loopback, 5000) })
    onTestFinished(() => dispatcher.destroy())
    return (await request(url, { dispatcher })).statusCode
  }

  test.each(['127.0.0.1', '127.1', '2130706433', '0x7f000001', '0.0.0.0', 'localhost', '[::ffff:127.0.0.1]'])(
    'http://%s is this machine, which is queried only if allowed',
    async (host) => {
      const { port, agents } = await listen()
      const error = await failure(ask(false, `http://${host}:${port}/`))
      expect(error).toMatchObject({ code: 'ERR_REFUSED_ADDRESS' })
      expect(agents).toHaveLength(0)
      expect(await ask(true, `http://${host}:${port}/`)).toBe(404)
    },
  )

  test.each(['[::1]', '[::]', '[0:0:0:0:0:ffff:7f00:1]'])('http://%s is this machine, too', async (host) => {
    expect(await failure(ask(false, `http://${host}:1/`))).toMatchObject({ code: 'ERR_REFUSED_ADDRESS' })
  })

  test.each([
    '169.254.169.254',
    '2852039166',
    '169.254.1.1',
    '[fe80::1]',
    '[::ffff:169.254.169.254]',
    '[64:ff9b::169.254.169.254]',
    '[fd00:ec2::254]',
    '[fd00:ec2::23]',
    '[fd20:ce::254]',
    '168.63.129.16',
    '100.100.100.200',
    '[::ffff:100.100.100.200]',
    '192.0.0.192',
    '[fd00:c1::a9fe:a9fe]',
    '[fd00:42::42]',
  ])('http://%s is never queried', async (host) => {
    for (const loopback of [true, false]) {
      expect(await failure(ask(loopback, `http://${host}/latest/meta-data/`))).toMatchObject({
        code: 'ERR_REFUSED_ADDRESS',
      })
    }
  })
})

describe('a registry', () => {
  const HINT =
    /^Link-local addresses are blocked, and loopback addresses are allowed for the registry of --registry/

  test('on this machine is queried if it is the configured one', async () => {
    const { port, agents } = await listen()
    const host = `127.0.0.1:${port}`
    const client = clientWith({}, { mayBeLocal: (asked) => asked === host })
    expect(await client.head(`${host}/acme/app`, 'main')).toBeNull()
    const before = agents.length
    for (const other of [`localhost:${port}`, `0.0.0.0:${port}`]) {
      const error = await failure(client.head(`${other}/acme/app`, 'main'))
      expect(error.message).toMatch(/does not respond \(its address \S+ is blocked\)/)
      expect(error.hint).toMatch(HINT)
    }
    expect(agents).toHaveLength(before)
  })

  test.each([301, 307])('that redirects (%d) to a link-local address is not followed', async (status) => {
    const { port } = await listen({ status, headers: { location: 'http://169.254.169.254/latest/' } })
    const error = await failure(clientWith().head(`127.0.0.1:${port}/acme/app`, 'main'))
    expect(error.message).toMatch(/does not respond \(its address 169\.254\.169\.254 is blocked\)/)
  })

  test('whose token server has a link-local address gets no token', async () => {
    const headers = { 'www-authenticate': 'Bearer realm="http://169.254.169.254/token",service="x"' }
    const { port } = await listen({ status: 401, headers })
    const host = `127.0.0.1:${port}`
    const login = { username: 'ada', password: 'secret' }
    const error = await failure(clientWith({ [host]: login }).head(`${host}/acme/app`, 'main'))
    expect(error.message).toMatch(
      /^token server 169\.254\.169\.254 does not respond \(its address \S+ is blocked\)/,
    )
    expect(error.hint).toMatch(HINT)
  })
})

describe('a Dockerfile', () => {
  let world: World
  beforeAll(async () => {
    world = await startWorld()
  })
  afterAll(() => world[Symbol.asyncDispose]())

  test('that names images on this machine: the server queries only the registry', async () => {
    const stray = await listen()
    const git = await world.git.create('acme/inside')
    const sha = await git.commit({
      Dockerfile: `FROM conveyor-test/busybox:1\nCOPY --from=127.0.0.1:${stray.port}/a/b:1 /x /x\nCOPY --from=${world.registry.host}/a/b:1 /x /x\n`,
    })
    const server = await world.startServer()
    const { build } = await pushToEnd(world, server, { repository: 'acme/inside', sha })
    expect(build.state).toBe('failed')
    // BuildKit contacts it from wherever BuildKit runs.
    expect(stray.agents.length).toBeGreaterThan(0)
    expect(stray.agents).not.toContain('conveyor')
  })
})
