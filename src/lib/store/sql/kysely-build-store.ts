import { type Kysely, sql, type Transaction } from 'kysely'
import { repositoryKey } from '../../core/repository-key.ts'
import type { BuildStore } from '../build-store.ts'
import { accept, newestOf, nextSequence } from './accept.ts'
import { kyselyAttempts } from './attempts.ts'
import { kyselyCheckRuns } from './check-runs.ts'
import { kyselyComparisons } from './comparing/comparisons.ts'
import type { StoreDialect } from './dialect.ts'
import { kyselyLeases } from './fleet/leases.ts'
import { kyselyWorkers } from './fleet/workers.ts'
import { listBuilds } from './lists/builds.ts'
import { describeCommit } from './lists/commit.ts'
import { KEYS_KEPT_S, keepKey, keyedBuild } from './lists/idempotency.ts'
import { kyselyIgnored } from './lists/ignored.ts'
import { placeRefs } from './lists/places.ts'
import { listRefs, listRepositories } from './lists/repositories.ts'
import { mayMove } from './move-tags.ts'
import { kyselyNotifications, pruneNotifications } from './outbound/notifications.ts'
import { kyselyPulls } from './pulls/pulls.ts'
import { announced, spellingOf } from './pushes.ts'
import {
  isId,
  readArtifact,
  readArtifacts,
  readBuild,
  readBuilds,
  readBuildsStartingWith,
  readCommitsStartingWith,
  recipeKey,
} from './rows.ts'
import { ended, inFlight, notReported, type Schema, waiting } from './schema.ts'
import { kyselyAccessTokens } from './secrets/access-tokens.ts'
import { kyselySecret } from './secrets/secrets.ts'
import { kyselySessions } from './secrets/sessions.ts'
import { kyselySyncRecords } from './sync-records.ts'
import { ownTag } from './tag-owners.ts'
import { kyselyTimelines } from './timelines.ts'
import { waitingBuilds } from './waiting/list.ts'

/** GitHub allows redeliveries for three days; a month is on the safe side. */
const DELIVERIES_KEPT_S = 30 * 24 * 60 * 60
const PRUNE_EVERY_MS = 60 * 60 * 1000
/** How many builds `recentArtifacts` searches: all workers may call it at once, when they start. */
const RECENT_BUILDS = 5000

/**
 * The build store on any SQL database that Kysely supports. Every change of state is one UPDATE whose WHERE names the
 * previous state, so two writers can never both win.
 */
