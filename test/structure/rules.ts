/** What each part of the code may import. Paths are relative to the root of the tree; types count as much as values. */

/** The interface of each noun: all that the parts above the adapters see of it. */
const INTERFACES = [
  'src/lib/store/build-store.ts',
  'src/lib/store/build-list.ts',
  'src/lib/store/comparisons.ts',
  'src/lib/store/fleet.ts',
  'src/lib/store/notifications.ts',
  'src/lib/store/pulls.ts',
  'src/lib/queue/queue.ts',
  'src/lib/logs/log-store.ts',
  'src/lib/source/source.ts',
  'src/lib/registry/registry.ts',
  'src/lib/registry/image-name.ts',
  'src/lib/builder/builder.ts',
  'src/lib/runner/runner.ts',
  'src/lib/forge/forge.ts',
  'src/lib/forge/sign-in.ts',
]

/** Code that adapters share. */
const GROUND = ['src/lib/db', 'src/lib/aws', 'src/lib/net', 'src/lib/util', 'src/lib/dockerfile']

const ADAPTERS = [
  'src/lib/store',
  'src/lib/queue',
  'src/lib/logs',
  'src/lib/source',
  'src/lib/registry',
  'src/lib/builder',
  'src/lib/runner',
  'src/lib/forge',
  'src/lib/buildkit',
]

/** Pure parsers of values that the adapters define, for code that reads settings. */
const VALUES = [
  'src/lib/buildkit/address.ts',
  'src/lib/queue/sqs/url.ts',
  'src/lib/registry/naming.ts',
  'src/lib/source/git/ssh-hosts.ts',
]

/** Image references, forms of credentials, and the classification of errors; no files that talk to a registry. */
const REGISTRY = [
  'src/lib/registry/auth-config.ts',
  'src/lib/registry/image-name.ts',
  'src/lib/registry/messages.ts',
  'src/lib/registry/push-errors.ts',
  'src/lib/registry/registry.ts',
  'src/lib/registry/response.ts',
]

const CORE = 'src/lib/core'
const SHARED = [CORE, ...GROUND]
const ENGINE = 'src/lib/docker'
const SOURCE = 'src/lib/source/source.ts'

/**
 * Folder or file -> the folders and files that it may import, apart from itself. For each file, the longest entry that
 * contains it applies. Entries are in the order of the layers, top first; imports only go down.
 */
