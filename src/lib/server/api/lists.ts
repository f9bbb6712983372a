import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { TProperties } from 'typebox'
import { BuildStateJson } from '../../api/build.ts'
import { BuildListJson, DeliveryListJson, RepositoryJson, RepositoryListJson } from '../../api/lists.ts'
import { type Static, Type } from '../../api/type.ts'
import { buildJson } from '../../api/views.ts'
import { ConveyorError } from '../../core/errors.ts'
import { isFromFork } from '../../core/pull-request.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import { validRepository } from '../../core/validate.ts'
import type { ListedBuild } from '../../store/build-list.ts'
import { mayUse } from '../access/identity.ts'
import type { ServerOptions } from '../options.ts'
import { answers, json } from './answers.ts'
import { PAGE } from './parameters.ts'
import { ofField } from './values.ts'

/** Open pull requests of a repository: more than anybody reads. */
const MOST_PULLS = 100

const repository = Type.Optional(
  Type.String({ description: '`owner/name`, in any case', examples: ['acme/web'] }),
)

const BuildsQuery = Type.Object({
  repository,
  branch: Type.Optional(Type.String({ description: 'Exact name of a branch', examples: ['main'] })),
  state: Type.Optional(BuildStateJson),
  since: Type.Optional(Type.String({ format: 'date-time', description: 'Accepted then or later' })),
  text: Type.Optional(
    Type.String({
      maxLength: 200,
      description:
        'Plain text that the title of the commit, the repository, or a branch contains, in any case; or the beginning of a commit id',
    }),
  ),
  ...PAGE,
})
const RepositoriesQuery = Type.Object(PAGE)
const DeliveriesQuery = Type.Object({ repository, ...PAGE })
const BranchesQuery = Type.Object({
  limit: Type.Integer({ minimum: 1, maximum: 500, default: 100, description: 'Most branches and git tags' }),
})
const RepositoryPath = Type.Object({
  owner: Type.String({ description: 'Owner of the repository', examples: ['acme'] }),
  name: Type.String({ description: 'Name of the repository', examples: ['web'] }),
})

const LIST_BUILDS = {
  operationId: 'listBuilds',
  tags: ['builds'],
  summary: 'List builds, newest first',
  description:
    'Follow `next` for more: pages neither miss nor repeat a build while others are added. Some filters look through 5,000 builds for a page; then it may have fewer than `limit`, or none, although there is a `next`.',
  querystring: BuildsQuery,
  response: answers({ 200: json('A page of builds', BuildListJson) }),
}
const LIST_REPOSITORIES = {
  operationId: 'listRepositories',
  tags: ['repositories'],
  summary: 'List repositories, the one built last first',
  querystring: RepositoriesQuery,
  response: answers({ 200: json('A page of repositories', RepositoryListJson) }),
}
const GET_REPOSITORY = {
  operationId: 'getRepository',
  tags: ['repositories'],
  summary: 'Show the branches and git tags of a repository',
  params: RepositoryPath,
  querystring: BranchesQuery,
  response: answers({ 200: json('The repository', RepositoryJson) }, 404),
}
const LIST_DELIVERIES = {
  operationId: 'listDeliveries',
  tags: ['webhooks'],
  summary: 'List webhook deliveries that built nothing, and why',
  description: 'Those of the last 30 days, at most 10,000, newest first; only signed ones are recorded.',
  querystring: DeliveriesQuery,
  response: answers({ 200: json('A page of deliveries', DeliveryListJson) }),
}

