import { access, mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Certificates, makeCertificates, type TlsFiles } from '../network/certificates.ts'
import { freePort, projectRoot, type Running, start } from '../processes.ts'
import { insideTrixie } from '../trixie.ts'
import { killContainers } from './engine.ts'

export interface BuildkitdOptions {
  /** Where its cache is kept. Default: a temporary folder, removed when disposed. */
  dataDir?: string
  /** The authority of its farm, for clients that use several daemons. Default: its own. */
  certificates?: Certificates
  /** A registry, `127.0.0.1:PORT`, whose images stand in for those of Docker Hub. */
  hub?: string
  /** Uses this machine's root file system, which has a git, instead of trixie's. */
  withGit?: boolean
  /** More flags: `['--oci-max-parallelism', '1']`. */
  flags?: string[]
}

/** A standalone BuildKit daemon. Its addresses stay the same over `stop` and `start`. */
export interface TestBuildkitd extends AsyncDisposable {
  /** `unix:///...`, which requires no certificate. */
  readonly socket: string
  /** `tcp://127.0.0.1:PORT`, for clients with a certificate of its authority. */
  readonly address: string
  /** What a client needs to connect to it. */
  readonly tls: TlsFiles
  readonly pid: number
  /** Ends it and everything that it runs. SIGKILL after 15 s. */
  stop(signal?: NodeJS.Signals): Promise<void>
  /** Starts it again on the same data. */
  start(): Promise<void>
}

/** Created by `bin/setup.sh test` with buildkitd-make.sh. */
const FOLDER = join(projectRoot, '.conveyor/buildkitd')

/**
 * Starts a buildkitd (0.13) with its own runc worker and without images: FROM requires a registry, which it reaches on
 * 127.0.0.1 without TLS. RUN steps use this machine's network. Needs root.
 */
export async function startBuildkitd(options: BuildkitdOptions = {}): Promise<TestBuildkitd> {
  await access(join(FOLDER, 'buildkitd')).catch(() => {
    throw new Error(`${FOLDER} is not there. \`bin/setup.sh test\` makes it, as root on Debian`)
  })
  const folder = await realpath(await mkdtemp(join(tmpdir(), 'conveyor-buildkitd-')))
  const remove = () => rm(folder, { recursive: true, force: true })
  try {
    return await startIn(folder, remove, options)
  } catch (error) {
    await remove()
    throw error
  }
}

async function startIn(
  folder: string,
  remove: () => Promise<void>,
  { dataDir = join(folder, 'data'), certificates, hub, withGit, flags = [] }: BuildkitdOptions,
): Promise<TestBuildkitd> {
  await mkdir(dataDir, { recursive: true })
  const data = await realpath(dataDir)
  const { server, client } = certificates ?? (await makeCertificates(folder))
  const config = join(folder, 'buildkitd.toml')
  await writeFile(config, hub === undefined ? '' : `[registry."docker.io"]\nmirrors = ["${hub}"]\n`)
  const socket = `unix://${join(folder, 'buildkitd.sock')}`
  const address = `tcp://127.0.0.1:${await freePort()}`

  const launch = async (): Promise<Running> => {
    const inside = withGit ? [] : insideTrixie([FOLDER, folder, data])
    const buildkitd = await start(
      'setpriv',
      [
        ...['--pdeathsig', 'TERM', ...inside, join(FOLDER, 'buildkitd'), '--config', config],
        ...['--root', data, '--addr', socket, '--addr', address],
        ...['--tlscacert', server.ca, '--tlscert', server.cert, '--tlskey', server.key],
        ...['--oci-worker-net', 'host', '--allow-insecure-entitlement', 'network.host'],
        ...['--containerd-worker=false', ...flags],
      ],
      { detached: true },
    )
    try {
      for (const one of [socket, address]) {
        await buildkitd.waitFor(new RegExp(`running server on ${one.replace(/^\w+:\/\//, '')}`))
      }
      return buildkitd
    } catch (error) {
      await buildkitd.kill('SIGKILL')
      throw error
    }
  }

  let running: Running | null = await launch()
  const buildkitd: TestBuildkitd = {
    socket,
    address,
    tls: client,
    get pid() {
      return running?.pid ?? -1
    },
    async stop(signal = 'SIGTERM') {
      await running?.kill(signal)
      running = null
      await killContainers(data)
    },
    async start() {
      running ??= await launch()
    },
    async [Symbol.asyncDispose]() {
      await buildkitd.stop()
      await remove()
    },
  }
  return buildkitd
}
