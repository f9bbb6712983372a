import { createHmac, randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { type ClientRequest, request } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { pushPayload } from '../support/github/push.ts'
import { type Stranger, startStranger } from '../support/network/stranger.ts'
import { type ConveyorServer, startConveyor } from '../support/processes.ts'
import { sha, startTestServer } from '../support/test-server.ts'
import { startWorld, WEBHOOK_SECRET, type World } from '../support/world.ts'

/** How much memory clients without the webhook's secret can make a server use. */

const MB = 1024 * 1024
const SPACES = Buffer.alloc(25 * MB, 0x20)
const FORGED = `sha256=${'0'.repeat(64)}`

interface Flood {
  sent: ClientRequest
  /** The status of the response; null until it comes. */
  status: number | null
}

/** Begins a webhook with an invalid signature that never ends. */
function begin(url: string, size: number): Flood {
  const headers = {
    ...{ 'content-type': 'application/json', 'content-length': size, 'x-hub-signature-256': FORGED },
    ...{ 'x-github-event': 'push', 'x-github-delivery': randomUUID() },
  }
  const flood: Flood = { sent: request(`${url}/`, { method: 'POST', headers, agent: false }), status: null }
  flood.sent.on('response', (answer) => {
    flood.status = answer.statusCode ?? 0
    answer.resume()
  })
  flood.sent.on('error', () => {
    flood.status ??= 0
  })
  flood.sent.write(SPACES.subarray(0, size - 1))
  return flood
}

/** A correctly signed push, about this many bytes larger than usual. */
async function push(url: string, more = 0): Promise<{ status: number; body: string }> {
  const message = 'x'.repeat(more / 2)
  const facts = { repository: 'acme/app', ref: 'refs/heads/main', sha: sha('a'), message }
  const body = JSON.stringify(await pushPayload(facts))
  const signature = createHmac('sha256', WEBHOOK_SECRET).update(body).digest('hex')
  const answer = await fetch(url, {
    method: 'POST',
    body,
    headers: {
      ...{ 'content-type': 'application/json', 'x-hub-signature-256': `sha256=${signature}` },
      ...{ 'x-github-event': 'push', 'x-github-delivery': randomUUID() },
    },
  })
  return { status: answer.status, body: await answer.text() }
}

describe('forged webhooks', () => {
  let world: World
  let server: ConveyorServer
  let stranger: Stranger
  beforeAll(async () => {
    ;[world, stranger] = await Promise.all([startWorld(), startStranger()])
    server = await startConveyor(['server'], {
      env: { ...world.env, HOST: '0.0.0.0' },
      ready: /http:\/\/localhost:\d+/,
    })
  })
  afterAll(async () => {
    await server.kill()
    await stranger[Symbol.asyncDispose]()
    await world[Symbol.asyncDispose]()
  })

  /** The server's peak memory, in bytes. */
  const peak = async () => {
    const status = await readFile(`/proc/${server.pid}/status`, 'utf8')
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) * 1024
  }

  test('120 unfinished ones of 25 MB use little memory, and block neither small nor large ones', async () => {
    const port = new URL(server.url).port
    const local = `http://127.0.0.1:${port}`
    const floods = Array.from({ length: 120 }, () => begin(local, 25 * MB))
    // Those that fit wait for their last byte, for 30 s; all others are rejected for lack of room.
    await expect.poll(() => floods.filter(({ status }) => status !== null).length).toBeGreaterThanOrEqual(115)
    expect(floods.filter(({ status }) => status === null || status === 408).length).toBeGreaterThan(0)

    // Concurrent ones may have kept each other out, which leaves room for one more.
    const large = async () => {
      floods.push(begin(local, 25 * MB))
      return (await push(local, 20 * MB)).status
    }
    await expect.poll(large).toBe(503)
    expect((await push(local)).status).toBe(202)
    expect((await push(`http://${stranger.address}:${port}`, 20 * MB)).status).toBe(202)
    expect((await fetch(`${local}/healthz`)).status).toBe(200)
    expect(await peak()).toBeLessThan(400 * MB)

    for (const { sent } of floods) sent.destroy()
    await expect.poll(async () => (await push(local, 20 * MB)).status).toBe(202)
    expect(await readdir(join(world.dataDir, 'spool'))).toEqual([])
  })

  test('thousands of small ones do not either', async () => {
    const local = `http://127.0.0.1:${new URL(server.url).port}`
    const floods = Array.from({ length: 1000 }, () => begin(local, 200 * 1024))
    await expect.poll(() => floods.filter(({ status }) => status !== null).length).toBeGreaterThan(800)
    expect((await fetch(`${local}/healthz`)).status).toBe(200)
    expect(await peak()).toBeLessThan(400 * MB)
    for (const { sent } of floods) sent.destroy()
    await expect.poll(async () => (await push(local)).status).toBe(202)
  })
})

test('a body that never arrives times out', async () => {
  await using server = await startTestServer({ githubSecret: WEBHOOK_SECRET, arrivalMs: 1000 })
  for (const size of [100, MB]) {
    let flood = begin(server.url, size)
    // On a busy machine the connection may be closed while it is still sending.
    const status = () => {
      if (flood.status === 0) flood = begin(server.url, size)
      return flood.status
    }
    await expect.poll(status).toBe(408)
  }
  expect(server.lines).toEqual([])
})

test('large concurrent webhooks are all accepted', async () => {
  await using server = await startTestServer({ githubSecret: WEBHOOK_SECRET })
  const answers = await Promise.all(Array.from({ length: 4 }, () => push(server.url, 20 * MB)))
  expect(answers.map(({ status }) => status)).toEqual([202, 202, 202, 202])
})
