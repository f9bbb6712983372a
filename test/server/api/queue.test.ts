import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { QueueJson, WorkersJson } from '../../../src/lib/api/fleet.ts'
import { identityWith } from '../../../src/lib/server/access/identity.ts'
import { readQueue, readWorkers } from '../../../src/lib/server/api/queue.ts'
import { sha, startTestServer, type TestServer } from '../../support/test-server.ts'

let server: TestServer
beforeEach(async () => {
  server = await startTestServer()
})
afterEach(() => server[Symbol.asyncDispose]())

const WORKER = {
  ...{ id: 'w', host: 'h', pid: 1, version: '1', slots: 1 },
  ...{ builds: [] as string[], warm: ['acme/app', 'other/b'], startedAt: '2030-01-02T03:00:00.000Z' },
}

async function get<T>(path: string): Promise<T> {
  return (await (await fetch(server.url + path)).json()) as T
}

async function order(digit: string) {
  const body = JSON.stringify({ repository: 'acme/app', sha: sha(digit) })
  const answer = await fetch(`${server.url}/builds`, {
    method: 'POST',
    body,
    headers: { accept: 'application/json' },
  })
  return (await answer.json()) as { id: string }
}

describe('GET /queue', () => {
  it('says what waits, for how long, and for what', async () => {
    expect(await get('/queue')).toEqual({
      pending: 0,
      building: 0,
      workers: 0,
      slots: 0,
      builds: [],
      next: null,
    })
    const first = await order('a')
    const waits = async () => (await get<QueueJson>('/queue')).builds.map(({ waits_for }) => waits_for)
    expect(await waits()).toEqual(['worker'])

    await server.store.workers.seen(WORKER)
    await order('b')
    expect(await waits()).toEqual(['start', 'slot'])

    const claimed = await server.store.claim(first.id)
    expect(await waits()).toEqual(['slot'])
    await server.store.release(first.id, claimed?.attempt ?? 0, { retryIn: 60 })
    const { builds, ...totals } = await get<QueueJson>('/queue')
    expect(totals).toEqual({ pending: 2, building: 0, workers: 1, slots: 1, next: null })
    expect(builds[0]).toMatchObject({ build: { id: first.id }, position: 1, waits_for: 'retry' })
    expect(builds[0]?.waiting_seconds).toBeGreaterThan(0)
    expect(Date.parse(builds[0]?.retry_at ?? '')).toBeGreaterThan(Date.now())
  })

  it('names the parameter that is invalid', async () => {
    for (const [field, value] of [
      ['limit', '0'],
      ['limit', '101'],
      ['limit', 'x'],
      ['cursor', 'x'],
    ]) {
      const answer = await fetch(`${server.url}/queue?${field}=${value}`)
      expect([field, value, answer.status]).toEqual([field, value, 400])
      expect(await answer.json()).toMatchObject({
        id: 'invalid',
        field,
        message: expect.stringContaining(`${field} `),
      })
    }
  })
})

describe('GET /workers', () => {
  it('shows who runs what', async () => {
    const { id } = await server.begin(sha('a'))
    await server.store.workers.seen({ ...WORKER, builds: [id] })
    const { workers } = await get<WorkersJson>('/workers')
    expect(workers).toEqual([
      {
        ...{ id: 'w', host: 'h', pid: 1, version: '1', slots: 1, builds: [id], warm: WORKER.warm },
        ...{ started_at: WORKER.startedAt, seen_at: expect.any(String) },
      },
    ])
  })

  it('hides repositories that the reader may not see', async () => {
    const { id } = await server.begin(sha('a'))
    await server.store.workers.seen({ ...WORKER, builds: [id] })
    const reader = { ...identityWith('other', 'read'), repositories: ['other/*'] }
    const { workers } = await readWorkers(server.store, reader)
    expect(workers[0]).toMatchObject({ builds: [], warm: ['other/b'] })
    await order('b')
    const queue = await readQueue(server.store, reader, { limit: 10, baseUrl: server.url })
    expect(queue).toMatchObject({ pending: 1, builds: [] })
  })
})
