import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { Postgres } from '../../src/lib/db/postgres.ts'
import { postgresLogStore } from '../../src/lib/logs/postgres/log-store.ts'
import { postgresQueue } from '../../src/lib/queue/postgres/queue.ts'
import { postgresBuildStore } from '../../src/lib/store/postgres.ts'
import type { TestPostgres } from '../../test/support/postgres.ts'
import { REPOSITORIES } from './mix.ts'

/** Databases that begin with the builds of an earlier time, so that look-ups cost what they cost in use. */
export interface Histories extends AsyncDisposable {
  /** A database aside, for who watches. */
  readonly aside: string
  /** A new copy. Answers its URL and name. */
  copy(): Promise<{ url: string; name: string }>
  drop(name: string): Promise<void>
}

/** @param builds how many builds each database begins with */
export async function makeHistories(server: TestPostgres, builds: number): Promise<Histories> {
  const [aside, template] = [await server.database(), await server.database()]
  const postgres = new Postgres({ url: template })
  await postgresBuildStore({ postgres })
  const queue = await postgresQueue({ postgres })
  await postgresLogStore({ postgres })
  await queue.close()
  await postgres.close()
  await fill(template, builds)

  const client = new pg.Client({ connectionString: aside })
  await client.connect()
  await client.query('create extension pg_stat_statements')
  return {
    aside,
    async copy() {
      const name = `simulation_${randomBytes(6).toString('hex')}`
      await client.query(`create database ${name} template ${new URL(template).pathname.slice(1)}`)
      return { url: Object.assign(new URL(template), { pathname: name }).href, name }
    },
    async drop(name) {
      await client.query(`drop database ${name} with (force)`)
    },
    [Symbol.asyncDispose]: () => client.end(),
  }
}

/** The rows that this many succeeded builds leave, without their logs. */
async function fill(url: string, builds: number): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(`
      create temporary table past as
      select i, gen_random_uuid()::text as id, 'acme/app-' || floor(${REPOSITORIES + 1} ^ random()) as repository,
        md5(i::text) || left(md5(i || 'sha'), 8) as sha, md5(i || 'tree') || left(md5(i || 'tree2'), 8) as tree,
        md5(i || 'recipe') || md5(i || 'recipe2') as hash,
        to_char(timestamp '2026-01-01' + i * interval '180 ms', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as time
      from generate_series(1, ${builds}) as i;
      insert into builds (id, sequence, repository, repository_key, sha, default_branch, cache, tree, push_order, state,
        attempt, queued, ref_repushed, reported, created_at, started_at, completed_at)
      select id, i, repository, repository, sha, 'main', 1, tree, i, 'succeeded', 1, 1, 0, 1, time, time, time from past;
      insert into build_refs (build_id, kind, name, sequence, position) select id, 'branch', 'main', i, i from past;
      insert into deliveries (id, build_id, created_at) select gen_random_uuid()::text, id, time from past;
      insert into artifacts (id, build_id, image, tags, recipe_key, recipe, tree, bases, created_at)
      select gen_random_uuid()::text, id, 'registry.example/' || repository || '@sha256:' || hash,
        json_build_array('registry.example/' || repository || ':' || sha, 'registry.example/' || repository || ':main',
          'registry.example/' || repository || ':latest')::text,
        hash, json_build_object('context', hash, 'dockerfile', hash, 'settings', hash)::text, tree, '[]', time
      from past;
      insert into tag_positions (image_name, tag, sequence)
      select 'registry.example/' || repository, tag, max(i) from past, (values ('main'), ('latest')) as tags (tag)
      group by 1, 2;
      update counters set value = ${builds} where name = 'sequence'`)
    await client.query('vacuum analyze')
  } finally {
    await client.end()
  }
}
