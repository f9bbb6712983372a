import { expect, test } from 'vitest'
import { startTestServer } from '../support/test-server.ts'

test('a server that is shutting down answers as the API says, and begins nothing', async () => {
  await using server = await startTestServer()
  const answers: unknown[] = []
  server.onClosing(async () => {
    for (const path of ['/healthz', '/readyz', '/builds', '/nothing']) {
      const answer = await fetch(server.url + path)
      answers.push([answer.status, answer.headers.get('connection'), await answer.json()])
    }
    const body = JSON.stringify({ repository: 'acme/app', sha: 'a'.repeat(40) })
    const headers = { 'content-type': 'application/json' }
    answers.push((await fetch(`${server.url}/builds`, { method: 'POST', headers, body })).status)
    answers.push(await (await fetch(`${server.url}/builds`, { headers: { accept: 'text/html' } })).text())
  })
  await server.stop()
  const problem = { id: 'unavailable', message: 'the server is shutting down' }
  expect(answers).toEqual([
    ...Array.from({ length: 4 }, () => [503, 'close', problem]),
    503,
    expect.stringContaining('the server is shutting down'),
  ])
  expect((await server.store.list({}, { limit: 1 })).builds).toEqual([])
})
