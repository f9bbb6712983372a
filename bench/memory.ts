import { readFile } from 'node:fs/promises'
import { get } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { startPrivateEngine } from '../test/support/engines/engine.ts'
import { type GitRepository, gitEnv } from '../test/support/git/repository.ts'
import { sendPush } from '../test/support/github/push.ts'
import { type ConveyorServer, start } from '../test/support/processes.ts'
import { say } from './support/run.ts'
import { inEngine, startServer } from './support/server.ts'
import { GITHUB_SECRET, startWorld, type World } from './support/world.ts'
import { noise } from './workload/content.ts'

/** Resident memory of the server process in MB (1,000,000 bytes): at its highest, but for `idle`. */
export interface MemoryResult {
  idle: number
  /** While a build writes a log that readers follow. */
  log: { peak: number; readers: number; logMB: number; readMB: number }
  /** With a large file in the context that no step copies, and with one that a step copies. */
  context: { fileMB: number; notCopied: number; copied: number }
}

const READERS = 50
const LOG_BYTES = 200e6
const FILE_BYTES = 2 * 2 ** 30

/** Measures each case with a new server, so that none is affected by the memory of an earlier build. */
export async function measureMemory(world: World): Promise<MemoryResult> {
  // By default, an engine clips the output of a step at 2 MiB. (Old ones treat -1 as a limit, too.)
  process.env.BUILDKIT_STEP_LOG_MAX_SIZE = '2000000000'
  process.env.BUILDKIT_STEP_LOG_MAX_SPEED = '2000000000'
  await using resources = new AsyncDisposableStack()
  const disk = resources.use(await world.newDisk('memory'))
  const engine = resources.use(await startPrivateEngine(join(disk.path, 'engine')))
  const withServer = async <T>(name: string, use: (server: ConveyorServer) => Promise<T>) => {
    const dataDir = join(disk.path, name)
    // The stdout logger would print 200 MB, which this process would have to keep.
    const flags = ['--logger', `file://${join(dataDir, 'logs')}`, '--timeout', '10m']
    const place = { ...inEngine(engine, ...flags), dataDir, prefix: 'memory' }
    await using server = await startServer(world, place)
    return await use(server)
  }

  const idle = await withServer('idle', async (server) => {
    await delay(5000)
    return memoryOf(server, 'VmRSS')
  })
  const log = await withServer('log', (server) => followedLog(world, server))
  const huge = await HugeFile.create(world)
  const notCopied = await withServer('not-copied', (server) => huge.peak(server, 'COPY small .'))
  const copied = await withServer('copied', (server) => huge.peak(server, 'COPY . .'))
  return { idle, log, context: { fileMB: FILE_BYTES / 1e6, notCopied, copied } }
}

async function followedLog(world: World, server: ConveyorServer): Promise<MemoryResult['log']> {
  const repository = 'acme/log'
  const git = await world.git.create(repository)
  const line = 'All work and no play makes a build a long one, and its log longer than anybody reads. '
  const sha = await git.commit({
    // The start waits for the readers. The pauses are for Docker 20.10, which never ends a step that writes
    // some 10 MB at once and is not clipped.
    Dockerfile: `FROM ${world.baseImage}\nRUN sleep 2; for i in $(seq ${LOG_BYTES / 1e6}); do yes '${line}' | head -c 1000000; sleep 0.1; done\n`,
  })
  const id = await push(server, repository, sha)
  const sizes = await Promise.all(Array.from({ length: READERS }, () => readAll(`${server.url}/logs/${id}`)))
  await succeeded(world, sha)
  const shortest = Math.min(...sizes)
  if (shortest < LOG_BYTES) throw new Error(`a reader got ${shortest} bytes of a log of ${LOG_BYTES}`)
  const readMB = sizes.reduce((sum, size) => sum + size, 0) / 1e6
  return { peak: await memoryOf(server, 'VmHWM'), readers: READERS, logMB: shortest / 1e6, readMB }
}

