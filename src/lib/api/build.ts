import { named, nullable, type Static, Type } from './type.ts'

const ID = '5b6f0c1e-8d0f-4f0b-9a50-0d5e3a9c1f37'
const SHA = '827fecd2a1d5b8c1d2b4d4b1a0c9b7c3f0e6a5d4'
const IMAGE = `registry.example.com/acme/web@sha256:${'44be4f29'.repeat(8)}`

export const BuildStateJson = Type.Enum(['pending', 'building', 'succeeded', 'failed', 'cancelled'], {
  type: 'string',
  title: 'BuildState',
  description:
    'A build is pending, then building, then one of the others. After an attempt that is tried again, it is pending again.',
})

const ErrorKindJson = Type.Enum(
  ['invalid', 'unauthorized', 'not_found', 'build_failed', 'unavailable', 'timeout', 'cancelled'],
  {
    type: 'string',
    title: 'ErrorKind',
    description:
      '`build_failed`: the build ran and failed. `invalid`: the request, or something in the repository, is invalid. `not_found`: repository, branch or commit does not exist or is not accessible. `unauthorized`: Conveyor lacks credentials. `unavailable`: something that Conveyor needs did not work. `timeout`, `cancelled`: it was aborted.',
  },
)

const time = (description: string) =>
  Type.String({ format: 'date-time', description, examples: ['2026-03-01T12:00:00.000Z'] })

/** What a ref is. */
export const RefKindJson = Type.Enum(['branch', 'tag', 'pull'], {
  type: 'string',
  title: 'RefKind',
  description: 'A branch, a git tag, or a pull request',
})

const RefJson = named('Ref', {
  kind: RefKindJson,
  name: Type.String({
    description: 'Without refs/heads/ or refs/tags/; the number of a pull request',
    examples: ['main'],
  }),
})

const CommitJson = named(
  'Commit',
  {
    title: Type.String({ description: 'The first line of its message, at most 200 characters' }),
    author: Type.String({ description: 'Name of the author' }),
    login: nullable(
      Type.String({
        description: 'GitHub account of the author, otherwise of the person who pushed; null if unknown',
      }),
    ),
  },
  { description: 'What the commit says about itself; null until that is known' },
)

const WithheldJson = named('Withheld', {
  tag: Type.String({ description: 'Docker tag', examples: ['latest'] }),
  reason: Type.String({ description: 'Why it does not move' }),
})

const CancelJson = named(
  'Cancel',
  {
    by: Type.String({ description: 'The user or the token', examples: ['ada'] }),
    at: time('When it was requested'),
  },
  {
    description:
      'Who asked for the build to be cancelled; absent if nobody did. While it is `building`, its worker is stopping.',
  },
)

const ForkJson = named(
  'Fork',
  {
    pull: Type.Integer({ minimum: 1, description: 'Number of the pull request', examples: [7] }),
    repository: nullable(
      Type.String({ description: 'The fork; null if it is gone', examples: ['mallory/web'] }),
    ),
    approved_by: Type.String({ description: 'Who approved this commit', examples: ['ada'] }),
  },
  {
    description:
      'Where the commit of a fork comes from; absent for others. It is built without secrets, and publishes no shared tags.',
  },
)

const SupersededByJson = named(
  'SupersededBy',
  {
    id: Type.String({ description: 'The build', examples: [ID] }),
    sha: Type.String({ description: 'Its commit', examples: [SHA] }),
  },
  { description: 'The build of a newer push of its branch that it was cancelled for; absent for none' },
)

const image = nullable(
  Type.String({ description: '`registry/repo@sha256:…` once the build succeeded', examples: [IMAGE] }),
)
const error = nullable(Type.String({ description: 'Why it failed or was cancelled, for people' }))

