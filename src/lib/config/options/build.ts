import { compileGlob } from '../../util/glob/glob.ts'
import { EVERY_BUILD, LOCAL, option, SERVER_ONLY } from '../option.ts'
import { directory, isHttpUrl, listOf, matching, nameOf, oneOf, scoped, toggle, value } from '../values.ts'

/** As Dockerfiles name stages and images. */
const CONTEXT_NAME = /^[a-z][a-z0-9._-]*(:\d+\/)?[a-z0-9._/-]*(:[\w.-]+)?$/
const IMAGE_CONTEXT = /^docker-image:\/\/[a-z0-9][\w./-]*(:[\w./-]+)*(@sha256:[0-9a-f]{64})?$/

/** The name is shortened as BuildKit looks it up: `docker.io/library/node:latest` is `node`. */
const namedContext = value(
  'NAME=docker-image://IMAGE or NAME=https://URL (no directories: builds run on other machines)',
  (text) => {
    const at = text.indexOf('=')
    const [name, from] = [text.slice(0, at), text.slice(at + 1)]
    const url = /^https?:\/\/\S+$/.test(from) && isHttpUrl(from)
    if (!CONTEXT_NAME.test(name) || !(url || IMAGE_CONTEXT.test(from))) return undefined
    const short = name
      .replace(/^docker\.io\//, '')
      .replace(/^library\//, '')
      .replace(/:latest$/, '')
    return `${short}=${from}`
  },
)

/** Of the names of branches or git tags. git forbids most of what would be odd here in names, too. */
const refPattern = value('a pattern of names, such as main, release/**, or !wip/**', (text) => {
  const glob = text.replace(/^!/, '')
  return glob !== '' && glob.length <= 255 && !/[\s\\:^~]|^!/.test(glob) && compileGlob(glob, false)
    ? text
    : undefined
})

/** What is built, and how, for all repositories or one of them. */
export const BUILD = {
  branches: option({
    flag: 'build.branches',
    env: 'BUILD_BRANCHES',
    help: 'Branches whose pushes are built: patterns in which * matches all but a slash, ** everything, and a ! in front excludes; the last one that matches decides',
    value: '[owner/name:]pattern',
    type: scoped(refPattern),
    defaultText: 'all',
    commands: SERVER_ONLY,
  }),
  tags: option({
    flag: 'build.tags',
    env: 'BUILD_TAGS',
    help: 'Git tags whose pushes are built: patterns as for --build.branches',
    value: '[owner/name:]pattern',
    type: scoped(refPattern),
    defaultText: 'all',
    commands: SERVER_ONLY,
  }),
  supersede: option({
    flag: 'supersede',
    env: 'SUPERSEDE',
    help: "What a newer push of a branch, other than the default branch, cancels: the branch's queued builds, running ones, too, or nothing",
    value: 'queued|running|off',
    type: oneOf('queued', 'running', 'off'),
    default: 'queued',
    commands: SERVER_ONLY,
  }),
  network: option({
    flag: 'build.network',
    env: 'BUILD_NETWORK',
    help: 'Network of RUN steps: host, none, or default',
    value: 'name',
    type: nameOf('network, such as host or none'),
    defaultText: 'as configured in the engine',
    commands: [...EVERY_BUILD, 'bootstrap'],
    inherited: true,
  }),
  args: option({
    flag: 'build.arg',
    env: 'BUILD_ARG',
    help: 'Build arguments, NAME=VALUE; not for secrets, as they stay in the image',
    value: '[owner/name:]name=value',
    type: scoped(matching('NAME=VALUE', /^[A-Za-z_]\w*=/)),
    commands: EVERY_BUILD,
    inherited: true,
  }),
  targets: option({
    flag: 'build.target',
    env: 'BUILD_TARGET',
    help: 'Stage of the Dockerfile to build',
    value: '[owner/name:]stage',
    type: scoped(matching('the name of a stage', /^[A-Za-z0-9][\w.-]*$/)),
    defaultText: 'the last stage',
    commands: EVERY_BUILD,
    inherited: true,
  }),
  hosts: option({
    flag: 'build.add-host',
    env: 'BUILD_ADD_HOST',
    help: 'Host-to-IP mappings for RUN steps, NAME=ADDRESS',
    value: '[owner/name:]name=address',
    type: scoped(matching('NAME=ADDRESS', /^[\w.-]+=[\da-f.:]+$/i)),
    commands: EVERY_BUILD,
    inherited: true,
  }),
  ulimits: option({
    flag: 'build.ulimit',
    env: 'BUILD_ULIMIT',
    help: 'Ulimits of RUN steps, such as nofile=1024:4096; requires Docker 23 or newer',
    value: '[owner/name:]name=soft:hard',
    type: scoped(matching('NAME=SOFT or NAME=SOFT:HARD', /^[a-z]+=\d+(:\d+)?$/)),
    commands: EVERY_BUILD,
    inherited: true,
  }),
  contexts: option({
    flag: 'build.context',
    env: 'BUILD_CONTEXT',
    help: 'Named contexts for FROM NAME and COPY --from=NAME: NAME=docker-image://IMAGE, or NAME=https://... of a git repository (.git#REF) or a file',
    value: '[owner/name:]name=source',
    type: scoped(namedContext),
    commands: EVERY_BUILD,
    inherited: true,
  }),
  platforms: option({
    flag: 'platform',
    env: 'PLATFORM',
    help: 'Target platforms, such as linux/amd64,linux/arm64; several produce a multi-platform index, which the classic image store cannot hold',
    value: '[owner/name:]platform',
    type: scoped(matching('a platform, such as linux/arm64', /^[a-z0-9]+\/[a-z0-9_]+(\/v\d+)?$/)),
    defaultText: "the builder's own platform",
    commands: EVERY_BUILD,
    inherited: true,
  }),
  attest: option({
    flag: 'attest',
    env: 'ATTEST',
    help: 'Attestations to attach to images, which turns them into an index: provenance (without build arguments), sbom',
    value: 'provenance,sbom',
    type: { ...listOf(oneOf('provenance', 'sbom')), accepts: 'provenance, sbom, or both' },
    commands: EVERY_BUILD,
    inherited: true,
  }),
  reproducible: option({
    flag: 'reproducible',
    env: 'REPRODUCIBLE',
    help: 'Limit file times in layers to the time of the commit, so that every machine produces identical layers; slower, and not supported by the classic image store',
    type: toggle,
    commands: EVERY_BUILD,
    inherited: true,
  }),
  gitArgs: option({
    flag: 'build.git-args',
    env: 'BUILD_GIT_ARGS',
    help: 'Set the build arguments GIT_SHA, GIT_BRANCH, GIT_TAG and SOURCE_DATE_EPOCH where the Dockerfile declares them; from there on, each commit misses the cache',
    value: '[owner/name:]true|false',
    type: scoped(oneOf('true', 'false')),
    defaultText: 'false',
    commands: EVERY_BUILD,
    inherited: true,
  }),
  git: option({
    flag: 'build.git',
    env: 'BUILD_GIT',
    help: 'Give builds a .git folder, for git describe, setuptools-scm and the like; then each commit is built, even without changes',
    value: '[owner/name:]true|false',
    type: scoped(oneOf('true', 'false')),
    defaultText: 'false',
    commands: EVERY_BUILD,
    inherited: true,
  }),
  ssh: option({
    flag: 'build.ssh',
    env: 'BUILD_SSH',
    help: 'Socket of the SSH agent for RUN --mount=type=ssh',
    value: '[owner/name:]socket',
    type: scoped(matching('the path of a socket', /^\/./)),
    defaultText: 'none',
    commands: LOCAL,
  }),
  secretsDir: option({
    flag: 'build.secrets',
    env: 'BUILD_SECRETS',
    help: 'Directory of build secrets: DIR/ID for all repositories, DIR/OWNER/NAME/ID for one',
    value: 'dir',
    type: directory,
    defaultText: 'DATA_DIR/secrets',
    commands: EVERY_BUILD,
  }),
  /** Groups of repositories that share their cache mounts. */
  cacheGroups: option({
    flag: 'cache.share',
    env: 'CACHE_SHARE',
    help: 'Group of repositories that share their cache mounts (RUN --mount=type=cache)',
    value: '[owner/name:]group',
    type: scoped(matching('the name of a group', /^[\w.-]+$/)),
    defaultText: 'each repository has its own',
  }),
}
