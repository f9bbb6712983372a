import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ConveyorServer } from '../../support/processes.ts'
import { buildLog, startWorld, type World } from '../../support/world.ts'

/** What one repository leaves in a cache mount, and who can find it there. */

let world: World
beforeAll(async () => {
  world = await startWorld({ env: { WARM: '0' } })
})
afterAll(() => world[Symbol.asyncDispose]())

let builds = 0
/** Builds a commit that prints what it finds in a cache mount, and then leaves its own name there. */
async function found(server: ConveyorServer, repository: string): Promise<string | undefined> {
  const step = `echo "found: $(cat /root/.npm/who 2>/dev/null)."; echo ${repository} > /root/.npm/who`
  const git = await world.git.create(repository)
  const sha = await git.commit({
    Dockerfile: `FROM conveyor-test/busybox:1\nRUN --mount=type=cache,target=/root/.npm ${step} # ${builds++}\n`,
  })
  const id = await world.push(server, { repository, sha })
  await world.github.waitForStatus((status) => status.sha === sha && status.state === 'success')
  return /\d found: (.*)\.\n/.exec(await buildLog(server, id))?.[1]
}

test('a repository finds its own, even after a restart, and those of its group, but never those of others', async () => {
  const options = { flags: ['--build.network', 'host', '--cache.share', 'mounts/web:team,mounts/site:team'] }
  {
    await using server = await world.startServer(options)
    expect(await found(server, 'mounts/one')).toBe('')
    expect(await found(server, 'mounts/two')).toBe('')
    expect(await found(server, 'mounts/web')).toBe('')
    expect(await found(server, 'mounts/site')).toBe('mounts/web')
  }
  await using server = await world.startServer(options)
  expect(await found(server, 'mounts/one')).toBe('mounts/one')
  expect(await found(server, 'mounts/two')).toBe('mounts/two')
  expect(await found(server, 'mounts/web')).toBe('mounts/site')
})
