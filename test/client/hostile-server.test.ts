import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { getBuild, listBuilds } from '../../src/lib/client/builds.ts'
import { followBuild } from '../../src/lib/client/client.ts'
import { Connection } from '../../src/lib/client/connection.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'

/** What a server that is broken, or somebody else's, makes of the client: one plain error each time. */

let respond: (request: IncomingMessage, response: ServerResponse) => void
const server = createServer((request, response) => respond(request, response))
let url = ''
beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => {
  server.closeAllConnections()
  server.close()
})

const BUILD = {
  ...{ id: '53f6093e-0000-4000-8000-000000000000', repository: 'acme/web', sha: 'a'.repeat(40) },
  ...{ state: 'building', created_at: '2026-01-01T00:00:00.000Z', branch: 'main', tag: null, commit: null },
}

const answer = (value: unknown) => (_: IncomingMessage, response: ServerResponse) => {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
}
const stream = (...events: [string, unknown][]) => {
  const text = events.map(([event, data]) => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`)
  return (_: IncomingMessage, response: ServerResponse) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).end(text.join(''))
  }
}
async function refused(work: (connection: Connection) => Promise<unknown>): Promise<string> {
  await using connection = new Connection(url, null, 5000, {})
  const error = await work(connection).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(ConveyorError)
  return (error as ConveyorError).message
}
const list = (connection: Connection) => listBuilds(connection, { limit: 1000 })

describe('a server that sends something else than builds', () => {
  it.each([
    null,
    [],
    'x',
    { builds: null },
    { builds: [null], next: null },
    { builds: [{}], next: null },
    { builds: [{ ...BUILD, commit: { title: 5 } }], next: null },
    { builds: [{ ...BUILD, id: '\x1b[2J' }], next: null },
  ])('is reported: %j', async (value) => {
    respond = answer(value)
    expect(await refused(list)).toMatch(/^the server did not send a (list of builds|build) as expected$/)
  })

  it('is reported by commands that print an id or an image as it is', async () => {
    respond = answer({ ...BUILD, id: '../\x1b[2J' })
    expect(await refused((connection) => getBuild(connection, '53f6093e'))).toContain('a build')
    for (const events of [
      [['build', null]],
      [
        ['build', BUILD],
        ['log', { offset: 0, bytes: 5 }],
      ],
      [
        ['build', BUILD],
        ['end', { state: 'succeeded', image: 'a@b\n\x1b[2J', error: null }],
      ],
    ] as [string, unknown][][]) {
      respond = stream(...events)
      const request = { repository: 'acme/web', branch: 'main' }
      const message = await refused(() => followBuild({ url, request, onLog: () => {} }))
      expect(message).toContain('as expected')
    }
  })

  it('is left when it never stops: an endless response, and a list that goes in circles', async () => {
    respond = (_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      const spaces = Buffer.alloc(1024 * 1024, ' ')
      const write = () => {
        while (response.write(spaces));
        response.once('drain', write)
      }
      write()
    }
    expect(await refused(list)).toBe('the server sent a response that is too long')
    respond = answer({ builds: [], next: `${url}/builds?cursor=x` })
    expect(await refused(list)).toBe('the server sent the same page again')
  })

  it('has its problem shown whatever its hint is', async () => {
    respond = (_, response) => {
      response.writeHead(404, { 'content-type': 'application/json' })
      response.end(JSON.stringify({ id: 'not_found', message: 'no\x1b[2J\nbuild', hint: { a: 1 } }))
    }
    expect(await refused(list)).toBe('no [2J build')
  })
})

it('a list of many pages uses one connection without collecting listeners', async () => {
  const warnings: Error[] = []
  const onWarning = (warning: Error) => warnings.push(warning)
  process.on('warning', onWarning)
  respond = ({ url: path }, response) => {
    const page = Number(new URL(path ?? '', url).searchParams.get('cursor') ?? 0)
    answer({ builds: [BUILD], next: page < 30 ? `${url}/builds?cursor=${page + 1}` : null })(
      undefined as never,
      response,
    )
  }
  await using connection = new Connection(url, null, 5000, {})
  expect(await list(connection)).toHaveLength(31)
  await new Promise(setImmediate)
  process.off('warning', onWarning)
  expect(warnings).toEqual([])
})