/** Reads a whole response, and resolves to its size. */
function readAll(url: string): Promise<number> {
  return new Promise((resolve, reject) => {
    get(url, { agent: false }, (answer) => {
      let size = 0
      answer.on('data', (piece: Buffer) => {
        size += piece.length
      })
      answer.once('error', reject)
      answer.once('end', () => resolve(size))
    }).once('error', reject)
  })
}

/** A repository with one file that must not be held in memory. */
class HugeFile {
  readonly #world: World
  readonly #git: GitRepository

  private constructor(world: World, git: GitRepository) {
    this.#world = world
    this.#git = git
  }

  static async create(world: World): Promise<HugeFile> {
    const git = await world.git.create('acme/huge')
    // Most of it is zeros, so that packing it takes seconds and not minutes.
    const importer = await start(
      'git',
      ['-C', git.dir, '-c', 'core.compression=1', 'fast-import', '--quiet'],
      {
        env: gitEnv(),
        stdio: 'pipe',
      },
    )
    const { stdin } = importer.child
    const who = 'Ada Example <ada@example.com> 1704067200 +0000'
    stdin?.write(`commit refs/heads/main\nauthor ${who}\ncommitter ${who}\ndata 0\n`)
    stdin?.write(`M 100644 inline huge.bin\ndata ${FILE_BYTES}\n`)
    const piece = Buffer.alloc(2 ** 20)
    for (let at = 0; at < FILE_BYTES; at += piece.length) {
      noise(`huge ${at}`, 2 ** 15).copy(piece)
      if (!stdin?.write(Buffer.from(piece))) await new Promise((resolve) => stdin?.once('drain', resolve))
    }
    stdin?.end('\n')
    const { code } = await importer.exited
    if (code !== 0) throw new Error(`git fast-import of ${git.dir}: ${importer.stderr()}`)
    return new HugeFile(world, git)
  }

  /** Builds it with this COPY step, and resolves to the server's peak. */
  async peak(server: ConveyorServer, copy: string): Promise<number> {
    const Dockerfile = `FROM ${this.#world.baseImage}\nWORKDIR /app\n${copy}\n`
    const sha = await this.#git.commit({ Dockerfile, small: copy })
    await push(server, 'acme/huge', sha)
    await succeeded(this.#world, sha)
    return memoryOf(server, 'VmHWM')
  }
}

/** Sends a webhook and resolves to the id of its build. */
async function push(server: ConveyorServer, repository: string, sha: string): Promise<string> {
  const answer = await sendPush({
    ...{ url: server.url, secret: GITHUB_SECRET },
    ...{ repository, ref: 'refs/heads/main', sha },
  })
  if (answer.status !== 202) throw new Error(`the push got ${answer.status}: ${answer.body}`)
  return (JSON.parse(answer.body) as { id: string }).id
}

async function succeeded(world: World, sha: string): Promise<void> {
  const isFinal = (status: { sha: string; state: string }) => status.sha === sha && status.state !== 'pending'
  const { state, description } = await world.github.waitForStatus(isFinal, 900_000)
  if (state !== 'success') throw new Error(`the build of ${sha} ended in ${state}: ${description}`)
}

/** A line of /proc/PID/status, in MB. VmHWM is the highest that VmRSS ever was. */
async function memoryOf(server: ConveyorServer, name: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${server.pid}/status`, 'utf8')
  const kilobytes = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]
  if (kilobytes === undefined) throw new Error(`/proc/${server.pid}/status has no ${name}`)
  return (Number(kilobytes) * 1024) / 1e6
}

/** For the terminal. */
export function memoryLines({ idle, log, context }: MemoryResult): string[] {
  const mb = (number: number) => `${number.toFixed(0)} MB`
  return [
    `server, idle: ${mb(idle)}`,
    `peak while ${log.readers} readers follow a log of ${mb(log.logMB)} (${mb(log.readMB)} in all): ${mb(log.peak)}`,
    `peak with a file of ${mb(context.fileMB)} in the context: ${mb(context.notCopied)} not copied, ${mb(context.copied)} copied`,
  ]
}

if (import.meta.main) {
  await using world = await startWorld()
  memoryLines(await measureMemory(world)).map(say)
}
