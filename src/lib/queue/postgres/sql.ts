/**
 * The statements of the Postgres queue. `now()` is the start of the statement by the server's clock, the only one that
 * decides about leases.
 *
 * A job is ready once its `available_at` has passed: when it was sent, when the delay after its release is over, or when
 * its lease has ended. (build_id, seq, deliveries) identifies one delivery.
 */

/** Each process is notified on its own channel, so that others are not disturbed. */
export function channelOf(id: string): string {
  return `conveyor_queue_${id}`
}

/** 1: build id, 2: repository, 3: lane, 4: round. A build that is already queued can only get into a better lane. */
export const SEND = `
  insert into queue_jobs (build_id, repository, lane, round) values ($1, $2, $3, $4)
  on conflict (build_id) do update set lane = excluded.lane, round = excluded.round
    where excluded.lane < queue_jobs.lane
  returning build_id`

/**
 * Leases one job, or tells when there may be one.
 *
 * 1: repositories that the caller is warm for, 2: the caller, 3: lease in seconds, 4: for how many seconds a job is
 * reserved for other waiting processes that are warm for it, 5: how many seconds younger than the job whose turn it is
 * one may be for the caller to take it first because it is warm for it. One of a later round can do so only as long as
 * that job might be reserved, too: so warm workers delay the jobs of other repositories by no more than that.
 *
 * Rows that another caller is just claiming are skipped, so callers never wait for each other.
 */
export const CLAIM = `
  with head as materialized (
    select lane, round, queued_at, available_at from queue_jobs
    where available_at <= now() order by lane, round, seq limit 1
  ), warm_job as materialized (
    select build_id from queue_jobs as job, head
    where job.available_at <= now() and job.repository = any($1::text[]) and job.lane = head.lane
      and (job.round = head.round or head.available_at > now() - make_interval(secs => $4::float8))
      and job.queued_at <= head.queued_at + make_interval(secs => $5::float8)
    order by job.lane, job.round, job.seq limit 1 for update of job skip locked
  ), any_job as materialized (
    select build_id from queue_jobs
    where available_at <= now() and not exists (select from warm_job)
      and (available_at <= now() - make_interval(secs => $4::float8) or repository not in (
        select unnest(warm) from queue_waiters
        where id <> $2 and expires_at > now() and (waiting > 0 or woken_at > now() - interval '1 second')))
    order by lane, round, seq limit 1 for update skip locked
  ), claimed as (
    update queue_jobs
    set deliveries = deliveries + 1, leased = true, available_at = now() + make_interval(secs => $3::float8)
    where build_id in (select build_id from warm_job union all select build_id from any_job)
    returning build_id, repository, seq, deliveries
  )
  select claimed.*, case when claimed.build_id is null then (
    select extract(epoch from min(case when available_at > now() then available_at
      else available_at + make_interval(secs => $4::float8) end) - now())::float8 from queue_jobs
  ) end as next_seconds
  from (select) as always left join claimed on true`

export interface ClaimRow {
  build_id: string | null
  repository: string
  seq: string
  /** Number of this delivery. */
  deliveries: number
  /** Seconds until a job may be ready; null if the queue is empty. */
  next_seconds: number | null
}

/** 1-3: the delivery, 4: seconds. */
export const EXTEND = `
  update queue_jobs set available_at = now() + make_interval(secs => $4::float8)
  where build_id = $1 and seq = $2 and deliveries = $3 and leased returning build_id`

/** 1-3: the delivery. */
export const ACKNOWLEDGE = `
  delete from queue_jobs where build_id = $1 and seq = $2 and deliveries = $3 and leased returning build_id`

/** 1-3: the delivery, 4: seconds until it is ready. */
export const RELEASE = `
  update queue_jobs
  set leased = false, available_at = now() + make_interval(secs => $4::float8)
  where build_id = $1 and seq = $2 and deliveries = $3 and leased returning build_id`

/**
 * Wakes one waiting process, and counts one of its receivers as taken, so that several jobs wake as many receivers.
 * Runs after the job is committed: a process that is not yet seen waiting here will see the job.
 * 1: repository of the job; processes that are warm for it come first, then those with the most waiting receivers.
 */
export const WAKE = `
  with chosen as (
    select id from queue_waiters where waiting > 0 and expires_at > now()
    order by ($1 = any(warm)) desc, waiting desc, random() limit 1 for update skip locked
  )
  update queue_waiters set waiting = waiting - 1, woken_at = now()
  from chosen where queue_waiters.id = chosen.id
  returning pg_notify('${channelOf('')}' || chosen.id, '')`

/** 1: process, 2: how many of its receivers wait, 3: repositories that it is warm for, 4: seconds until this expires. */
export const WAIT = `
  insert into queue_waiters (id, waiting, warm, expires_at)
  values ($1, $2, $3, now() + make_interval(secs => $4::float8))
  on conflict (id) do update set waiting = excluded.waiting, warm = excluded.warm, woken_at = null,
    expires_at = excluded.expires_at
  returning (select count(*)::int from queue_waiters where expires_at > now()) as processes`

/** 1: process. Returns whether it was woken since its last WAIT; from now on it is not waiting. */
export const LEAVE = `
  with before as (select id, woken_at is not null as woken from queue_waiters where id = $1 for update)
  update queue_waiters set waiting = 0, woken_at = null
  from before where queue_waiters.id = before.id returning before.woken`

/** 1: process. Also removes processes that were killed. */
export const FORGET = `delete from queue_waiters where id = $1 or expires_at < now() - interval '1 minute'`

export const DEPTH = `
  select count(*) filter (where available_at <= now())::int as ready,
    count(*) filter (where leased and available_at > now())::int as leased,
    coalesce(extract(epoch from now() - min(available_at) filter (where available_at <= now())), 0)::float8
      as "oldestSeconds"
  from queue_jobs`