export function kyselyBuildStore(db: Kysely<Schema>, dialect: StoreDialect): BuildStore {
  const { time } = dialect
  let pruned = Number.NEGATIVE_INFINITY

  async function prune(trx: Transaction<Schema>): Promise<void> {
    const at = performance.now()
    if (at - pruned < PRUNE_EVERY_MS) return
    const cutoff = time(-DELIVERIES_KEPT_S)
    await trx.deleteFrom('deliveries').where('created_at', '<', cutoff).execute()
    // BuildKits come and go, and drop unused files after a while.
    await trx.deleteFrom('context_syncs').where('updated_at', '<', cutoff).execute()
    await trx.deleteFrom('idempotency_keys').where('created_at', '<', time(-KEYS_KEPT_S)).execute()
    await pruneNotifications(trx, time)
    await placeRefs(trx)
    pruned = at
  }

  return {
    syncs: kyselySyncRecords(dialect),
    timelines: kyselyTimelines(db, dialect),
    workers: kyselyWorkers(db, dialect),
    notifications: kyselyNotifications(db, dialect),
    checkRuns: kyselyCheckRuns(db, dialect),
    leases: kyselyLeases(dialect),
    comparisons: kyselyComparisons(db, dialect),
    waiting: (page) => waitingBuilds(db, page),
    tokens: kyselyAccessTokens(db, dialect),
    sessions: kyselySessions(db, dialect),
    secret: (name) => kyselySecret(dialect, name),

    accept(request, key) {
      return dialect.writeInOrder(async (trx) => {
        await prune(trx)
        return accept(trx, request, time, key)
      })
    },

    async repeated(key) {
      const id = await keyedBuild(db, key, time(-KEYS_KEPT_S))
      return id === null ? null : readBuild(db, id)
    },

    keep: (key, buildId) =>
      dialect.write(async (trx) => {
        await keepKey(trx, key, buildId, time)
        await keyedBuild(trx, key, time(-KEYS_KEPT_S))
      }),

    reserveSequence: () => dialect.writeInOrder(nextSequence),

    get: (id) => readBuild(db, id),

    commitsStartingWith: (repository, prefix, limit) =>
      readCommitsStartingWith(db, { repository, prefix, limit }),

    startingWith: (prefix, limit) => readBuildsStartingWith(db, prefix, limit),

    list: (filter, page) => listBuilds(db, filter, page),

    repositories: (listing) => listRepositories(db, listing),

    branches: (repository, limit) => listRefs(db, repository, limit),

    ignored: kyselyIgnored(db, dialect),

    describe: (id, commit) => dialect.write((trx) => describeCommit(trx, id, commit)),

    pulls: kyselyPulls(db, dialect),

    async newest(repository, sha, pull) {
      const found = await newestOf(db, repository, sha, pull)
      return found ? readBuild(db, found.id) : null
    },

    announced: (repository, sha, ref) => announced(db, repository, sha, ref),

    spelling: (repository) => spellingOf(db, repositoryKey(repository)),

    unfinished: () => readBuilds(db, (query) => query.where(inFlight)),

    async markQueued(id) {
      await dialect.write((trx) =>
        trx.updateTable('builds').set({ queued: 1 }).where('id', '=', id).execute(),
      )
    },

    unqueued: (seconds) =>
      readBuilds(db, (query) =>
        query
          .where(inFlight)
          .where(waiting)
          .where('builds.queued', '=', 0)
          .where('builds.created_at', '<=', time(-seconds)),
      ),

    idle: (seconds) =>
      readBuilds(db, (query) =>
        query.where(inFlight).where(
          sql<boolean>`case when ${waiting} then coalesce(builds.retry_at, builds.created_at)
              else coalesce(builds.held_until, builds.started_at) end <= ${time(-seconds)}`,
        ),
      ),

    ...kyselyAttempts(db, dialect),

    async artifact(id) {
      return isId(id) ? readArtifact(db, (query) => query.where('artifacts.id', '=', id)) : null
    },

    async artifactOf(id) {
      return isId(id) ? readArtifact(db, (query) => query.where('artifacts.build_id', '=', id)) : null
    },

    newestArtifact: (repository, sha) =>
      readArtifact(db, (query) =>
        query
          .where('builds.repository_key', '=', repositoryKey(repository))
          .where('builds.sha', '=', sha)
          .where('builds.fork', '=', 0),
      ),

    artifactsByRecipe: (repository, recipe, limit) =>
      readArtifacts(
        db,
        (query) =>
          query
            .where('artifacts.recipe_key', '=', recipeKey(recipe))
            .where('builds.repository_key', '=', repositoryKey(repository))
            .where('builds.fork', '=', 0),
        limit,
      ),

    artifactsByTree: (repository, tree, limit) =>
      readArtifacts(
        db,
        (query) =>
          query
            .where('artifacts.tree', '=', tree)
            .where('builds.repository_key', '=', repositoryKey(repository))
            .where('builds.fork', '=', 0),
        limit,
      ),

    lastArtifact: (repository, refs) =>
      readArtifact(db, (query) => {
        const ofRepository = query.where('builds.repository_key', '=', repositoryKey(repository))
        if (refs.length === 0) return ofRepository.where('builds.fork', '=', 0)
        return ofRepository.where((eb) =>
          eb.exists(
            eb
              .selectFrom('build_refs')
              .select('build_refs.build_id')
              .whereRef('build_refs.build_id', '=', 'builds.id')
              .where((ref) =>
                ref.or(
                  refs.map(({ kind, name }) => ref.and({ 'build_refs.kind': kind, 'build_refs.name': name })),
                ),
              ),
          ),
        )
      }),

    artifactsTagged: (repository, name, limit) =>
      readArtifacts(
        db,
        (query) =>
          query
            .where('builds.repository_key', '=', repositoryKey(repository))
            // `tags` is JSON, so a quoted name is a whole one. In SQLite, LIKE would ignore case.
            .where(sql<boolean>`replace(artifacts.tags, ${JSON.stringify(name)}, '') <> artifacts.tags`)
            .orderBy(pushedAtOf, 'desc')
            .orderBy('builds.push_order', 'desc'),
        limit,
      ),

    async commitsOf(image) {
      const rows = await db
        .selectFrom('artifacts')
        .innerJoin('builds', 'builds.id', 'artifacts.build_id')
        .select('builds.sha')
        .where('artifacts.image', '=', image)
        .orderBy('builds.sequence')
        .execute()
      return [...new Set(rows.map(({ sha }) => sha))]
    },

    recentArtifacts: (limit) =>
      readArtifacts(
        db,
        (query) =>
          query.where('builds.sequence', 'in', (eb) =>
            eb
              .selectFrom((all) =>
                all
                  .selectFrom('builds')
                  .select(['id', 'sequence', 'repository_key'])
                  .where('fork', '=', 0)
                  .orderBy('sequence', 'desc')
                  .limit(RECENT_BUILDS)
                  .as('newest'),
              )
              .innerJoin('artifacts as made', 'made.build_id', 'newest.id')
              .select((select) => select.fn.max('newest.sequence').as('sequence'))
              .groupBy('newest.repository_key'),
          ),
        limit,
      ),

    moveTags: (imageName, moves, put, settle) =>
      dialect.lockImage(imageName, async () => {
        const mine = await mayMove({ db, write: dialect.write }, imageName, moves, settle)
        const puts = await Promise.allSettled(mine.map(async (tag) => put(tag)))
        const failed = puts.find((result) => result.status === 'rejected')
        if (failed) throw failed.reason
        return mine
      }),

    dropTag: (imageName, ref, remove) =>
      dialect.lockImage(imageName, async () => {
        const tag = await ownTag(db, imageName, ref)
        if (tag !== null) await remove(tag)
        return tag
      }),

    unreported: (seconds = 0) =>
      readBuilds(db, (query) =>
        query
          .where(ended)
          .where(notReported)
          .$if(seconds > 0, (all) => all.where('builds.completed_at', '<=', time(-seconds))),
      ),

    async isUnreported(id) {
      if (!isId(id)) return false
      const query = db.selectFrom('builds').select('id').where('id', '=', id)
      return (await query.where(ended).where(notReported).executeTakeFirst()) !== undefined
    },

    markReported(id) {
      return dialect.write(async (trx) => {
        await trx.updateTable('builds').set({ reported: 1 }).where('id', '=', id).where(ended).execute()
      })
    },

    async check() {
      // Writes the existing value, which a full disk or a standby rejects.
      await dialect.write((trx) =>
        trx.updateTable('counters').set({ value: sql`value` }).where('name', '=', 'take-overs').execute(),
      )
    },

    close: () => dialect.close(),
  }
}

/** SQL: the time of the push that a build's `push_order` refers to, in seconds since 1970. */
const pushedAtOf = sql<number>`coalesce(
  (select pushed_at from pushes where pushes.sequence = builds.push_order), 0)`
