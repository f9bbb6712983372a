import { createHmac, randomUUID } from 'node:crypto'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { startPrivateEngine } from '../test/support/engines/engine.ts'
import { pushPayload } from '../test/support/github/push.ts'
import type { ConveyorServer } from '../test/support/processes.ts'
import { percentile } from './report/stats.ts'
import { say } from './support/run.ts'
import { inEngine, startServer } from './support/server.ts'
import { GITHUB_SECRET, startWorld, type World } from './support/world.ts'

export interface BurstResult {
  webhooks: number
  connections: number
  /** How many got 202. */
  accepted: number
  /** How many of those the server still had after a SIGKILL and a restart. */
  kept: number
  perSecond: number
  /** Milliseconds from a request to its response. */
  p50: number
  p99: number
  max: number
}

const WEBHOOKS = 1000
const CONNECTIONS = 64
const REPOSITORY = 'acme/burst'

/** Sends many signed pushes at once to a server that is building, kills it, and counts what it kept. */
export async function measureBurst(world: World): Promise<BurstResult> {
  await using resources = new AsyncDisposableStack()
  const disk = resources.use(await world.newDisk('burst'))
  const engine = resources.use(await startPrivateEngine(join(disk.path, 'engine')))
  const place = { ...inEngine(engine, '--workers', '1'), dataDir: join(disk.path, 'data'), prefix: 'burst' }
  const server = resources.use(await startServer(world, place))
  await beginLongBuild(world, server)

  const text = JSON.stringify(
    await pushPayload({ repository: REPOSITORY, ref: 'refs/heads/main', sha: SAMPLE }),
  )
  const bodies = Array.from({ length: WEBHOOKS }, (_, i) => {
    const sha = i.toString(16).padStart(40, 'a')
    return { sha, body: text.replaceAll(SAMPLE, sha) }
  })
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })
  const answers: { sha: string; id: string | null; ms: number }[] = []
  const began = performance.now()
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async () => {
      for (let next = bodies.pop(); next; next = bodies.pop()) {
        const sent = performance.now()
        const id = await deliver(agent, server.url, next.body)
        answers.push({ sha: next.sha, id, ms: performance.now() - sent })
      }
    }),
  )
  const seconds = (performance.now() - began) / 1000
  agent.destroy()

  await server.kill('SIGKILL')
  const accepted = answers.filter(({ id }) => id !== null)
  const again = resources.use(await startServer(world, place))
  let kept = 0
  for (const { sha, id } of accepted) {
    const answer = await fetch(`${again.url}/builds/${id}`, { headers: { accept: 'application/json' } })
    const build = (await answer.json()) as { sha?: string }
    if (answer.status === 200 && build.sha === sha) kept += 1
  }
  await again.kill('SIGKILL')

  const times = answers.map(({ ms }) => ms)
  return {
    webhooks: WEBHOOKS,
    connections: CONNECTIONS,
    accepted: accepted.length,
    kept,
    perSecond: accepted.length / seconds,
    p50: percentile(times, 50),
    p99: percentile(times, 99),
    max: percentile(times, 100),
  }
}

/** Placeholder for the commit ids in the sample payload. */
const SAMPLE = 'f'.repeat(40)

/** Starts a build that keeps the only worker busy and keeps writing to its log. */
async function beginLongBuild(world: World, server: ConveyorServer): Promise<void> {
  const git = await world.git.create(REPOSITORY)
  const sha = await git.commit({
    Dockerfile: `FROM ${world.baseImage}\nRUN for i in $(seq 3000); do echo line $i; sleep 0.1; done\n`,
  })
  const payload = await pushPayload({ repository: REPOSITORY, ref: 'refs/heads/main', sha })
  const agent = new Agent()
  const id = await deliver(agent, server.url, JSON.stringify(payload))
  if (id === null) throw new Error('the push was not accepted')
  await server.waitFor(/ line 10\n/, 120_000)
}

/** @returns the id of the build, or null if the webhook was not accepted */
function deliver(agent: Agent, url: string, body: string): Promise<string | null> {
  const signature = createHmac('sha256', GITHUB_SECRET).update(body).digest('hex')
  return new Promise((resolve, reject) => {
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'x-github-delivery': randomUUID(),
      'x-github-event': 'push',
      'x-hub-signature-256': `sha256=${signature}`,
    }
    const sent = request(url, { agent, method: 'POST', headers }, (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (piece: string) => {
        text += piece
      })
      answer.once('error', reject)
      answer.once('end', () => {
        resolve(answer.statusCode === 202 ? (JSON.parse(text) as { id: string }).id : null)
      })
    })
    sent.once('error', reject)
    sent.end(body)
  })
}

/** For the terminal. */
export function burstLines(result: BurstResult): string[] {
  const { webhooks, accepted, kept, perSecond, p50, p99, max, connections } = result
  return [
    `${webhooks} webhooks over ${connections} connections while a build runs: ${accepted} accepted, ${kept} still there after SIGKILL`,
    `${perSecond.toFixed(0)} a second, p50 ${p50.toFixed(0)} ms, p99 ${p99.toFixed(0)} ms, max ${max.toFixed(0)} ms`,
  ]
}

if (import.meta.main) {
  await using world = await startWorld()
  burstLines(await measureBurst(world)).map(say)
}