/** A build as the API shows it. Times are RFC 3339 or null. */
export const BuildJson = named(
  'Build',
  {
    id: Type.String({ examples: [ID] }),
    repository: Type.String({ examples: ['acme/web'] }),
    branch: nullable(Type.String({ description: 'The first branch that this build was requested for' })),
    tag: nullable(Type.String({ description: 'The first git tag that this build was requested for' })),
    refs: Type.Array(RefJson, {
      description: 'All branches, git tags and pull requests that it was requested for, oldest first',
    }),
    sha: Type.String({ description: 'Full commit id', examples: [SHA] }),
    commit: nullable(CommitJson),
    source: nullable(
      Type.Enum(['webhook', 'api', 'cli', 'server'], {
        type: 'string',
        description:
          'Where its first request came from: `server` is Conveyor itself, and `reason` says why; null if that was before this was recorded',
      }),
    ),
    reason: Type.Optional(
      Type.String({
        description: 'Why Conveyor itself requested it; absent if somebody else did',
        examples: ['base image node:24 moved from 0123456789ab to ba9876543210'],
      }),
    ),
    fork: Type.Optional(ForkJson),
    state: BuildStateJson,
    error,
    error_kind: nullable(ErrorKindJson),
    cancel: Type.Optional(CancelJson),
    superseded_by: Type.Optional(SupersededByJson),
    image,
    withheld: Type.Optional(
      Type.Array(WithheldJson, {
        description: 'Requested tags that are not moved, and why; absent if all are',
      }),
    ),
    url: Type.String({ description: 'URL of its page; programs get this JSON from it', format: 'uri' }),
    log: Type.String({ description: 'URL of its log', format: 'uri' }),
    created_at: time('When it was accepted'),
    started_at: nullable(time('When it was first started')),
    completed_at: nullable(time('When it ended')),
  },
  {
    examples: [
      {
        id: ID,
        repository: 'acme/web',
        branch: 'main',
        tag: null,
        refs: [{ kind: 'branch', name: 'main' }],
        sha: SHA,
        commit: { title: 'Greet people', author: 'Ada Lovelace', login: 'ada' },
        source: 'webhook',
        state: 'succeeded',
        error: null,
        error_kind: null,
        image: IMAGE,
        url: `https://conveyor.example.com/builds/${ID}`,
        log: `https://conveyor.example.com/logs/${ID}`,
        created_at: '2026-03-01T12:00:00.000Z',
        started_at: '2026-03-01T12:00:00.020Z',
        completed_at: '2026-03-01T12:00:05.930Z',
      },
    ],
  },
)
export type BuildJson = Static<typeof BuildJson>

/** What a build published. */
export const ArtifactJson = named('Artifact', {
  id: Type.String({ examples: ['c1d8a2a4-55a6-4f0e-8c67-0f6c1f0de8a2'] }),
  image: Type.String({ description: 'The immutable name of the image', examples: [IMAGE] }),
  tags: Type.Array(Type.String(), {
    description: 'Tags that the build pointed at the image',
    examples: [['registry.example.com/acme/web:main']],
  }),
  shas: Type.Array(Type.String({ examples: [SHA] }), {
    description: 'All commits that the image was published for: commits with the same content share an image',
  }),
  build: Type.Object({ id: Type.String({ examples: [ID] }) }, { additionalProperties: false }),
})
export type ArtifactJson = Static<typeof ArtifactJson>

/** Body of POST /builds, in the spelling that the documentation recommends. */
export const BuildOrderJson = named(
  'BuildOrder',
  {
    repository: Type.String({ description: '`owner/name`', examples: ['acme/web'] }),
    sha: Type.Optional(
      nullable(
        Type.String({ description: 'Full commit id; without it, the head of the branch', examples: [SHA] }),
      ),
    ),
    branch: Type.Optional(
      nullable(
        Type.String({ description: 'Branch to build, or whose tags should move', examples: ['main'] }),
      ),
    ),
    pull: Type.Optional(
      nullable(
        Type.Integer({
          minimum: 1,
          description:
            'Number of the pull request whose head `sha` is: at least seven digits are enough then. The commit of a fork is built without secrets, and gets tags of its own',
          examples: [7],
        }),
      ),
    ),
    cache: Type.Optional(
      nullable(Type.Boolean({ description: 'False rebuilds every step', default: true, examples: [true] })),
    ),
    NoCache: Type.Optional(
      nullable(
        Type.Boolean({ description: 'The opposite of `cache`, as in the first API', deprecated: true }),
      ),
    ),
  },
  {
    description: 'A commit to build: `sha`, `branch`, or both; or `sha` and `pull`',
    anyOf: [{ required: ['sha'] }, { required: ['branch'] }],
    examples: [{ repository: 'acme/web', branch: 'main' }],
  },
)

/** Body of POST /builds/ID/retry, which may be absent. */
export const RetryOrderJson = named(
  'RetryOrder',
  {
    cache: Type.Optional(
      nullable(
        Type.Boolean({
          description: 'False rebuilds every step; by default as in the build itself',
          examples: [false],
        }),
      ),
    ),
  },
  { examples: [{ cache: false }] },
)

/** Data of a `log` event: the bytes at `offset`, in base64. The event's id is the offset after them. */
export const LogEventJson = named('LogEvent', {
  offset: Type.Integer({ minimum: 0, description: 'Of the first byte in the log' }),
  bytes: Type.String({ description: 'In base64' }),
})
export type LogEventJson = Static<typeof LogEventJson>

/** Data of a `notice` event: a line from the server that is not part of the log. */
export const NoticeEventJson = named('NoticeEvent', { message: Type.String() })
export type NoticeEventJson = Static<typeof NoticeEventJson>

/** Data of the final `end` event. */
export const EndEventJson = named('EndEvent', {
  state: BuildStateJson,
  image,
  error,
  error_kind: nullable(ErrorKindJson),
})
export type EndEventJson = Static<typeof EndEventJson>
