import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, open, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import Docker from 'dockerode'
import {
  basicEnv,
  isRunning,
  killProcess,
  lastLines,
  projectRoot,
  type Running,
  start,
} from '../processes.ts'

/** A Docker Engine that responds. */
export interface Engine extends AsyncDisposable {
  /** In the form of DOCKER_HOST, `unix:///...`. */
  readonly dockerHost: string
  /** Whether it was started here (and is stopped when disposed), or belongs to the machine. */
  readonly own: boolean
  /** The network that RUN steps and containers need: null for the engine's default. */
  readonly network: string | null
}

/** An engine that was started here. Its socket stays the same across `stop` and `start`. */
export interface PrivateEngine extends Engine {
  /** Process id of its dockerd. */
  readonly pid: number
  /** Ends it and waits until dockerd, its containerd and its mounts are gone. SIGKILL after 15 s. */
  stop(signal?: NodeJS.Signals): Promise<void>
  /** Starts it again on the same data. */
  start(): Promise<void>
}

const DEFAULT_HOST = 'unix:///var/run/docker.sock'
/** Exit status of flock(1) if the data folder is in use. */
const BUSY = 75

/** A client of an engine. */
export function docker(engine: Pick<Engine, 'dockerHost'>): Docker {
  const socketPath = /^unix:\/\/(.+)$/.exec(engine.dockerHost)?.[1]
  // Anything but a socket comes from DOCKER_HOST, which dockerode reads itself, including its TLS settings.
  return socketPath ? new Docker({ socketPath }) : new Docker()
}

/**
 * The engine at DOCKER_HOST or the default socket, if one responds. Otherwise a private one, whose data stays in
 * `.conveyor/engine` between runs; if another run uses that folder, in a temporary one.
 */
export async function startEngine(): Promise<Engine> {
  const machines = await findEngine()
  if (machines) return machines
  const kept = await tryPrivateEngine(join(projectRoot, '.conveyor/engine'))
  if (kept) return kept
  const folder = await mkdtemp(join(tmpdir(), 'conveyor-engine-data-'))
  return startPrivateEngine(folder, { removeData: true })
}

/** The machine's own engine; null if none responds. */
export async function findEngine(): Promise<Engine | null> {
  const dockerHost = process.env.DOCKER_HOST || DEFAULT_HOST
  if (!(await answers({ dockerHost }))) return null
  const networks = await docker({ dockerHost }).listNetworks()
  // An engine without a bridge cannot give RUN steps their own network.
  const bridged = networks.some(({ Driver }) => Driver !== 'host' && Driver !== 'null')
  return { dockerHost, own: false, network: bridged ? null : 'host', async [Symbol.asyncDispose]() {} }
}

export interface PrivateEngineOptions {
  /** Removes the data folder when disposed. */
  removeData?: boolean
  /** A program with arguments that execs dockerd: nsenter, for an engine in another network. */
  within?: string[]
  /** More flags of dockerd. */
  flags?: string[]
  /** Its daemon.json, for settings without a flag. */
  config?: Record<string, unknown>
}

/**
 * Starts an engine independent of any other. It has no bridge network and does not touch firewall rules.
 * @param dataDir kept by default; its layers belong to root
 */
export async function startPrivateEngine(
  dataDir: string,
  options: PrivateEngineOptions = {},
): Promise<PrivateEngine> {
  const engine = await tryPrivateEngine(dataDir, options)
  if (!engine) throw new Error(`another engine is using ${dataDir}`)
  return engine
}

/** Like startPrivateEngine, but null if another engine uses the folder. */
async function tryPrivateEngine(
  dataDir: string,
  options: PrivateEngineOptions = {},
): Promise<PrivateEngine | null> {
  if (process.getuid?.() !== 0) {
    throw new Error(
      'no Docker Engine answers, and starting a private one needs root. ' +
        'Start Docker, set DOCKER_HOST, or run this as root',
    )
  }
  await mkdir(dataDir, { recursive: true })
  const data = await realpath(dataDir)
  // Socket paths are limited to about 100 characters, so sockets are not in the data folder.
  const runDir = await mkdtemp(join(await realpath(tmpdir()), 'conveyor-engine-'))
  const dockerHost = `unix://${runDir}/docker.sock`

  let dockerd: Running | null = null
  try {
    dockerd = await launch(data, runDir, options)
    if (dockerd) await removeLeftovers(data, runDir)
  } finally {
    if (!dockerd) await rm(runDir, { recursive: true, force: true })
  }
  if (!dockerd) return null

  const engine: PrivateEngine = {
    dockerHost,
    own: true,
    network: 'host',
    get pid() {
      return dockerd?.pid ?? -1
    },
    async stop(signal = 'SIGTERM') {
      if (dockerd) await shutDown(dockerd, data, runDir, signal)
      dockerd = null
    },
    async start() {
      dockerd ??= await launch(data, runDir, options)
      if (!dockerd) throw new Error(`another engine is using ${data}`)
    },
    async [Symbol.asyncDispose]() {
      await engine.stop()
      await rm(runDir, { recursive: true, force: true })
      if (options.removeData) await rm(data, { recursive: true, force: true })
    },
  }
  return engine
}

