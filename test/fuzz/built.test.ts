import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ConveyorServer } from '../support/processes.ts'
import { pushToEnd, startWorld, type World } from '../support/world.ts'
import { Chance } from './generate/chance.ts'
import { ForgedObjects } from './generate/forged-objects.ts'
import { drawTree } from './kinds/tree.ts'
import { MOST_MS } from './run.ts'
import { waited } from './server-child.ts'

const TREES = 8
const BETWEEN_MS = 20

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld()
  server = await world.startServer()
})
afterAll(() => world[Symbol.asyncDispose]())

test('/healthz answers immediately while fuzzed trees are built', async () => {
  const repository = await world.git.create('acme/fuzz')
  const objects = new ForgedObjects(repository.dir)
  const person = ['-c', 'user.name=x', '-c', 'user.email=x@y']
  const states: string[] = []
  let longest = 0
  for (let index = 0; index < TREES; index += 1) {
    const tree = await drawTree(new Chance(`built 1 ${index}`), objects, [])
    const sha = await repository.git(...person, 'commit-tree', '-m', `${index}`, tree.toString('hex'))
    await repository.git('update-ref', 'refs/heads/main', sha)
    let isEnded = false
    const ending = pushToEnd(world, server, { repository: 'acme/fuzz', sha }).finally(() => {
      isEnded = true
    })
    do {
      const { result, ms } = await waited(server.pid, () => fetch(`${server.url}/healthz`))
      expect(result.status).toBe(200)
      longest = Math.max(longest, ms)
      // Otherwise the requests take the processor from the build.
      await sleep(BETWEEN_MS)
    } while (!isEnded)
    states.push((await ending).build.state)
  }
  expect(longest).toBeLessThan(MOST_MS)
  // Some of the trees are valid.
  expect(new Set(states)).toEqual(new Set(['succeeded', 'failed']))
})
