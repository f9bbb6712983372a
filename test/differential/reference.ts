import { execFile } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { docker, type Engine } from '../support/engines/engine.ts'
import { freePort, projectRoot } from '../support/processes.ts'
import { type Image, registryImage, savedImage } from './image/image.ts'

/** The result of a build by the reference. */
export type ReferenceOutcome = { image: Image } | { error: string } | typeof UNABLE

/** The reference cannot build this: its client and engine could not communicate, or needed the internet. */
export const UNABLE = 'unable'

/** Docker's own client with a dedicated engine or BuildKit. */
export interface Reference {
  /** Builds a folder with everything that is in it. */
  build(folder: string): Promise<ReferenceOutcome>
}

const run = promisify(execFile)
/** A reference build that takes longer is an error. */
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

/** Exports an image from an engine. */
async function savedFrom(engine: Engine, name: string): Promise<Image> {
  const image = docker(engine).getImage(name)
  const saved = await buffer(await image.get())
  await image.remove()
  return savedImage(saved)
}

/**
 * `buildctl build`, which does what current versions of `docker build` do: it sends the folder to BuildKit in the same
 * way, and uses the same Dockerfile frontend.
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

/** Null if the build succeeded. */
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
  if (!failure.includes('failed to solve')) throw new Error(`the reference build did not start: ${failure}`)
  return { error: failure }
}

/** As `docker build` does (buildx, handleLowercaseDockerfile); this also selects the ignore file. */
async function dockerfileOf(folder: string): Promise<string[]> {
  const names = await readdir(folder)
  return names.includes('Dockerfile') || !names.includes('dockerfile') ? [] : ['--opt', 'filename=dockerfile']
}

/**
 * Paths with control characters break the headers that contain them; errors that are not UTF-8 close the connection
 * instead of being reported.
 */
function isUnable(failure: string): boolean {
  return /terminated by RST_STREAM|contains value with non-printable|registry-1\.docker\.io/.test(failure)
}

/** Deletes the cache of a BuildKit. @param address `unix:///...` */
export async function pruneBuildkit(address: string): Promise<void> {
  await run(BUILDCTL, ['--addr', address, 'prune', '--all'], { maxBuffer: 1 << 26 })
}

/** The output of a program that failed; null if it succeeded. */
async function failureOf(
  program: string,
  args: string[],
  folder: string,
  env: NodeJS.ProcessEnv = {},
): Promise<string | null> {
  // Clients write files there.
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

/** Opens a port that serves the gRPC API of an engine's BuildKit directly, as a standalone one does. */
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
      // Not earlier: bytes that arrive with the request are lost when the engine hijacks the connection.
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

/** A `docker` with the engine's major and minor version: newer ones talk to BuildKit differently. */
export async function clientOf(engine: Engine): Promise<string> {
  const { Version } = await docker(engine).version()
  const wanted = Version.split('.').slice(0, 2).join('.')
  for (const folder of (process.env.PATH ?? '').split(':')) {
    const program = join(folder, 'docker')
    const { stdout } = await run(program, ['--version']).catch(() => ({ stdout: '' }))
    if (stdout.includes(` ${wanted}.`)) return program
  }
  throw new Error(
    `no docker ${wanted} in PATH: the reference needs a client of the version of its engine, ${Version}`,
  )
}
