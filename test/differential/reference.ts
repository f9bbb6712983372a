import { execFile } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { docker, type Engine } from '../support/engines/engine.ts'
import { freePort, projectRoot } from '../support/processes.ts'
import { type Image, registryImage, savedImage } from './image/image.ts'

/** How a build by the reference ended. */
export type ReferenceOutcome = { image: Image } | { error: string } | typeof UNABLE

/** The reference is none here: its client and its engine could not even speak with each other, or needed the internet. */
export const UNABLE = 'unable'

/** Docker's own client with an engine, or a BuildKit, that nobody else uses. */
export interface Reference {
  /** Builds a folder with everything that is in it. */
  build(folder: string): Promise<ReferenceOutcome>
}

const run = promisify(execFile)
/** A reference that hangs is no reference. */
const LIMIT_MS = 120_000
const BUILDCTL = join(projectRoot, '.conveyor/buildkitd/buildctl')

/** `docker build` with BuildKit. @param client a docker of the engine's generation */
export function dockerReference(engine: Engine, client: string): Reference {
  let builds = 0
  return {
    async build(folder) {
      const name = `reference:${builds++}`
      const args = [
        'build',
        '--quiet',
        ...(engine.network ? ['--network', engine.network] : []),
        '--tag',
        name,
        folder,
      ]
      const failure = await failureOf(client, args, folder, {
        DOCKER_BUILDKIT: '1',
        DOCKER_HOST: engine.dockerHost,
      })
      if (failure !== null) return isUnable(failure) ? UNABLE : { error: failure }
      return { image: await savedFrom(engine, name) }
    },
  }
}

/** Takes an image out of an engine. */
async function savedFrom(engine: Engine, name: string): Promise<Image> {
  const image = docker(engine).getImage(name)
  const saved = await buffer(await image.get())
  await image.remove()
  return savedImage(saved)
}

/**
 * `buildctl build`, which is what `docker build` has become: the folder goes to BuildKit in the same way, and
 * the same Dockerfile frontend reads it.
 * @param address of the BuildKit, `unix:///...`
 * @param registry where images go, `127.0.0.1:PORT`
 */
export function buildctlReference(address: string, registry: string): Reference {
  let builds = 0
  return {
    async build(folder) {
      const name = `${registry}/reference:${process.pid}-${builds++}`
      const output = `type=image,name=${name},push=true,registry.insecure=true,compression=uncompressed,store=false`
      return (await buildctl(address, folder, output)) ?? { image: await registryImage(name) }
    },
  }
}

/** The same without caches, with an engine that keeps images itself. @param door of the engine */
export function buildctlEngineReference(engine: Engine, door: Door): Reference {
  let builds = 0
  return {
    async build(folder) {
      const name = `docker.io/library/reference:new-${builds++}`
      const failed = await buildctl(door.address, folder, `type=moby,name=${name}`, ['--no-cache'])
      return failed ?? { image: await savedFrom(engine, name) }
    },
  }
}

/** Null when it was built. */
async function buildctl(
  address: string,
  folder: string,
  output: string,
  more: readonly string[] = [],
): Promise<Exclude<ReferenceOutcome, { image: Image }> | null> {
  const failure = await failureOf(
    BUILDCTL,
    [
      ...['--addr', address, 'build', '--progress', 'plain', '--frontend', 'dockerfile.v0'],
      ...['--local', `context=${folder}`, '--local', `dockerfile=${folder}`],
      ...['--opt', 'force-network-mode=host', '--allow', 'network.host', '--output', output],
      ...(await dockerfileOf(folder)),
      ...more,
    ],
    folder,
  )
  if (failure === null) return null
  if (isUnable(failure)) return UNABLE
  if (!failure.includes('failed to solve')) throw new Error(`the reference did not come to build: ${failure}`)
  return { error: failure }
}

/** As `docker build` tells it (buildx, handleLowercaseDockerfile): it decides which ignore file is read, too. */
async function dockerfileOf(folder: string): Promise<string[]> {
  const names = await readdir(folder)
  return names.includes('Dockerfile') || !names.includes('dockerfile') ? [] : ['--opt', 'filename=dockerfile']
}

/**
 * Paths with control characters break the headers that they travel in; errors that are no UTF-8 end the connection
 * instead of being told.
 */
function isUnable(failure: string): boolean {
  return /terminated by RST_STREAM|contains value with non-printable|registry-1\.docker\.io/.test(failure)
}

/** Has a BuildKit forget all that it has cached. @param address `unix:///...` */
export async function pruneBuildkit(address: string): Promise<void> {
  await run(BUILDCTL, ['--addr', address, 'prune', '--all'], { maxBuffer: 1 << 26 })
}

/** What a program printed when it failed; null when it did not. */
async function failureOf(
  program: string,
  args: string[],
  folder: string,
  env: NodeJS.ProcessEnv = {},
): Promise<string | null> {
  // Clients write files of their own there.
  const path = { PATH: process.env.PATH, HOME: dirname(folder) }
  try {
    await run(program, args, { env: { ...path, ...env }, timeout: LIMIT_MS, maxBuffer: 1 << 24 })
    return null
  } catch (error) {
    const { killed, stderr, message } = error as Error & { killed?: boolean; stderr?: string }
    if (killed) throw new Error(`${program} ${args.join(' ')} did not end: ${message}`)
    return stderr || message
  }
}

/** Where a BuildKit inside an engine listens for clients like buildctl. */
export interface Door extends AsyncDisposable {
  /** `tcp://127.0.0.1:PORT` */
  readonly address: string
}

/** Opens a port on which the BuildKit of an engine speaks gRPC right away, as a standalone one does. */
export async function openDoor(engine: Pick<Engine, 'dockerHost'>): Promise<Door> {
  const path = engine.dockerHost.replace(/^unix:\/\//, '')
  const open = new Set<Socket>()
  const server = createServer((client) => {
    const inside = connect(path)
    for (const [one, other] of [
      [client, inside],
      [inside, client],
    ] as const) {
      open.add(one)
      one.on('error', () => other.destroy())
      one.on('close', () => {
        other.destroy()
        open.delete(one)
      })
    }
    inside.write('POST /grpc HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n')
    let head = Buffer.alloc(0)
    const onHead = (chunk: Buffer) => {
      head = Buffer.concat([head, chunk])
      const end = head.indexOf('\r\n\r\n')
      if (end < 0) return
      inside.off('data', onHead)
      client.write(head.subarray(end + 4))
      inside.pipe(client)
      // Not before: what comes with the request is lost when the engine takes the connection over.
      client.pipe(inside)
    }
    inside.on('data', onHead)
  })
  const port = await freePort()
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  return {
    address: `tcp://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** A `docker` whose version is the engine's, major and minor: newer ones speak otherwise with BuildKit. */
export async function clientOf(engine: Engine): Promise<string> {
  const { Version } = await docker(engine).version()
  const wanted = Version.split('.').slice(0, 2).join('.')
  for (const folder of (process.env.PATH ?? '').split(':')) {
    const program = join(folder, 'docker')
    const { stdout } = await run(program, ['--version']).catch(() => ({ stdout: '' }))
    if (stdout.includes(` ${wanted}.`)) return program
  }
  throw new Error(`no docker ${wanted} in PATH: the reference of an engine ${Version} needs a client like it`)
}