/** Starts dockerd and waits until it responds; null if another one has locked the data folder. */
async function launch(
  data: string,
  runDir: string,
  { within = [], flags = [], config: settings = {} }: PrivateEngineOptions,
): Promise<Running | null> {
  const logFile = join(data, 'dockerd.log')
  const config = join(runDir, 'daemon.json')
  // The machine's own /etc/docker/daemon.json must not apply.
  await writeFile(config, JSON.stringify(settings))
  await rm(join(runDir, 'pid'), { force: true })
  // Containers and, in newer engines, images are in a containerd namespace, and containerd may be shared.
  const namespace = `conveyor-${createHash('sha256').update(data).digest('hex').slice(0, 12)}`

  const log = await open(logFile, 'a')
  const { size } = await log.stat()
  // Each helper execs the next program, so there is no process in between: flock holds the data folder as long as
  // dockerd lives, and setpriv ends dockerd if we are killed, so nothing is left behind.
  const dockerd = await start(
    'flock',
    [
      ...['--no-fork', '--timeout', '5', '--conflict-exit-code', String(BUSY), join(data, 'lock')],
      ...['setpriv', '--pdeathsig', 'TERM', ...within, 'dockerd'],
      ...['--config-file', config, '--host', `unix://${runDir}/docker.sock`],
      ...['--data-root', join(data, 'data'), '--exec-root', join(runDir, 'exec')],
      ...['--pidfile', join(runDir, 'pid')],
      ...['--containerd-namespace', namespace, '--containerd-plugins-namespace', `${namespace}-plugins`],
      ...['--bridge=none', '--iptables=false', '--ip6tables=false', ...flags],
    ],
    { env: { ...process.env, ...basicEnv() }, stdio: ['ignore', log.fd, log.fd], detached: true },
  ).finally(() => log.close())

  let exit: number | null | undefined
  void dockerd.exited.then(({ code }) => {
    exit = code
  })
  const deadline = performance.now() + 60_000
  while (!(await answers({ dockerHost: `unix://${runDir}/docker.sock` }))) {
    if (exit === BUSY) return null
    if (exit !== undefined || performance.now() > deadline) {
      await shutDown(dockerd, data, runDir, 'SIGTERM')
      const written = (await readFile(logFile)).subarray(size).toString()
      const why = exit === undefined ? 'does not answer' : `ended with status ${exit}`
      throw new Error(`the private Docker Engine ${why}. The end of ${logFile}:\n${lastLines(written)}`)
    }
    await delay(50)
  }
  return dockerd
}

async function shutDown(
  dockerd: Running,
  data: string,
  runDir: string,
  signal: NodeJS.Signals,
): Promise<void> {
  const containerd = await readPid(join(runDir, 'exec/containerd/containerd.pid'))
  await dockerd.kill(signal)
  // The kernel ends it with dockerd at the latest; only then is its data free for the next engine.
  while (containerd !== null && (await isRunning(containerd))) await delay(20)
  await unmountUnder(runDir)
  await unmountUnder(data)
  await killContainers(data)
  await killShims(join(runDir, 'exec'))
  await rm(join(runDir, 'exec'), { recursive: true, force: true })
}

/** The ids of all running processes. Linux only. */
async function processes(): Promise<number[]> {
  return (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
}

/** Ends containerd's shims of the containers, which would wait for a containerd that was killed. */
async function killShims(execRoot: string): Promise<void> {
  for (const pid of await processes()) {
    // A process that has ended in the meantime has no command line to read.
    const args = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')
    const address = args[args.indexOf('-address') + 1] ?? ''
    if (!args[0]?.includes('containerd-shim') || !address.startsWith(`${execRoot}/`)) continue
    await killProcess(pid)
  }
}

/** Ends the RUN steps that an engine may leave running when it exits. @param data the engine's folder */
export async function killContainers(data: string): Promise<void> {
  for (const pid of await processes()) {
    // A process that has ended in the meantime has no mounts to read.
    const mounts = await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '')
    const root = mounts.split('\n').find((line) => line.split(' ')[4] === '/')
    if (!root?.includes(`${data}/`)) continue
    await killProcess(pid)
  }
}

/** Removes what an earlier engine on the same data left behind, and records where we run. */
async function removeLeftovers(data: string, runDir: string): Promise<void> {
  await killContainers(data)
  const note = join(data, 'run-dir')
  const before = await readFile(note, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return ''
    throw error
  })
  if (before !== '') {
    await unmountUnder(before)
    await rm(before, { recursive: true, force: true })
  }
  await writeFile(note, runDir)
}

async function unmountUnder(folder: string): Promise<void> {
  const mounts = await readFile('/proc/self/mounts', 'utf8')
  const points = mounts
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((point) => point.startsWith(`${folder}/`))
  for (const point of points.reverse()) {
    await using umount = await start('umount', ['--lazy', point])
    const { code } = await umount.exited
    if (code !== 0) throw new Error(`umount ${point}: ${umount.stderr()}`)
  }
}

async function readPid(file: string): Promise<number | null> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return text === '' ? null : Number(text)
}

async function answers(engine: Pick<Engine, 'dockerHost'>): Promise<boolean> {
  const client = docker(engine)
  try {
    const late = delay(3_000, null, { ref: false }).then(() => Promise.reject(new Error('no answer')))
    await Promise.race([client.ping(), late])
    return true
  } catch {
    return false
  }
}
