import { availableParallelism, homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type { LatestPolicy } from './build/publish.ts'
import { ConveyorError } from './errors.ts'
import { parseRegistryFlag } from './registry/image-name.ts'

/** Everything that can be set, checked. What is secret in it never leaves the process in a message. */
export interface Config {
  /** Address to listen on. */
  host: string
  /** 0 takes any free port. */
  port: number
  /** Public base URL without a trailing slash; null: `http://localhost:<port>`. */
  url: string | null
  /** Basic authentication of the API and the logs; null leaves them open. */
  auth: { username: string; password: string } | null
  github: { token: string | null; secret: string | null; apiUrl: string }
  /** `environment` is where git gets its PATH, proxies and ssh agent from. */
  git: { url: string; sshKey: string | null; environment: NodeJS.ProcessEnv }
  /** As `--registry` gave it; image-name.ts reads it. */
  registry: string
  latest: LatestPolicy
  dry: boolean
  builderImage: string
  buildNetwork: string | null
  /** Folder of build secrets; see build-secrets.ts. */
  secretsDir: string
  logger: { kind: 'stdout' } | { kind: 'file'; dir: string }
  queue: { kind: 'memory' }
  db: { kind: 'sqlite'; file: string }
  dataDir: string
  workers: number
  timeoutMs: number
  /** How many repositories a worker that starts makes itself ready for. */
  warm: number
  /** Seconds before each further attempt at a build that a broken part has failed. */
  retryDelays: number[]
  /** Where docker's config.json is; null: ~/.docker. */
  dockerConfigDir: string | null
}

/** One thing that can be set, by a flag or an environment variable. */
export interface Option {
  env: string
  /** What it is when neither is given; undefined: nothing. */
  default?: string
  /** For --help. */
  help: string
  /** How --help calls the value; a switch has none. */
  value?: string
  /** Its value is never shown, not even in an error. */
  secret?: boolean
}

const DEFAULT_DATA_DIR =
  process.getuid?.() === 0 ? '/var/lib/conveyor' : join(homedir(), '.local', 'share', 'conveyor')

/** Every option by the name of its flag. The order is that of --help. */
export const OPTIONS = {
  port: { env: 'PORT', default: '8080', value: 'number', help: 'port to listen on; 0 takes any free one' },
  host: { env: 'HOST', default: '0.0.0.0', value: 'address', help: 'address to listen on' },
  url: {
    env: 'BASE_URL',
    value: 'url',
    help: 'public base URL, for the links in commit statuses [default: http://localhost:PORT]',
  },
  auth: {
    env: 'BASIC_AUTH',
    value: 'user:pass',
    secret: true,
    help: 'ask for these credentials on the API and the logs',
  },
  'github.token': {
    env: 'GITHUB_TOKEN',
    value: 'token',
    secret: true,
    help: 'GitHub API token: sets commit statuses, looks up branches, reads private repositories',
  },
  'github.secret': {
    env: 'GITHUB_SECRET',
    value: 'secret',
    secret: true,
    help: 'shared secret that GitHub signs its webhooks with; without it, unsigned ones are accepted',
  },
  'github.url': {
    env: 'GITHUB_URL',
    default: 'https://api.github.com',
    value: 'url',
    help: 'base URL of the GitHub API (GitHub Enterprise: https://HOST/api/v3)',
  },
  'git.url': {
    env: 'GIT_URL',
    default: 'https://github.com/{repository}.git',
    value: 'template',
    help: 'where repositories are fetched from; ssh: git@github.com:{repository}.git',
  },
  'git.ssh-key': { env: 'GIT_SSH_KEY', value: 'file', help: 'private key for fetching over ssh' },
  registry: {
    env: 'REGISTRY',
    default: 'docker.io',
    value: 'host[/prefix]',
    help: 'where images are pushed; http:// in front for a registry without TLS',
  },
  latest: {
    env: 'LATEST',
    default: 'always',
    value: 'always|default-branch',
    help: 'which builds move the tag `latest`',
  },
  dry: { env: 'DRY', help: 'build, but push nothing' },
  'builder.image': {
    env: 'BUILDER_IMAGE',
    default: 'remind101/conveyor-builder',
    value: 'image',
    help: 'image that performs the build; without effect yet, as every build runs in the engine',
  },
  'build.network': {
    env: 'BUILD_NETWORK',
    value: 'name',
    help: 'network of RUN steps: host, none, or default [default: as the engine has it]',
  },
  'build.secrets': {
    env: 'BUILD_SECRETS',
    value: 'dir',
    help: 'folder of build secrets: DIR/ID for all repositories, DIR/OWNER/NAME/ID for one [default: DATA_DIR/secrets]',
  },
  logger: {
    env: 'LOGGER',
    default: 'stdout://',
    value: 'url',
    help: 'where build logs go: stdout:// (and a copy in the data directory), or file://DIR',
  },
  queue: { env: 'QUEUE', default: 'memory://', value: 'url', help: 'the build queue: memory://' },
  db: {
    env: 'DATABASE_URL',
    value: 'url',
    help: 'where builds are stored: sqlite://FILE [default: sqlite://DATA_DIR/conveyor.db]',
  },
  workers: {
    env: 'WORKERS',
    value: 'number',
    help: `builds that run at the same time [default: number of CPUs]`,
  },
  warm: {
    env: 'WARM',
    default: '10',
    value: 'number',
    help: 'repositories, those built last, whose mirror and layers are fetched at the start; 0 for none',
  },
  timeout: {
    env: 'TIMEOUT',
    default: '20m',
    value: 'duration',
    help: 'how long one build may take: 90s, 20m, 1h',
  },
  'retry.delays': {
    env: 'RETRY_DELAYS',
    default: '5s,30s',
    value: 'durations',
    help: 'waits before each further attempt, when a broken part (engine, registry, network) failed a build; or none',
  },
  'data-dir': {
    env: 'DATA_DIR',
    value: 'dir',
    help: 'where mirrors, builds and logs are kept [default: /var/lib/conveyor, or ~/.local/share/conveyor if not root]',
  },
} as const satisfies Record<string, Option>

export type OptionName = keyof typeof OPTIONS
/** Values by option name, as a command line parser gives them; others are ignored. */
export type OptionValues = Readonly<Record<string, unknown>>

/**
 * Checks option values and makes a Config of them.
 * @throws ConveyorError `invalid` that lists every problem, one a line: flag, variable, value, what is accepted.
 */
export function parseConfig(values: OptionValues): Config {
  const problems: string[] = []
  const get = <T>(name: OptionName, accepted: string, parse: (text: string) => T | undefined): T | null => {
    const option: Option = OPTIONS[name]
    const given = values[name]
    const text = given === undefined || given === '' ? option.default : String(given)
    if (text === undefined) return null
    const parsed = parse(text)
    if (parsed !== undefined) return parsed
    const shown = option.secret ? 'is not usable' : `is ${JSON.stringify(text)}`
    problems.push(`--${name} (${option.env}) ${shown}: expected ${accepted}`)
    return null
  }
  const text = (name: OptionName) => get(name, 'some text', (value) => value)

  const dataDir = resolve(text('data-dir') ?? DEFAULT_DATA_DIR)
  const config = {
    host: text('host'),
    port: get('port', 'a port number from 0 to 65535', wholeNumber(0, 65_535)),
    url: get('url', 'an http:// or https:// URL', httpUrl),
    auth: get('auth', 'user:pass', parseCredentials),
    github: {
      token: get('github.token', 'a token without spaces or line breaks', (v) =>
        /^\S+$/.test(v) ? v : undefined,
      ),
      secret: text('github.secret'),
      apiUrl: get('github.url', 'an http:// or https:// URL without a user name in it', httpUrl),
    },
    git: {
      url: get(
        'git.url',
        'an https://, http://, ssh:// or file:// URL, or git@HOST:PATH, with {repository} in it and no password',
        gitUrl,
      ),
      sshKey: text('git.ssh-key'),
      environment: process.env,
    },
    registry: get(
      'registry',
      'host[:port][/prefix], for example ghcr.io/acme or http://registry.lan:5000',
      registry,
    ),
    latest: get('latest', 'always or default-branch', (v) =>
      v === 'always' || v === 'default-branch' ? v : undefined,
    ),
    dry: get('dry', 'true or false', (v) => ({ true: true, false: false })[v]) ?? false,
    builderImage: text('builder.image'),
    buildNetwork: get('build.network', 'the name of a network, such as host or none', (v) =>
      /^[A-Za-z0-9][A-Za-z0-9_.:-]*$/.test(v) ? v : undefined,
    ),
    secretsDir: resolve(text('build.secrets') ?? join(dataDir, 'secrets')),
    logger: get('logger', 'stdout:// or file://DIR', logger),
    queue: get('queue', 'memory://', (v) => (v === 'memory://' ? ({ kind: 'memory' } as const) : undefined)),
    db:
      get('db', 'sqlite://FILE', database) ??
      ({ kind: 'sqlite', file: join(dataDir, 'conveyor.db') } as const),
    dataDir,
    workers: get('workers', 'a whole number from 1 to 1000', wholeNumber(1, 1000)) ?? availableParallelism(),
    warm: get('warm', 'a whole number from 0 to 1000', wholeNumber(0, 1000)),
    timeoutMs: get('timeout', 'a duration from 1s to 24h, such as 90s, 20m or 1h', duration(1000, DAY_MS)),
    retryDelays: get(
      'retry.delays',
      'up to 10 durations of at most 1h, such as 5s,30s, or none',
      retryDelays,
    ),
    dockerConfigDir: process.env.DOCKER_CONFIG ?? null,
  }
  if (problems.length > 0) {
    throw new ConveyorError(
      'invalid',
      `the configuration has ${count(problems)}:\n  ${problems.join('\n  ')}`,
    )
  }
  return Object.freeze(config) as Config
}

/** The secret values of a config: what no log may show. */
export function secretsOf(config: Config): string[] {
  return [config.github.token, config.github.secret, config.auth?.password].filter((value) => value != null)
}

function wholeNumber(min: number, max: number): (text: string) => number | undefined {
  return (text) => {
    const number = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
    return number >= min && number <= max ? number : undefined
  }
}

function httpUrl(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined
  const { protocol, username, password } = new URL(text)
  const ok = (protocol === 'http:' || protocol === 'https:') && username === '' && password === ''
  return ok ? text.replace(/\/+$/, '') : undefined
}

function gitUrl(text: string): string | undefined {
  if (!text.includes('{repository}') || /\s/.test(text)) return undefined
  if (/^[\w.-]+@[\w.-]+:[^/]?/.test(text)) return text
  if (!URL.canParse(text)) return undefined
  const { protocol, username, password } = new URL(text)
  if (protocol === 'file:') return text
  if (protocol === 'ssh:') return password === '' ? text : undefined
  return httpUrl(`${protocol}//x`) && username === '' && password === '' ? text : undefined
}

/** `user:pass` taken apart; undefined when it is not of that form. */
export function parseCredentials(text: string): { username: string; password: string } | undefined {
  const colon = text.indexOf(':')
  if (colon < 1 || colon === text.length - 1) return undefined
  return { username: text.slice(0, colon), password: text.slice(colon + 1) }
}

function registry(text: string): string | undefined {
  try {
    parseRegistryFlag(text)
    return text
  } catch (error) {
    if (error instanceof ConveyorError) return undefined
    throw error
  }
}

function logger(text: string): Config['logger'] | undefined {
  if (text === 'stdout://') return { kind: 'stdout' }
  const dir = /^file:\/\/(.+)$/.exec(text)?.[1]
  return dir ? { kind: 'file', dir: resolve(dir) } : undefined
}

function database(text: string): Config['db'] | undefined {
  const file = /^sqlite:\/\/(.+)$/.exec(text)?.[1]
  return file ? { kind: 'sqlite', file: resolve(file) } : undefined
}

const DAY_MS = 24 * 3_600_000

/** `90s`, `20m` or `1h` in milliseconds. */
function duration(minMs: number, maxMs: number): (text: string) => number | undefined {
  return (text) => {
    const match = /^(\d{1,6})(s|m|h)$/.exec(text)
    if (!match) return undefined
    const ms = Number(match[1]) * ({ s: 1000, m: 60_000, h: 3_600_000 }[match[2] as 's' | 'm' | 'h'] ?? 0)
    return ms >= minMs && ms <= maxMs ? ms : undefined
  }
}

/** `5s,30s` in seconds; `none` is an empty list. */
function retryDelays(text: string): number[] | undefined {
  const delays = text === 'none' ? [] : text.split(',').map((one) => duration(0, 3_600_000)(one.trim()))
  if (delays.length > 10 || delays.includes(undefined)) return undefined
  return (delays as number[]).map((ms) => ms / 1000)
}

function count(problems: string[]): string {
  return problems.length === 1 ? 'a problem' : `${problems.length} problems`
}
