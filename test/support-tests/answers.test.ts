import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { expect, it } from 'vitest'
import { checkAnswers, type Recorded } from '../support/openapi/started-servers.ts'
import { basicEnv, projectRoot, start } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'

it('checks what a started server responds against the description that it serves', async () => {
  await using data = await tempDir()
  const args = [
    'server',
    '--port=0',
    '--host=127.0.0.1',
    `--data-dir=${data.path}`,
    '--registry=localhost:5000',
  ]
  const options = `--import=${projectRoot}test/support/openapi/record-answers.ts`
  await using server = await start(`${projectRoot}bin/run.js`, args, {
    env: { ...basicEnv(), NODE_OPTIONS: options, DOCKER_HOST: 'unix:///nowhere' },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  })
  const lines: string[] = []
  const recorded = createInterface({ input: server.child.stdio[3] as Readable })
  recorded.on('line', (line) => lines.push(line))
  const [url] = await server.waitFor(/http:\/\/127\.0\.0\.1:\d+/)
  expect((await fetch(`${url}/healthz`)).status).toBe(200)
  expect((await fetch(`${url}/builds`)).status).toBe(200)
  await server.kill()
  await expect.poll(() => lines.length).toBe(3)

  const violationsIn = async (records: string[]) => {
    const output = Readable.from(`${records.join('\n')}\n{"cut off`)
    const violations: string[] = []
    checkAnswers({ stdio: [null, null, null, output] } as unknown as ChildProcess, violations)
    await finished(output)
    return violations
  }
  expect(await violationsIn(lines)).toEqual([])
  const [first = '', ...answers] = lines
  const described = JSON.parse(first) as Extract<Recorded, { document: unknown }>
  const { get } = described.document.paths['/builds'] as { get: { responses: Record<string, unknown> } }
  delete get.responses[200]
  expect(await violationsIn([JSON.stringify(described), ...answers])).toEqual([
    'GET /builds -> 200: undocumented status',
  ])
})
