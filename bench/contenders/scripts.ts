import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { startBuildkitd, type TestBuildkitd } from '../../test/support/engines/buildkitd.ts'
import { type PrivateEngine, startPrivateEngine } from '../../test/support/engines/engine.ts'
import { gitEnv } from '../../test/support/git/repository.ts'
import { projectRoot } from '../../test/support/processes.ts'
import { run } from '../support/run.ts'
import { GITHUB_TOKEN, type World } from '../support/world.ts'
import type { Contender, Flow, Push, StartContender } from './contender.ts'
import { markTimes, stepTimes } from './log-times.ts'

/** Debian's own client, if installed: its version matches the engine. */
const DOCKER_BIN = existsSync('/usr/bin/docker') ? '/usr/bin:' : ''

/** A script with its own Docker Engine. */
export function engineScript(name: string): StartContender {
  return async (world) => {
    await using resources = new AsyncDisposableStack()
    const disk = resources.use(await world.newDisk(name))
    const engine: PrivateEngine = resources.use(await startPrivateEngine(join(disk.path, 'engine')))
    const owned = resources.move()
    return {
      name,
      disk,
      image: (repository) => `${name}/${repository}`,
      async chill() {
        await engine.stop()
        await disk.renew()
        await mkdir(join(disk.path, 'engine'))
        await engine.start()
      },
      run: (push) => runScript(world, { name, disk, push, env: { DOCKER_HOST: engine.dockerHost } }),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    }
  }
}

/** buildctl with a standalone buildkitd. */
export const buildctl: StartContender = async (world) => {
  await using resources = new AsyncDisposableStack()
  const name = 'buildctl'
  const disk = resources.use(await world.newDisk(name))
  const dataDir = join(disk.path, 'buildkitd')
  const buildkitd: TestBuildkitd = resources.use(await startBuildkitd({ dataDir }))
  const owned = resources.move()
  const env = {
    BUILDCTL: join(projectRoot, '.conveyor/buildkitd/buildctl'),
    BUILDKIT_HOST: buildkitd.socket,
  }
  return {
    name,
    disk,
    image: (repository) => `${name}/${repository}`,
    async chill() {
      await buildkitd.stop()
      await disk.renew()
      await mkdir(dataDir)
      await buildkitd.start()
    },
    run: (push) => runScript(world, { name, disk, push, env }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Buildah needs no engine. */
export const buildah: StartContender = async (world) => {
  const disk = await world.newDisk('buildah')
  const state = join(disk.path, 'containers')
  await mkdir(state)
  return {
    name: 'buildah',
    disk,
    image: (repository) => `buildah/${repository}`,
    async chill() {
      await disk.renew()
      await mkdir(state)
    },
    // It remembers in /var/lib/containers which layers a registry has, whatever --root says. In a mount
    // namespace of its own, that is on the disk too.
    run: (push) =>
      runScript(world, {
        name: 'buildah',
        disk,
        push,
        env: { STORE: join(disk.path, 'store') },
        inside: [
          ...['unshare', '--mount', '--propagation', 'private', 'sh', '-euc'],
          'mkdir -p /var/lib/containers; mount --bind "$0" /var/lib/containers; exec "$@"',
          state,
        ],
      }),
    [Symbol.asyncDispose]: () => disk[Symbol.asyncDispose](),
  }
}

interface Script extends Pick<Contender, 'name' | 'disk'> {
  push: Push
  env: NodeJS.ProcessEnv
  /** A program that runs the script, with the arguments before it. */
  inside?: string[]
}

async function runScript(world: World, { name, disk, push, env, inside = [] }: Script): Promise<Flow> {
  const contenders = join(projectRoot, 'bench/contenders')
  const clone = join(disk.path, 'clone')
  const home = join(disk.path, 'home')
  await mkdir(join(home, 'tmp'), { recursive: true })
  await rm(clone, { recursive: true, force: true }) // left by a failed run

  const [command = 'sh', ...args] = [
    ...inside,
    ...[
      'sh',
      join(contenders, 'status.sh'),
      `${world.github.url}/repos/${push.repository}/statuses/${push.sha}`,
    ],
    ...[join(contenders, `${name}.sh`), `${world.git.url}/${push.repository}.git`, push.branch, push.sha],
    ...[`${world.registry.host}/${name}/${push.repository}`, clone],
  ]
  const began = performance.now()
  const beganAt = Date.now() / 1000
  const log = await run(command, args, {
    env: {
      ...gitEnv(),
      ...env,
      PATH: `${DOCKER_BIN}${process.env.PATH}`,
      HOME: home,
      TMPDIR: join(home, 'tmp'),
      GITHUB_TOKEN,
    },
  })
  const seconds = (performance.now() - began) / 1000
  await rm(clone, { recursive: true })
  const split = { ...markTimes(log, beganAt, beganAt + seconds), ...stepTimes(log) }
  return { seconds, split, log }
}
