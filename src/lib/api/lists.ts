import { BuildJson, RefKindJson } from './build.ts'
import { named, nullable, type Static, Type } from './type.ts'

const next = nullable(
  Type.String({
    format: 'uri',
    description:
      'URL of the next page, which may be shorter than the limit, even empty; null after the last one',
  }),
)
const name = Type.String({ description: '`owner/name`', examples: ['acme/web'] })

/** A page of builds, newest first. */
export const BuildListJson = named('BuildList', { builds: Type.Array(BuildJson), next })
export type BuildListJson = Static<typeof BuildListJson>

const compared = nullable(
  named(
    'HeadComparison',
    {
      at: Type.String({ format: 'date-time', description: 'When it ended' }),
      error: nullable(Type.String({ description: 'Why it failed; null if it did not' })),
    },
    {
      description:
        'The last comparison of its branches and git tags with its builds, which finds pushes whose webhook was lost; null before the first one, and if no webhook has ever come',
    },
  ),
)

/** A page of repositories, the one built last first. */
export const RepositoryListJson = named('RepositoryList', {
  repositories: Type.Array(
    named('RepositorySummary', {
      name,
      url: Type.String({ format: 'uri', description: 'Of its branches' }),
      last: BuildJson,
      compared,
    }),
  ),
  next,
})
export type RepositoryListJson = Static<typeof RepositoryListJson>

/** What was built of a repository. */
export const RepositoryJson = named('Repository', {
  name,
  compared,
  branches: Type.Array(
    named('BuiltRef', {
      kind: RefKindJson,
      name: Type.String({ examples: ['main'] }),
      last: BuildJson,
      image: nullable(
        Type.String({ description: 'The newest image of it, which an earlier build may have published' }),
      ),
      pull: nullable(
        Type.String({
          description: 'The command that pulls this image',
          examples: [`docker pull registry.example.com/acme/web@sha256:${'44be4f29'.repeat(8)}`],
        }),
      ),
    }),
    { description: 'Its branches, git tags and pull requests, the one built last first' },
  ),
  pulls: Type.Array(
    named('PullRequest', {
      number: Type.Integer({ minimum: 1, examples: [7] }),
      title: Type.String({ examples: ['Greet people'] }),
      author: Type.String({ description: 'GitHub account', examples: ['ada'] }),
      sha: Type.String({ description: 'The commit at its head' }),
      branch: Type.String({ description: 'The branch of this commit', examples: ['topic'] }),
      repository: nullable(
        Type.String({
          description: 'Where that branch is; null if the fork is gone',
          examples: ['mallory/web'],
        }),
      ),
      fork: Type.Boolean({ description: 'Whether its commits are built only by an approval' }),
      updated_at: Type.String({ format: 'date-time' }),
    }),
    { description: 'Open pull requests that webhooks have told of, the one that changed last first' },
  ),
})
export type RepositoryJson = Static<typeof RepositoryJson>

/** A page of webhook deliveries that built nothing, newest first. */
export const DeliveryListJson = named('DeliveryList', {
  deliveries: Type.Array(
    named('Delivery', {
      id: Type.String({ description: "GitHub's id of the delivery" }),
      event: Type.String({ examples: ['push'] }),
      repository: nullable(name),
      ref: nullable(Type.String({ examples: ['refs/heads/main'] })),
      reason: Type.String({ description: 'Why nothing was built' }),
      at: Type.String({ format: 'date-time' }),
    }),
  ),
  next,
})
export type DeliveryListJson = Static<typeof DeliveryListJson>