/** GET /builds, GET /repositories, GET /repositories/{owner}/{name}, GET /deliveries. */
export async function listsRoutes(app: FastifyInstance, { store, baseUrl }: ServerOptions): Promise<void> {
  const read = { config: { scope: 'read' } } as const
  const view = ({ build, image }: ListedBuild) => buildJson(build, image, baseUrl())

  app.get('/builds', { ...read, schema: LIST_BUILDS }, async (request): Promise<BuildListJson> => {
    const { limit, cursor, ...filter } = queryOf<typeof BuildsQuery>(request)
    const page = await store.list(
      { ...known(filter), ...allowedTo(request) },
      { limit, ...known({ cursor }) },
    )
    return { builds: page.builds.map(view), next: nextUrl(request, page.next, baseUrl()) }
  })

  app.get(
    '/repositories',
    { ...read, schema: LIST_REPOSITORIES },
    async (request): Promise<RepositoryListJson> => {
      const query = queryOf<typeof RepositoriesQuery>(request)
      const page = await store.repositories({ ...query, ...allowedTo(request) })
      const compared = await store.comparisons.last(page.repositories.map(({ name }) => name))
      const repositories = page.repositories.map(({ name, last }) => ({
        ...{ name, url: `${baseUrl()}/repositories/${name}`, last: view(last) },
        compared: compared.get(repositoryKey(name)) ?? null,
      }))
      return { repositories, next: nextUrl(request, page.next, baseUrl()) }
    },
  )

  app.get(
    '/repositories/:owner/:name',
    { ...read, schema: GET_REPOSITORY },
    async (request): Promise<RepositoryJson> => {
      const { owner, name } = request.params as Static<typeof RepositoryPath>
      const wanted = validRepository(`${owner}/${name}`)
      const [last] = mayUse(request.identity, wanted)
        ? (await store.list({ repository: wanted }, { limit: 1 })).builds
        : []
      if (!last) throw new ConveyorError('not_found', `no builds of repository ${wanted} found`)
      const [branches, compared] = await Promise.all([
        store.branches(wanted, queryOf<typeof BranchesQuery>(request).limit),
        store.comparisons.last([wanted]),
      ])
      return {
        name: last.build.repository,
        compared: compared.get(repositoryKey(wanted)) ?? null,
        branches: branches.map(({ ref, last, image }) => ({
          ...{ kind: ref.kind, name: ref.name, last: view(last), image },
          pull: image === null ? null : `docker pull ${image}`,
        })),
        pulls: (await store.pulls.open(wanted, MOST_PULLS)).map((pull) => ({
          ...{ number: pull.number, title: pull.title, author: pull.author, ...pull.head },
          ...{ fork: isFromFork(pull), updated_at: pull.updatedAt },
        })),
      }
    },
  )

  app.get('/deliveries', { ...read, schema: LIST_DELIVERIES }, async (request): Promise<DeliveryListJson> => {
    const query = queryOf<typeof DeliveriesQuery>(request)
    const page = await store.ignored.list({ ...known(query), limit: query.limit, ...allowedTo(request) })
    return { deliveries: page.deliveries, next: nextUrl(request, page.next, baseUrl()) }
  })
}

/** The parsed query; a repository's name in it is valid. */
function queryOf<Schema extends ReturnType<typeof Type.Object<TProperties>>>(
  request: FastifyRequest,
): Static<Schema> {
  const query = request.query as { repository?: string }
  const { repository } = query
  if (repository !== undefined) ofField('repository', () => validRepository(repository))
  return query as Static<Schema>
}

/** What the sender of a request may see, for a filter. */
function allowedTo({ identity }: FastifyRequest): { allowed?: readonly string[] } {
  return identity.repositories === null ? {} : { allowed: identity.repositories }
}

/** Without the keys that are undefined. */
function known<T extends object>(values: T): { [Key in keyof T]: Exclude<T[Key], undefined> } {
  const entries = Object.entries(values).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as { [Key in keyof T]: Exclude<T[Key], undefined> }
}

/** The URL of the same list with another cursor. */
function nextUrl(request: FastifyRequest, cursor: string | null, baseUrl: string): string | null {
  if (cursor === null) return null
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries({ ...(request.query as object), cursor }))
    query.set(name, `${value}`)
  return `${baseUrl}${request.routeOptions.url}?${query}`
}
