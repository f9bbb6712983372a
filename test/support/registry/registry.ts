import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort, type Running, start } from '../processes.ts'
import { tempDir } from '../temp.ts'

export interface RegistryOptions {
  /** The required login; without it, anyone may read and write. */
  htpasswd?: { username: string; password: string }
  /** Default: a free one. */
  port?: number
  /** Where images are stored. Default: a temporary folder, removed when disposed. */
  dir?: string
}

/** A real registry (Debian's docker-registry) on this machine; deleting manifests is allowed. */
export interface TestRegistry extends AsyncDisposable {
  /** `127.0.0.1:PORT`, as in image names. */
  readonly host: string
  readonly url: string
  readonly pid: number
  stop(): Promise<void>
  /** Starts it again on the same port and data. */
  start(): Promise<void>
}

/** Starts a registry and waits until it accepts requests. */
export async function startRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  await using resources = new AsyncDisposableStack()
  const folder = resources.use(await tempDir('conveyor-registry-'))
  const port = options.port ?? (await freePort())
  const host = `127.0.0.1:${port}`
  const config = join(folder.path, 'config.json')
  const data = options.dir ?? join(folder.path, 'data')
  await mkdir(data, { recursive: true })

  const passwords = join(folder.path, 'htpasswd')
  if (options.htpasswd) {
    const { username, password } = options.htpasswd
    await writeFile(passwords, `${username}:${await bcrypt(password)}\n`)
  }
  const settings = {
    version: '0.1',
    log: { accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: data }, delete: { enabled: true } },
    http: { addr: host },
    ...(options.htpasswd && { auth: { htpasswd: { realm: 'conveyor-test', path: passwords } } }),
  }
  await writeFile(config, JSON.stringify(settings)) // it reads YAML, and JSON is YAML

  let server = await serve(config)
  resources.defer(async () => void (await server.kill()))
  const owned = resources.move()
  return {
    host,
    url: `http://${host}`,
    get pid() {
      return server.pid
    },
    async stop() {
      await server.kill()
    },
    async start() {
      await server.kill()
      server = await serve(config)
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

async function serve(config: string): Promise<Running> {
  const registry = await start('docker-registry', ['serve', config])
  try {
    await registry.waitFor(/msg="listening on /)
    return registry
  } catch (error) {
    await registry.kill('SIGKILL')
    throw error
  }
}

/** A line of htpasswd contains a bcrypt hash; Perl's crypt(3) creates it on any Debian. */
async function bcrypt(password: string): Promise<string> {
  const salt = `${randomBytes(16).toString('hex').slice(0, 21)}e`
  const script = 'print crypt(do { local $/; <STDIN> }, $ARGV[0])'
  const perl = await start('perl', ['-e', script, `$2y$04$${salt}`], { stdio: 'pipe' })
  perl.child.stdin?.end(password)
  await perl.exited
  const hash = perl.stdout()
  if (!hash.startsWith('$2y$')) throw new Error(`perl made no bcrypt hash: ${hash}${perl.stderr()}`)
  return hash
}
