import { randomBytes, randomInt } from 'node:crypto'
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import type Docker from 'dockerode'
import { ensureBaseImages } from '../images/base-images.ts'
import { type BuilderImage, makeBuilderImage } from '../images/builder-images.ts'
import { killProcess, start } from '../processes.ts'
import { tempDir } from '../temp.ts'
import { docker as dockerOf, type PrivateEngine, startPrivateEngine } from './engine.ts'

/** A machine of a Swarm: a Docker Engine in its own network namespace. */
export interface SwarmNode {
  /** Its host name, as `docker node ls` shows it. */
  readonly name: string
  /** The node's id in the Swarm. */
  readonly id: string
  readonly docker: Docker
  /** Killed with `stop('SIGKILL')`; its network outlives it. */
  readonly engine: PrivateEngine
  /** Unplugs its network cable: it is unreachable, but keeps running. */
  cutOff(): Promise<void>
  /** Puts the cable back. */
  reconnect(): Promise<void>
}

/** A real Docker Swarm on this machine: engines in network namespaces, joined by a bridge. */
export interface TestSwarm extends AsyncDisposable {
  readonly manager: SwarmNode
  readonly worker: SwarmNode
  readonly nodes: readonly SwarmNode[]
  /** This machine's address in the nodes' network: they can reach servers listening here, even without TLS. */
  readonly address: string
  /** Sets the interval between heartbeats of a node, initially 5 s: a node that misses three of them is down. */
  setHeartbeat(seconds: number): Promise<void>
  /** Changes labels, or whether the node accepts builds: `active`, `pause`, `drain`. */
  change(node: SwarmNode, what: { Labels?: Record<string, string>; Availability?: string }): Promise<void>
  /** Makes a builder image on every node. */
  makeImage(name: string, image: BuilderImage): Promise<void>
}

const PORT = 2377

/** Starts a Swarm of a manager and a worker, both of which run tasks and have the base images. Needs root. */
export async function startSwarm(): Promise<TestSwarm> {
  await using resources = new AsyncDisposableStack()
  const folder = resources.use(await tempDir('conveyor-swarm-'))
  const id = randomBytes(4).toString('hex')
  const subnet = freeSubnet()

  const bridge = `cv${id}`
  await ip('link', 'add', bridge, 'type', 'bridge')
  resources.defer(() => ip('link', 'del', bridge))
  await ip('addr', 'add', `${subnet}.1/24`, 'dev', bridge)
  await ip('link', 'set', bridge, 'up')

  const machine = async (name: string, host: number) => {
    const dir = join(folder.path, name)
    await mkdir(dir)
    return resources.use(await startMachine(`${name}-${id}`, { dir, bridge, subnet, host }))
  }
  const [one, two] = [await machine('one', 2), await machine('two', 3)]
  await one.docker.swarmInit({
    ListenAddr: `${one.address}:${PORT}`,
    AdvertiseAddr: one.address,
  })
  const { JoinTokens } = await one.docker.swarmInspect()
  await two.docker.swarmJoin({
    ListenAddr: `${two.address}:${PORT}`,
    AdvertiseAddr: two.address,
    RemoteAddrs: [`${one.address}:${PORT}`],
    JoinToken: JoinTokens.Worker,
  })
  const [manager, worker] = [await nodeOf(one), await nodeOf(two)]
  const nodes = [manager, worker]
  for (const node of nodes) await ensureBaseImages(node.docker)

  const owned = resources.move()
  return {
    manager,
    worker,
    nodes,
    address: `${subnet}.1`,
    setHeartbeat: (seconds) =>
      repeated(async () => {
        const { Version, Spec } = await manager.docker.swarmInspect()
        const Dispatcher = { HeartbeatPeriod: seconds * 1e9 }
        await manager.docker.swarmUpdate({ version: Version.Index, ...Spec, Dispatcher })
      }),
    change: (node, what) =>
      repeated(async () => {
        const its = manager.docker.getNode(node.id)
        const { Version, Spec } = await its.inspect()
        await its.update({ version: Version.Index, ...Spec, ...what })
      }),
    async makeImage(name, image) {
      for (const node of nodes) await makeBuilderImage(node.docker, name, image)
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Reads a version and updates it, again if the manager has made a change of its own in between: it answers 500 then. */
async function repeated(update: () => Promise<void>): Promise<void> {
  for (let left = 9; ; left--) {
    try {
      return await update()
    } catch (error) {
      if ((error as { statusCode?: number }).statusCode !== 500 || left === 0) throw error
    }
  }
}

interface Machine extends Omit<SwarmNode, 'id'>, AsyncDisposable {
  readonly address: string
}

/** An engine in a new network namespace, with a cable to the bridge. */
async function startMachine(
  name: string,
  { dir, bridge, subnet, host }: { dir: string; bridge: string; subnet: string; host: number },
): Promise<Machine> {
  await using resources = new AsyncDisposableStack()
  // The namespace exists as long as this mount, and removes the cable when it goes.
  const namespace = join(dir, 'net')
  await writeFile(namespace, '')
  await run('unshare', `--net=${namespace}`, 'true')
  resources.defer(async () => {
    await killInside(namespace)
    await run('umount', namespace)
  })
  const inside = (...command: string[]) => run('nsenter', `--net=${namespace}`, ...command)

  const address = `${subnet}.${host}`
  const cable = `${bridge}-${host}`
  await ip('link', 'add', cable, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
  await ip('link', 'set', cable, 'master', bridge, 'up')
  await inside('ip', 'addr', 'add', `${address}/24`, 'dev', 'eth0')
  await inside('ip', 'link', 'set', 'eth0', 'up')
  await inside('ip', 'link', 'set', 'lo', 'up')

  const engine = await startPrivateEngine(join(dir, 'engine'), {
    removeData: true,
    // Only the network and the host name are separate: `ip netns exec` would remount /sys without its cgroups.
    within: [
      ...['nsenter', `--net=${namespace}`, 'unshare', '--uts'],
      ...['sh', '-c', 'hostname "$0" && exec "$@"', name],
    ],
    flags: ['--insecure-registry', `${subnet}.0/24`],
  })
  resources.use(engine)
  const owned = resources.move()
  return {
    name,
    address,
    docker: dockerOf(engine),
    engine,
    cutOff: () => ip('link', 'set', cable, 'down'),
    reconnect: () => ip('link', 'set', cable, 'up'),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

async function nodeOf(machine: Machine): Promise<SwarmNode> {
  const { Swarm } = await machine.docker.info()
  return { ...machine, id: Swarm.NodeID }
}

/** Kills the containers and shims that a killed engine left in its network. */
async function killInside(namespace: string): Promise<void> {
  const { ino } = await stat(namespace)
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)) {
    // A process that has exited in the meantime has no network.
    const its = await stat(`/proc/${pid}/ns/net`).catch(() => null)
    if (its?.ino !== ino) continue
    await killProcess(pid)
  }
}

/** The first three numbers of a /24 network that this machine is not part of. */
function freeSubnet(): string {
  const taken = Object.values(networkInterfaces()).flatMap((one) => one?.map(({ address }) => address) ?? [])
  for (;;) {
    const subnet = `10.${randomInt(128, 255)}.${randomInt(0, 256)}`
    if (!taken.some((address) => address.startsWith(`${subnet}.`))) return subnet
  }
}

const ip = (...args: string[]) => run('ip', ...args)

async function run(command: string, ...args: string[]): Promise<void> {
  await using program = await start(command, args)
  const { code } = await program.exited
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${program.stderr() || program.stdout()}`)
}
