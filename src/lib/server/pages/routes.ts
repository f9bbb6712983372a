import type { FastifyInstance } from 'fastify'
import type { BuildState } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import { validRepository } from '../../core/validate.ts'
import { type Identity, mayUse } from '../access/identity.ts'
import { readWorkers } from '../api/queue.ts'
import type { ServerOptions } from '../options.ts'
import { assetsRoute } from './assets.ts'
import { badgeRoute } from './badge.ts'
import { comparePageRoutes } from './build/compare.ts'
import { type BuildPageParts, buildPageRoutes } from './build/routes.ts'
import { sendPage } from './layout.ts'
import { deliveriesPage } from './lists/deliveries.ts'
import { isBuildState, listPage } from './lists/list.ts'
import { PER_PAGE, Query } from './lists/place.ts'
import { queuePage } from './lists/queue.ts'
import { repositoriesPage, repositoryPage } from './lists/repository.ts'
import { PAGE } from './negotiation.ts'

/** Branches and tags on the page of a repository. */
const MOST_REFS = 50
/** Open pull requests on the page of a repository. */
const MOST_PULLS = 50
/** Builds of each state on the page of the queue: more than anybody reads. */
const MOST_QUEUED = 100

/** Pages for people, and the files that these load. */
export async function pagesRoutes(
  app: FastifyInstance,
  options: ServerOptions & BuildPageParts,
): Promise<void> {
  const { store } = options
  await app.register(assetsRoute)
  await app.register(badgeRoute, options)
  await app.register(buildPageRoutes, options)
  await app.register(comparePageRoutes, options)

  for (const path of ['/', '/builds']) {
    app.get(path, PAGE, async (request, reply) => {
      const query = new Query(request.query)
      const place = query.place()
      const filter = without({
        repository: query.text('repository'),
        branch: query.text('branch'),
        state: stateOf(query.text('state')),
        text: query.text('text'),
      })
      const page = await store.list(
        { ...filter, ...seenBy(request.identity) },
        { limit: PER_PAGE, ...without({ cursor: place.cursor }) },
      )
      const summaries = await store.timelines.summaries(page.builds.map(({ build }) => build.id))
      return sendPage(reply, app.site(), listPage(app.site(), filter, { ...page, summaries }, place))
    })
  }

  app.get('/repositories', PAGE, async (request, reply) => {
    const place = new Query(request.query).place()
    const page = await store.repositories({
      limit: PER_PAGE,
      ...seenBy(request.identity),
      ...without({ cursor: place.cursor }),
    })
    return sendPage(reply, app.site(), repositoriesPage(app.site(), page, place))
  })

  app.get('/repositories/:owner/:name', PAGE, async (request, reply) => {
    const { owner, name } = request.params as { owner: string; name: string }
    const asked = validRepository(`${owner}/${name}`)
    const refs = mayUse(request.identity, asked) ? await store.branches(asked, MOST_REFS) : []
    const { builds } = mayUse(request.identity, asked)
      ? await store.list({ repository: asked }, { limit: PER_PAGE })
      : { builds: [] }
    const repository = builds[0]?.build.repository
    if (repository === undefined) {
      throw new ConveyorError('not_found', `no build of ${asked} has been requested`)
    }
    const [summaries, compared, pulls] = await Promise.all([
      store.timelines.summaries(builds.map(({ build }) => build.id)),
      store.comparisons.last([repository]),
      store.pulls.open(repository, MOST_PULLS),
    ])
    const charted = builds.map(({ build }) => ({ build, summary: summaries.get(build.id) ?? null }))
    return sendPage(
      reply,
      app.site(),
      repositoryPage(app.site(), {
        name: repository,
        refs,
        builds: charted,
        compared: compared.get(repositoryKey(repository)) ?? null,
        pulls,
        mayBuild: mayUse(request.identity, repository, 'build'),
        hasPublicBadges: options.badges === 'public',
      }),
    )
  })

  app.get('/queue', PAGE, async (request, reply) => {
    const { identity } = request
    const seen = seenBy(identity)
    const [waiting, running, { workers }] = await Promise.all([
      store.waiting({ limit: MOST_QUEUED, ...seen }),
      store.list({ state: 'building', ...seen }, { limit: MOST_QUEUED }),
      readWorkers(store, identity),
    ])
    const building = running.builds.map(({ build }) => build)
    return sendPage(reply, app.site(), queuePage(app.site(), { waiting, building, workers }))
  })

  app.get('/deliveries', PAGE, async (request, reply) => {
    const query = new Query(request.query)
    const place = query.place()
    const repository = query.text('repository')
    const page = await store.ignored.list({
      limit: PER_PAGE,
      ...seenBy(request.identity),
      ...without({ repository, cursor: place.cursor }),
    })
    return sendPage(reply, app.site(), deliveriesPage(app.site(), repository, page, place))
  })
}

/** The limits of what somebody may see, for the store. */
function seenBy({ repositories }: Identity): { allowed?: readonly string[] } {
  return repositories === null ? {} : { allowed: repositories }
}

function stateOf(text: string | undefined): BuildState | undefined {
  if (text === undefined || isBuildState(text)) return text
  throw new ConveyorError('invalid', `${text.slice(0, 40)} is not a state of builds`)
}

type Present<Values> = { [Name in keyof Values]?: Exclude<Values[Name], undefined> }

/** The values that are there. */
function without<Values extends object>(values: Values): Present<Values> {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as Present<Values>
}