export const ALLOWED: Record<string, string[]> = {
  'src/index.ts': ['src/lib/app', 'src/lib/client', 'src/lib/config', CORE],
  'src/commands': [
    'src/lib/cli',
    'src/lib/doctor',
    'src/lib/bootstrap',
    'src/lib/setup',
    'src/lib/app',
    'src/lib/config',
    'src/lib/util',
    CORE,
  ],
  'src/lib/cli': ['src/lib/app', 'src/lib/client', 'src/lib/config', 'src/lib/api', ...SHARED],
  'src/lib/doctor': [
    'src/lib/app',
    'src/lib/config',
    ...INTERFACES,
    ENGINE,
    ...SHARED,
    // It reports which component is missing, so it talks to the components directly.
    'src/lib/buildkit',
    'src/lib/forge/github/account.ts',
    'src/lib/forge/github/app.ts',
    'src/lib/logs/redact.ts',
    'src/lib/registry',
    'src/lib/runner/errors.ts',
    'src/lib/runner/swarm/errors.ts',
    'src/lib/source/git',
  ],
  // It changes GitHub before the service runs.
  'src/lib/setup': ['src/lib/app', 'src/lib/config', 'src/lib/forge/github/hooks.ts', 'src/lib/util', CORE],
  'src/lib/bootstrap': [
    'src/lib/app',
    'src/lib/config',
    ...INTERFACES,
    ENGINE,
    ...SHARED,
    // It builds and pushes the builder image before there is a configuration.
    'src/lib/buildkit',
    'src/lib/registry',
  ],
  // The only files that create adapters.
  'src/lib/app/setup.ts': [
    'src/lib/app',
    'src/lib/pipeline',
    'src/lib/config',
    ...ADAPTERS,
    ENGINE,
    ...SHARED,
  ],
  'src/lib/app/setup-github.ts': [
    'src/lib/app',
    'src/lib/config',
    'src/lib/server/setup/app-setup.ts',
    ...ADAPTERS,
    ...SHARED,
  ],
  'src/lib/app/setup-builder.ts': ['src/lib/app', 'src/lib/config', ...ADAPTERS, ENGINE, ...SHARED],
  'src/lib/app': [
    'src/lib/server',
    'src/lib/notify',
    'src/lib/telemetry',
    'src/lib/pipeline',
    'src/lib/config',
    'src/lib/api',
    ...INTERFACES,
    'src/lib/util',
    CORE,
  ],
  'src/lib/server': ['src/lib/pipeline', 'src/lib/api', ...INTERFACES, 'src/lib/net', 'src/lib/util', CORE],
  'src/lib/notify': ['src/lib/api', ...INTERFACES, 'src/lib/net', 'src/lib/util', CORE],
  'src/lib/telemetry': ['src/lib/pipeline', ...INTERFACES, 'src/lib/util', CORE],
  'src/lib/client': ['src/lib/api', 'src/lib/net', 'src/lib/util', CORE],
  'src/lib/pipeline/timeline': [
    'src/lib/pipeline',
    ...INTERFACES,
    'src/lib/dockerfile',
    'src/lib/util',
    CORE,
    // Which files a step takes from the context, and what BuildKit's names of steps mean: both are pure.
    'src/lib/buildkit/session/follow-paths.ts',
    'src/lib/buildkit/step-names.ts',
  ],
  'src/lib/pipeline': [...INTERFACES, 'src/lib/dockerfile', 'src/lib/util', CORE],
  'src/lib/config': ['src/lib/api', ...VALUES, ...SHARED],
  'src/lib/api': [CORE],
  'src/lib/builder': ['src/lib/buildkit', ...REGISTRY, SOURCE, ENGINE, ...SHARED],
  'src/lib/runner': [...REGISTRY, SOURCE, ENGINE, ...SHARED],
  'src/lib/buildkit': [...REGISTRY, SOURCE, ENGINE, ...SHARED],
  'src/lib/forge': SHARED,
  'src/lib/store': SHARED,
  'src/lib/queue': SHARED,
  'src/lib/logs': SHARED,
  'src/lib/registry': ['src/lib/net', 'src/lib/util', CORE],
  'src/lib/source': SHARED,
  // The engine's API, for everything that talks to it about images.
  [ENGINE]: [...REGISTRY, 'src/lib/net', 'src/lib/util', CORE],
  'src/lib/db': ['src/lib/net', 'src/lib/util', CORE],
  'src/lib/aws': ['src/lib/net', 'src/lib/util', CORE],
  'src/lib/net': ['src/lib/util', CORE],
  'src/lib/util': [CORE],
  // Pure, like everything it imports.
  'src/lib/dockerfile': ['src/lib/registry/image-name.ts', 'src/lib/util'],
  [CORE]: [],
  bench: ['src', 'test/support'],
  // Generates pages from the code.
  docs: ['src'],
  'test/support': ['src'],
  test: ['src', 'test/support', 'bench', 'docs'],
}

/** Implementations of one noun, each in its own folder, that do not know each other. */
export const APART = [
  ['src/lib/queue/postgres', 'src/lib/queue/sqs', 'src/lib/queue/memory.ts'],
  ['src/lib/logs/cloudwatch', 'src/lib/logs/postgres', 'src/lib/logs/s3', 'src/lib/logs/stdout.ts'],
  ['src/lib/store/sqlite', 'src/lib/store/postgres.ts'],
]

/** Members of `process` that only these files and folders may use. */
export const PROCESS_MEMBERS: Record<string, string[]> = {
  env: ['src/lib/config'],
  on: ['src/lib/util/lifecycle.ts'],
  once: ['src/lib/util/lifecycle.ts'],
}

/** For folders of code; generated files do not count. */
export const MAX_FILES = 14
export const MAX_LINES = 350
export const GENERATED = 'src/lib/buildkit/gen'
