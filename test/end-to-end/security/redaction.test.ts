import { randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ConveyorServer } from '../../support/processes.ts'
import { GITHUB_TOKEN, startWorld, WEBHOOK_SECRET, type World } from '../../support/world.ts'

/** How the secrets that a build prints appear in its own log. */

const PASSWORD = 'password-of-the-api'
const OF_ALL = 'secret-of-all-repositories'
const OWN = 'secret-of-this-repository'
const OTHER = 'secret-of-another-repository'

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld({ env: { BASIC_AUTH: `ci:${PASSWORD}` } })
  await secret('npm', OF_ALL)
  await secret('redacted/own/pip', OWN)
  await secret('redacted/other/pip', OTHER)
  server = await world.startServer()
})
afterAll(() => world[Symbol.asyncDispose]())

async function secret(name: string, content: string): Promise<void> {
  const file = join(world.dataDir, 'secrets', name)
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, `${content}\n`)
}

/** Prints `says` in a build of a repository, and returns its log. */
async function logOf(repository: string, says: string, end = 'true'): Promise<string> {
  const git = await world.git.create(repository)
  // In two halves in the Dockerfile, so that only the output contains them; different in each run, because a cached
  // step prints nothing.
  const words = says.split(' ').map((word) => `"${word.slice(0, 3)}""${word.slice(3)}"`)
  const sha = await git.commit({
    Dockerfile: `FROM conveyor-test/busybox:1\nRUN : ${randomUUID()}; echo said: ${words.join(' ')}; ${end}\n`,
  })
  const id = await world.push(server, { repository, sha })
  await world.github.waitForStatus((status) => status.sha === sha && status.state !== 'pending')
  const answer = await fetch(`${server.url}/logs/${id}`, {
    headers: { authorization: `Basic ${btoa(`ci:${PASSWORD}`)}` },
  })
  expect(answer.status).toBe(200)
  return await answer.text()
}

test('it learns nothing about a secret that it does not get: all candidates look the same', async () => {
  // Another build comes first: what one build was given does not affect the next.
  expect(await logOf('redacted/other', OTHER)).toContain('said: ***\n')
  const candidates = [PASSWORD, WEBHOOK_SECRET, GITHUB_TOKEN, OTHER, 'none-of-them']
  expect(await logOf('redacted/own', candidates.join(' '))).toContain(`said: ${candidates.join(' ')}\n`)
})

test('the secrets that it gets are masked, even if it fails', async () => {
  const log = await logOf('redacted/own2', `${OF_ALL} ${OWN}`, 'false')
  expect(log).toContain(`said: *** ${OWN}\n`)
  await secret('redacted/own3/pip', OWN)
  const both = await logOf('redacted/own3', `${OF_ALL} ${OWN}`, 'false')
  expect(both).toContain('said: *** ***\n')
  expect(both).not.toContain(OWN)
})
