import { randomBytes } from 'node:crypto'
import { chown, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import type { TlsFiles } from './network/certificates.ts'
import { basicEnv, freePort, type Running, start } from './processes.ts'
import { tempDir } from './temp.ts'

export interface PostgresOptions {
  /** Waits for the disk at every commit, as a real server does. Off by default: tests do not cut the power. */
  fsync?: boolean
  /**
   * Folder of its data, created if missing. Default: a temporary folder, removed when disposed. The server's user
   * (postgres or nobody, if we are root) needs access to it.
   */
  dir?: string
  /** Its certificate for TLS. */
  tls?: Pick<TlsFiles, 'cert' | 'key'>
  /** More settings of the server, as for `postgres -c name=value`. */
  settings?: Record<string, string>
}

/** A private Postgres server on this machine that keeps its port across `stop` and `start`. */
export interface TestPostgres extends AsyncDisposable {
  readonly port: number
  /** Of the main server process. */
  readonly pid: number
  /**
   * Creates a database; resolves to its URL, including the login.
   * @param template URL of another one, to which nobody is connected, and which it is a copy of; by default it is empty
   */
  database(template?: string): Promise<string>
  /**
   * Stops it and waits until it is gone. SIGINT (default) closes every connection in order, SIGTERM waits for the
   * clients to disconnect, SIGQUIT is a crash: the next start recovers.
   */
  stop(signal?: 'SIGINT' | 'SIGTERM' | 'SIGQUIT'): Promise<void>
  /** Starts it again on the same port and data, and waits until it accepts connections. */
  start(): Promise<void>
}

/** Where Debian installs the servers of each version; they are not on the PATH. */
const DEBIAN = '/usr/lib/postgresql'

/** Starts a new server on 127.0.0.1, and waits until it accepts connections. */
export async function startPostgres(options: PostgresOptions = {}): Promise<TestPostgres> {
  await using resources = new AsyncDisposableStack()
  const folder = resources.use(await tempDir('conveyor-postgres-'))
  const user = await unprivilegedUser()
  const data = join(options.dir ?? folder.path, 'data')
  await mkdir(data, { recursive: true, mode: 0o700 })
  if (user) for (const path of [folder.path, data]) await chown(path, user.uid, user.gid)

  const bin = await binFolder()
  const password = randomBytes(12).toString('hex')
  const passwordFile = join(folder.path, 'password')
  await writeFile(passwordFile, password)
  await using initdb = await start(
    ...as(user, [
      ...[join(bin, 'initdb'), '--pgdata', data, '--username', 'conveyor', '--pwfile', passwordFile],
      ...['--auth', 'scram-sha-256', '--encoding', 'UTF8', '--locale', 'C', '--no-sync'],
    ]),
    { cwd: folder.path },
  )
  const { code } = await initdb.exited
  if (code !== 0) throw new Error(`initdb exited with status ${code}: ${initdb.stderr()}`)

  if (options.tls) await own(options.tls, folder.path, user)
  const port = await freePort()
  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
    max_connections: '200',
    log_min_messages: 'warning',
    // With one database for each test, it would start a process for another one several times a second.
    autovacuum: 'off',
    // Without these, a crash of the server alone loses nothing: the system keeps what it wrote.
    ...(options.fsync !== true && { fsync: 'off', full_page_writes: 'off' }),
    ...(options.tls && {
      ...{
        ssl: 'on',
        ssl_cert_file: join(folder.path, 'tls.pem'),
        ssl_key_file: join(folder.path, 'tls.key'),
      },
    }),
    ...options.settings,
  }
  const given = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const serve = () => launch(as(user, [join(bin, 'postgres'), '-D', data, ...given]), folder.path)

  let server = await serve()
  resources.defer(async () => void (await server.kill('SIGINT')))
  const url = (database: string) => `postgres://conveyor:${password}@127.0.0.1:${port}/${database}`
  const owned = resources.move()
  return {
    port,
    get pid() {
      return server.pid
    },
    async database(template) {
      const name = `test_${randomBytes(6).toString('hex')}`
      const client = new pg.Client({ connectionString: url('postgres') })
      await client.connect()
      try {
        const copied = template === undefined ? '' : ` template ${new URL(template).pathname.slice(1)}`
        await client.query(`create database ${name}${copied}`)
      } finally {
        await client.end()
      }
      return url(name)
    },
    async stop(signal = 'SIGINT') {
      await server.kill(signal)
    },
    async start() {
      await server.kill('SIGINT')
      server = await serve()
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Copies for the server, which only accepts a key that it owns. */
async function own({ cert, key }: Pick<TlsFiles, 'cert' | 'key'>, folder: string, user: User | null) {
  for (const [from, name] of [
    [cert, 'tls.pem'],
    [key, 'tls.key'],
  ] as const) {
    const file = join(folder, name)
    await writeFile(file, await readFile(from), { mode: 0o600 })
    if (user) await chown(file, user.uid, user.gid)
  }
}

async function launch(command: [string, string[]], cwd: string): Promise<Running> {
  // In a separate group: Ctrl-C in a terminal goes to the test run, which then stops the server in order.
  const server = await start(...command, { env: { ...basicEnv(), LC_ALL: 'C' }, cwd, detached: true })
  try {
    await server.waitFor(/database system is ready to accept connections/)
    return server
  } catch (error) {
    await server.kill('SIGQUIT')
    throw error
  }
}

interface User {
  uid: number
  gid: number
}

/** Postgres refuses to run as root. Null if we are not root. */
async function unprivilegedUser(): Promise<User | null> {
  if (process.getuid?.() !== 0) return null
  const users = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'))
  const found = ['postgres', 'nobody'].map((name) => users.find((user) => user[0] === name)).find(Boolean)
  if (!found) throw new Error('Postgres needs a user to run as: neither postgres nor nobody exists')
  return { uid: Number(found[2]), gid: Number(found[3]) }
}

/** The command as `user`; setpriv stops the server when this process is killed. */
function as(user: User | null, command: string[]): [string, string[]] {
  const identity = user ? ['--reuid', `${user.uid}`, '--regid', `${user.gid}`, '--clear-groups'] : []
  return ['setpriv', [...identity, '--pdeathsig', 'INT', ...command]]
}

/** Where initdb and postgres are: Debian's newest version, or a folder of the PATH. */
async function binFolder(): Promise<string> {
  const versions = await readdir(DEBIAN).catch(() => [] as string[])
  const newestFirst = versions.toSorted((a, b) => Number(b) - Number(a))
  const folders = [
    ...newestFirst.map((version) => join(DEBIAN, version, 'bin')),
    ...(process.env.PATH ?? '').split(':'),
  ]
  for (const folder of folders) {
    const names = await readdir(folder).catch(() => [] as string[])
    if (names.includes('initdb') && names.includes('postgres')) return folder
  }
  throw new Error('no Postgres server is installed: on Debian, apt-get install postgresql')
}
