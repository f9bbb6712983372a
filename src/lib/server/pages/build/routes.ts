import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Build, isEnded } from '../../../core/build.ts'
import { mayUse } from '../../access/identity.ts'
import { type FollowParts, isLogComplete } from '../../logs/follow.ts'
import type { LineIndex, LineIndexes } from '../../logs/line-index.ts'
import { inTurns, readRows, rowRenderer } from '../../logs/read-rows.ts'
import { findBuild } from '../../lookup.ts'
import { type Html, html } from '../html.ts'
import { type PageContent, type Site, sendPage } from '../layout.ts'
import { PAGE } from '../negotiation.ts'
import { previousBuild } from './compare.ts'
import { failureHtml, readFailure } from './failure.ts'
import { buildHead, buildTitle } from './head.ts'
import { logHtml } from './log.ts'

/** How long a page waits until a log is indexed, in milliseconds; scripts load the rest, and the head again. */
const INDEX_MS = 600
/** The part of the log that comes with the page. */
const MAX_ROWS = 1500
const MAX_BYTES = 256 * 1024

/** What pages of builds are made of. */
export type BuildPageParts = Pick<FollowParts, 'store' | 'logs' | 'logGraceMs'> & { indexes: LineIndexes }

/** The page of a build, at GET /builds/{id | owner/repo@sha}. */
export async function buildPageRoutes(app: FastifyInstance, parts: BuildPageParts): Promise<void> {
  const show = async (request: FastifyRequest, reply: FastifyReply) => {
    const build = await findBuild(parts.store, request)
    const mayBuild = mayUse(request.identity, build.repository, 'build')
    return sendPage(reply, app.site(), await buildPage(app.site(), build, mayBuild, parts))
  }
  app.get('/builds/:key', PAGE, show)
  app.get('/builds/:owner/:name', PAGE, show)
}

/**
 * The head of a build's page as it is now.
 * @param mayBuild whether the reader may cancel and retry builds
 * @param isIndexed whether the log has been read to its current end; if not, a failure is shown without its last lines
 */
export async function currentHead(
  site: Site,
  build: Build,
  { mayBuild, isIndexed }: { mayBuild: boolean; isIndexed: boolean },
  { store, logs, indexes }: BuildPageParts,
): Promise<Html> {
  const index = indexes.of(build.id)
  const [artifact, timeline, previous, notifications] = await Promise.all([
    build.state === 'succeeded' ? store.artifactOf(build.id) : null,
    store.timelines.get(build.id),
    isEnded(build.state) ? previousBuild(store, build) : null,
    isEnded(build.state) ? store.notifications.ofBuild(build.id) : [],
  ])
  const failure = isEnded(build.state) ? await readFailure(build, logs, isIndexed ? index : null) : null
  return buildHead(site, {
    build,
    artifact,
    ...{ timeline, previous, notifications, mayBuild },
    failure: failure && failureHtml(build.state, failure, timeline?.excerpt, index),
  })
}

function isSoonIndexed(index: LineIndex): Promise<boolean> {
  return Promise.race([index.update().then(() => true), sleep(INDEX_MS, false)])
}

async function buildPage(
  site: Site,
  build: Build,
  mayBuild: boolean,
  parts: BuildPageParts,
): Promise<PageContent> {
  const index = parts.indexes.of(build.id)
  const isIndexed = await isSoonIndexed(index)
  const head = await currentHead(site, build, { mayBuild, isIndexed }, parts)
  const ended = isEnded(build.state)
  const all = { from: 1, to: Math.min(MAX_ROWS, index.rows + 1), ended, maxBytes: MAX_BYTES }
  const read = await readRows(parts.logs, build.id, index, all)
  const render = rowRenderer(index)
  const rows = await inTurns(read, (row) => ({ ...row, html: render(row) }))
  const last = rows.at(-1)?.row ?? 0
  const isComplete = isIndexed && last >= index.rows + (ended && index.isCut ? 1 : 0)
  const log = {
    isComplete,
    isEnded: ended,
    isFollowed: !(await isLogComplete(parts, build, index.size)),
  }
  return {
    title: buildTitle(build),
    state: build.state,
    section: 'builds',
    styles: ['log.css'],
    scripts: ['log.js'],
    main: html`<section id="build-head" data-complete="${String(isIndexed)}">${head}</section>
${logHtml({ url: `${site.path}/logs/${build.id}`, rows, ...log }, index)}`,
  }
}
