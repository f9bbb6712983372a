/** What each part of the code may import. Paths are relative to the root of the tree; types count like values. */

/** The interface of each noun: all that the parts above the adapters see of them. */
const INTERFACES = [
  'src/lib/store/build-store.ts',
  'src/lib/queue/queue.ts',
  'src/lib/logs/log-store.ts',
  'src/lib/source/source.ts',
  'src/lib/registry/registry.ts',
  'src/lib/registry/image-name.ts',
  'src/lib/builder/builder.ts',
  'src/lib/runner/runner.ts',
  'src/lib/forge/forge.ts',
]

/** What adapters share. */
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

/** Pure parsers of values that the adapters define, for those who read settings. */
const VALUES = [
  'src/lib/buildkit/address.ts',
  'src/lib/queue/sqs/url.ts',
  'src/lib/registry/naming.ts',
  'src/lib/source/git/ssh-hosts.ts',
]

/** Image references, forms of credentials, and the classification of errors; none of the files that talk to a registry. */
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
 * Folder or file -> the folders and files that it may import, apart from itself. The longest entry that a file is in
 * counts for it. Entries are in the order of the layers, top first; everything that is imported is further down.
 */
export const ALLOWED: Record<string, string[]> = {
  'src/index.ts': ['src/lib/app', 'src/lib/client', 'src/lib/config', CORE],
  'src/commands': [
    'src/lib/cli',
    'src/lib/doctor',
    'src/lib/bootstrap',
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
    // It names the part that is missing, so it talks to the parts themselves.
    'src/lib/buildkit',
    'src/lib/forge/github/account.ts',
    'src/lib/logs/redact.ts',
    'src/lib/registry',
    'src/lib/runner/errors.ts',
    'src/lib/runner/swarm/errors.ts',
    'src/lib/source/git',
  ],
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
  'src/lib/app/setup-builder.ts': ['src/lib/app', 'src/lib/config', ...ADAPTERS, ENGINE, ...SHARED],
  'src/lib/app': [
    'src/lib/server',
    'src/lib/pipeline',
    'src/lib/config',
    'src/lib/api',
    ...INTERFACES,
    'src/lib/util',
    CORE,
  ],
  'src/lib/server': ['src/lib/pipeline', 'src/lib/api', ...INTERFACES, 'src/lib/net', 'src/lib/util', CORE],
  'src/lib/client': ['src/lib/api', 'src/lib/net', 'src/lib/util', CORE],
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
  // The engine's API, for whatever speaks of images to it.
  [ENGINE]: [...REGISTRY, 'src/lib/net', 'src/lib/util', CORE],
  'src/lib/db': ['src/lib/net', 'src/lib/util', CORE],
  'src/lib/aws': ['src/lib/net', 'src/lib/util', CORE],
  'src/lib/net': ['src/lib/util', CORE],
  'src/lib/util': [CORE],
  // Pure, as is what it imports.
  'src/lib/dockerfile': ['src/lib/registry/image-name.ts', 'src/lib/util'],
  [CORE]: [],
  bench: ['src', 'test/support'],
  // Generates pages from the code.
  docs: ['src'],
  'test/support': ['src'],
  test: ['src', 'test/support', 'bench', 'docs'],
}

/** Implementations of one noun, each in a folder of its own, that do not know each other. */
export const APART = [
  ['src/lib/queue/postgres', 'src/lib/queue/sqs', 'src/lib/queue/memory.ts'],
  ['src/lib/logs/cloudwatch', 'src/lib/logs/postgres', 'src/lib/logs/s3', 'src/lib/logs/stdout.ts'],
  ['src/lib/store/sqlite', 'src/lib/store/postgres.ts'],
]

/** Members of `process` that only these files and folders may touch. */
export const PROCESS_MEMBERS: Record<string, string[]> = {
  env: ['src/lib/config'],
  on: ['src/lib/util/lifecycle.ts'],
  once: ['src/lib/util/lifecycle.ts'],
}

/** In folders of code; generated files count for neither. */
export const MAX_FILES = 14
export const MAX_LINES = 350
export const GENERATED = 'src/lib/buildkit/gen'
