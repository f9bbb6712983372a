import { cp, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { startBuildkitd } from '../../test/support/engines/buildkitd.ts'
import { startPrivateEngine } from '../../test/support/engines/engine.ts'
import { pushPayload, sendWebhook } from '../../test/support/github/push.ts'
import { tempDir } from '../../test/support/temp.ts'
import { startTrixieEngine } from '../../test/support/trixie.ts'
import { readLog } from '../support/read-log.ts'
import { inEngine, type Settings, startServer } from '../support/server.ts'
import { tagged } from '../support/tags.ts'
import { GITHUB_SECRET, type World } from '../support/world.ts'
import type { Contender, Flow, Push, StartContender } from './contender.ts'
import { hasSummary, phaseTimes, stepTimes } from './log-times.ts'

/** On Debian 12's engine, with the classic image store. */
export const conveyor = conveyorOn('conveyor', async (dir) => {
  const engine = await startPrivateEngine(dir)
  return Object.assign(engine, { settings: inEngine(engine) })
})

/** On Docker 26.1 with containerd's image store, as new installations of Docker have it. */
export const conveyorContainerd = conveyorOn('conveyor-containerd', async (dir) => {
  const engine = await startTrixieEngine({ store: 'containerd', dataDir: dir })
  return Object.assign(engine, { settings: inEngine(engine) })
})

/** On the same buildkitd as buildctl. */
export const conveyorBuildkit = conveyorOn('conveyor-buildkit', (dir) => onBuildkitd(dir))

/** The same, but without exporting the cache to the registry. */
export const conveyorWithoutCache = conveyorOn('conveyor-buildkit-no-cache', (dir) =>
  onBuildkitd(dir, '--cache.export', 'none'),
)

async function onBuildkitd(dir: string, ...more: string[]): Promise<Machine> {
  const buildkitd = await startBuildkitd({ dataDir: dir })
  const flags = ['--builder', 'buildkit', '--buildkit.addr', buildkitd.socket, '--build.network', 'host']
  return Object.assign(buildkitd, { settings: { flags: [...flags, ...more] } })
}

/** An engine or buildkitd, with a folder that may be emptied while it is stopped. */
interface Machine extends AsyncDisposable {
  settings: Settings
  stop(): Promise<void>
  start(): Promise<void>
}

/** `conveyor server` with its own machine. */
function conveyorOn(name: string, startMachine: (dir: string) => Promise<Machine>): StartContender {
  return (world) => start(world, name, startMachine)
}

async function start(
  world: World,
  name: string,
  startMachine: (dir: string) => Promise<Machine>,
): Promise<Contender> {
  await using resources = new AsyncDisposableStack()
  const disk = resources.use(await world.newDisk(name))
  const machineDir = join(disk.path, 'engine')
  const dataDir = join(disk.path, 'data')
  const mirrors = join(dataDir, 'mirrors')
  const machine = resources.use(await startMachine(machineDir))
  const { settings } = machine
  let server = await startServer(world, { ...settings, dataDir, prefix: name })
  resources.defer(async () => void (await server.kill()))
  const owned = resources.move()

  const image = (repository: string) => `${name}/${repository}`
  return {
    name,
    disk,
    image,
    async chill(chill) {
      await server.kill()
      await machine.stop()
      await using service = await tempDir()
      if (chill !== 'new') {
        await cp(dataDir, service.path, { recursive: true, filter: (path) => path !== mirrors })
      }
      await disk.renew()
      await cp(service.path, dataDir, { recursive: true })
      await mkdir(machineDir)
      await machine.start()
      const flags = [...settings.flags, ...(chill === 'warmed' ? [] : ['--warm', '0'])]
      server = await startServer(world, { ...settings, flags, dataDir, prefix: name })
      if (chill === 'warmed') await server.waitFor(/warm: .* is ready/, 120_000)
    },
    run: (push) => measure(world, server.url, push, image(push.repository)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/**
 * From just before the webhook is sent until the final status has arrived and the tags exist. Follows the log
 * meanwhile, as a user who waits for the build would.
 */
async function measure(world: World, url: string, push: Push, image: string): Promise<Flow> {
  const tree = await world.git.treeOf(push.repository, push.sha)
  // As GitHub sends it. If all pushes had the same second, each would be compared with the head of the branch.
  const pushedAt = Math.floor(Date.now() / 1000)
  const payload = await pushPayload({ ...push, tree, ref: `refs/heads/${push.branch}`, pushedAt })
  const tags = [push.sha, push.branch, 'latest']

  const began = performance.now()
  const seconds = () => (performance.now() - began) / 1000
  const answer = await sendWebhook({ url, secret: GITHUB_SECRET, event: 'push', payload })
  const accepted = seconds()
  if (answer.status !== 202) throw new Error(`the webhook got ${answer.status}: ${answer.body}`)
  const { id } = JSON.parse(answer.body) as { id: string }

  let firstByte: number | undefined
  let summary: number | undefined
  const log = readLog(`${url}/logs/${id}`, (text) => {
    firstByte ??= seconds()
    if (hasSummary(text)) summary ??= seconds()
  })
  const final = await world.github.waitForStatus(
    (status) => status.state !== 'pending' && status.target_url?.endsWith(`/${id}`) === true,
    600_000,
  )
  let ended = seconds()
  // The tags are published before the status is sent; otherwise, the clock keeps running.
  while (final.state === 'success' && !(await tagged(world, image, tags))) ended = seconds()

  const text = await log
  if (final.state !== 'success') throw new Error(`${final.state}: ${final.description}\n${text.slice(-2000)}`)
  return {
    seconds: ended,
    log: text,
    split: {
      webhook: accepted,
      'first byte': (firstByte ?? Number.NaN) - accepted,
      ...phaseTimes(text),
      // The engine's own share of the phases above, which it reports in tenths of seconds.
      ...stepTimes(text),
      'status sent': ended - (summary ?? Number.NaN),
    },
  }
}
