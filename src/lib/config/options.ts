import { homedir } from 'node:os'
import { join } from 'node:path'

/** One thing that can be set, by a flag or an environment variable. */
export interface Option {
  env: string
  /** What it is when neither is given; undefined: nothing. */
  default?: string
  /** For --help. */
  help: string
  /** How --help calls the value; a switch has none. */
  value?: string
  /** Its value is never shown, not even in an error; of a URL with a password in it, the login is not. */
  secret?: 'all' | 'password'
  /** Several values: the flag is repeated, the variable has commas between. */
  list?: boolean
}

export const DEFAULT_DATA_DIR =
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
    value: 'user:pass|none',
    secret: 'all',
    help: 'credentials that the API, the logs and the pages ask for; none answers everybody [default: only this machine is answered]',
  },
  'allowed-hosts': {
    env: 'ALLOWED_HOSTS',
    value: 'name',
    list: true,
    help: 'more names that the server is asked by, besides that of --url, localhost and addresses: conveyor.lan, *.example.com, or * for any; repeat it, or put commas between',
  },
  allow: {
    env: 'ALLOW',
    value: 'owner/name',
    list: true,
    help: 'repositories that may be built, for webhooks and API alike, such as acme/*; repeat it, or put commas between [default: all]',
  },
  'github.token': {
    env: 'GITHUB_TOKEN',
    value: 'token',
    secret: 'all',
    help: 'GitHub API token: sets commit statuses, looks up branches, reads private repositories',
  },
  'github.secret': {
    env: 'GITHUB_SECRET',
    value: 'secret',
    secret: 'all',
    help: 'shared secret that GitHub signs its webhooks with; without it, pushes are hints: the head of their branch is asked of GitHub, and built',
  },
  'github.url': {
    env: 'GITHUB_URL',
    default: 'https://api.github.com',
    value: 'url',
    help: 'base URL of the GitHub API (GitHub Enterprise: https://HOST/api/v3)',
  },
  'git.url': {
    env: 'GIT_URL',
    value: 'template',
    help: 'where repositories are fetched from; ssh: git@github.com:{repository}.git [default: the server of --github.url, https://github.com/{repository}.git]',
  },
  'git.ssh-key': { env: 'GIT_SSH_KEY', value: 'file', help: 'private key for fetching over ssh' },
  'git.known-hosts': {
    env: 'GIT_KNOWN_HOSTS',
    value: 'file|accept-new',
    help: "keys of ssh servers, as in ~/.ssh/known_hosts; accept-new believes the first key that is seen [default: GitHub's published keys; for others known_hosts beside the ssh key and that of the machine]",
  },
  registry: {
    env: 'REGISTRY',
    default: 'docker.io',
    value: 'host[/prefix]',
    help: 'where images are pushed; http:// in front for a registry without TLS',
  },
  'registry.address': {
    env: 'REGISTRY_ADDRESS',
    value: 'name=address',
    list: true,
    help: 'where this process reaches a registry whose name leads elsewhere here, as in a container: localhost:5000=registry:5000; repeat it, or put commas between',
  },
  latest: {
    env: 'LATEST',
    default: 'always',
    value: 'always|default-branch',
    help: 'which builds move the tag `latest`',
  },
  dry: { env: 'DRY', help: 'build, but push nothing' },
  builder: {
    env: 'BUILDER',
    value: 'engine|buildkit|image|swarm',
    help: 'what builds: the Docker engine itself, the buildkitd of --buildkit.addr, containers of --builder.image in the engine, or on a Docker Swarm [default: image if --builder.image is given, else engine]',
  },
  'buildkit.addr': {
    env: 'BUILDKIT_ADDR',
    value: 'address',
    list: true,
    help: 'where buildkitd listens, tcp://HOST[:PORT] or unix:///PATH; of several, each repository has its first choice; repeat it, or put commas between',
  },
  'buildkit.tls': {
    env: 'BUILDKIT_TLS',
    value: 'dir',
    help: 'folder with the certificates for tcp:// addresses: ca.pem, cert.pem and key.pem',
  },
  'buildkit.builds': {
    env: 'BUILDKIT_BUILDS',
    default: '4',
    value: 'number',
    help: "builds at a time on one buildkitd, before a repository's next choice takes over",
  },
  compression: {
    env: 'COMPRESSION',
    default: 'zstd',
    value: 'zstd|gzip|uncompressed',
    help: "how layers are packed, where BuildKit pushes (buildkitd, engines with containerd's image store): gzip for clients as old as Docker 22",
  },
  'cache.export': {
    env: 'CACHE_EXPORT',
    default: 'registry',
    value: 'registry|none',
    help: 'where BuildKit keeps the cache of all steps for workers that have none, after the tags are published: beside the images, as the tag conveyor..cache',
  },
  'cache.max': {
    env: 'CACHE_MAX',
    value: 'size',
    help: 'how large the build cache of the engine, or of each buildkitd, may get: 500MB, 20GB [default: as it is set there]',
  },
  'cache.share': {
    env: 'CACHE_SHARE',
    value: '[owner/name:]group',
    list: true,
    help: 'repositories that share their cache mounts (RUN --mount=type=cache): OWNER/NAME:GROUP for each, or GROUP for all [default: each has its own]',
  },
  'builder.image': {
    env: 'BUILDER_IMAGE',
    value: 'image',
    help: 'image that performs the build, told by REPOSITORY, SHA, BRANCH, DRY and CACHE [default: remind101/conveyor-builder]',
  },
  'builder.data': {
    env: 'BUILDER_DATA',
    default: 'data',
    value: 'container',
    help: 'container whose volumes hold the ssh key and logins of the builder image; none for no container',
  },
  'builder.network': {
    env: 'BUILDER_NETWORK',
    value: 'name',
    help: "network of the builder image's containers [default: as the engine has it]",
  },
  'builder.mount': {
    env: 'BUILDER_MOUNT',
    value: 'source:target',
    list: true,
    help: 'mounts of the builder image, SOURCE:TARGET[:ro], such as the engine socket; repeat it, or put commas between',
  },
  'builder.constraint': {
    env: 'BUILDER_CONSTRAINT',
    value: 'constraint',
    list: true,
    help: 'which nodes of a Swarm build, such as node.labels.builder==true; repeat it, or put commas between',
  },
  'builder.privileged': {
    env: 'BUILDER_PRIVILEGED',
    help: 'run the builder image privileged: only for images that start an engine of their own',
  },
  'build.network': {
    env: 'BUILD_NETWORK',
    value: 'name',
    help: 'network of RUN steps: host, none, or default [default: as the engine has it]',
  },
  'build.arg': {
    env: 'BUILD_ARG',
    value: '[owner/name:]name=value',
    list: true,
    help: 'build arguments, NAME=VALUE, or OWNER/NAME:NAME=VALUE for one repository; repeat it, or put commas between. They are no place for secrets: they stay in the image',
  },
  'build.target': {
    env: 'BUILD_TARGET',
    value: '[owner/name:]stage',
    list: true,
    help: 'stage of the Dockerfile that becomes the image, or OWNER/NAME:STAGE for one repository [default: the last]',
  },
  'build.add-host': {
    env: 'BUILD_ADD_HOST',
    value: '[owner/name:]name=address',
    list: true,
    help: 'addresses of hosts for RUN steps, NAME=ADDRESS, or OWNER/NAME:NAME=ADDRESS for one repository',
  },
  'build.ulimit': {
    env: 'BUILD_ULIMIT',
    value: '[owner/name:]name=soft:hard',
    list: true,
    help: 'limits of RUN steps, such as nofile=1024:4096, or OWNER/NAME:nofile=1024:4096 for one repository; engines before Docker 23 cannot',
  },
  'build.context': {
    env: 'BUILD_CONTEXT',
    value: '[owner/name:]name=source',
    list: true,
    help: 'what FROM NAME and COPY --from=NAME mean: NAME=docker-image://IMAGE, or NAME=https://... of a git repository (.git#REF) or a file; or OWNER/NAME:NAME=... for one repository',
  },
  platform: {
    env: 'PLATFORM',
    value: '[owner/name:]platform',
    list: true,
    help: "platforms of images, such as linux/amd64,linux/arm64, or OWNER/NAME:linux/arm64 for one repository; several are one index, which the classic image store has no place for [default: the builder's own]",
  },
  attest: {
    env: 'ATTEST',
    value: 'provenance,sbom',
    list: true,
    help: 'what is said of an image beside it: how it was made (without build arguments), which software is in it; the image is an index then',
  },
  reproducible: {
    env: 'REPRODUCIBLE',
    help: "give files in layers no later time than the commit's, so that every machine makes the same layers of it; slower, and not with the classic image store",
  },
  'build.ssh': {
    env: 'BUILD_SSH',
    value: '[owner/name:]socket',
    list: true,
    help: 'socket of the ssh agent that RUN --mount=type=ssh may use, or OWNER/NAME:SOCKET for one repository [default: none]',
  },
  'build.secrets': {
    env: 'BUILD_SECRETS',
    value: 'dir',
    help: 'folder of build secrets: DIR/ID for all repositories, DIR/OWNER/NAME/ID for one [default: DATA_DIR/secrets]',
  },
  logger: {
    env: 'LOGGER',
    value: 'url',
    help: 'where build logs go: stdout:// (and a copy in the data directory), file://DIR, s3://BUCKET[/PREFIX], cloudwatch://GROUP, or postgres:// (the database of --db) [default: postgres:// if --db is one, else stdout://]',
  },
  queue: {
    env: 'QUEUE',
    default: 'memory://',
    value: 'url',
    secret: 'password',
    help: 'the build queue: memory:// (the server builds itself), postgres:// (the database of --db) or postgres://USER:PASSWORD@HOST/NAME, sqs://HOST/PATH of the queue, or sqs:// with its URL in SQS_QUEUE_URL',
  },
  db: {
    env: 'DATABASE_URL',
    value: 'url',
    secret: 'password',
    help: 'where builds are stored: sqlite://FILE, or postgres://USER:PASSWORD@HOST/NAME [default: sqlite://DATA_DIR/conveyor.db]',
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
  drain: {
    env: 'DRAIN',
    default: '10m',
    value: 'duration',
    help: 'how long running builds may go on after a SIGTERM, before they are given back to the queue',
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

/** What a build is to be, wherever it runs: also in a container of Conveyor's own builder image. */
export const BUILD_OPTIONS = [
  'git.url',
  'registry',
  'latest',
  'compression',
  'cache.export',
  'build.network',
  'build.arg',
  'build.target',
  'build.add-host',
  'build.ulimit',
  'build.context',
  'platform',
  'attest',
  'reproducible',
] as const satisfies OptionName[]

/** Values by option name, as a command line parser gives them; others are ignored. */
export type OptionValues = Readonly<Record<string, unknown>>
