import type { Octokit } from '@octokit/rest'
import { validSha } from '../../core/validate.ts'
import type { CheckAnnotation, CheckRun, KnownCheckRun } from '../forge.ts'
import { isDenied } from './errors.ts'
import { notGitHub, type RequestSettings } from './requests.ts'
import { shortLine } from './texts.ts'

/** GitHub's limits: https://docs.github.com/rest/checks/runs */
const MOST_ANNOTATIONS = 50
const LONGEST_TITLE = 255
const LONGEST_SUMMARY = 65_535
const LONGEST_MESSAGE = 64 * 1024
/** Runs of a commit that are searched for that of a build, in pages of 100. */
const MOST_PAGES = 10

interface Call {
  api: Octokit
  /** `owner` and `repo`. */
  at: { owner: string; repo: string }
  /** Sends a request, and again after temporary failures. */
  send: <T>(request: (settings: RequestSettings) => Promise<T>) => Promise<T>
  /** The runs' name. */
  name: string
  /** Completes "cannot ...". */
  action: string
}

/**
 * Creates or updates the check run of a build. GitHub appends the annotations of a request to those of the requests
 * before, and a request without an answer may have arrived: so what is there is looked at before anything is sent again.
 * @returns the id of the run; null if GitHub refuses check runs: whoever asks is no App, or may not write them
 * @throws ConveyorError
 */
export async function setCheckRun(run: CheckRun, known: KnownCheckRun, call: Call): Promise<number | null> {
  try {
    if (known.id !== null) {
      await update(run, known.id, null, call)
      return known.id
    }
    const { id, sent } = await create(run, known.mayExist, call)
    if (sent === null || sent < run.annotations.length) await update(run, id, sent, call)
    return id
  } catch (thrown) {
    if (thrown instanceof Denied) return null
    throw thrown
  }
}

/** GitHub denies check runs, whatever is sent. */
class Denied extends Error {}

/** How many annotations a run has; null if that has to be looked up, and the run may have another status. */
type Sent = number | null

async function create(run: CheckRun, mayExist: boolean, call: Call): Promise<{ id: number; sent: Sent }> {
  const first = run.annotations.slice(0, MOST_ANNOTATIONS)
  let isNew = !mayExist
  return unlessDenied(call, async (request) => {
    const found = isNew ? null : await find(run, call, request)
    if (found !== null) return { id: found, sent: null }
    isNew = false
    const made = { ...call.at, name: call.name, head_sha: validSha(run.sha), external_id: run.buildId }
    const { data } = await call.api.checks.create({ ...made, ...fieldsOf(run, first), request })
    if (!Number.isSafeInteger(data.id)) throw notGitHub(call.action)
    return { id: data.id, sent: first.length }
  })
}

/** The id of the run that was made for a build, whoever made it. */
async function find(
  { sha, buildId }: CheckRun,
  { api, at, name, action }: Call,
  request: RequestSettings,
): Promise<number | null> {
  const asked = {
    ...at,
    ref: validSha(sha),
    check_name: name,
    filter: 'all' as const,
    per_page: 100,
    request,
  }
  for (let page = 1; page <= MOST_PAGES; page += 1) {
    const { data } = await api.checks.listForRef({ ...asked, page })
    if (!Array.isArray(data.check_runs)) throw notGitHub(action)
    const found = data.check_runs.find(({ external_id }) => external_id === buildId)
    if (found) return found.id
    if (data.check_runs.length < 100) break
  }
  return null
}

/** Sends the status of a run, and the annotations that it lacks. */
async function update(run: CheckRun, id: number, known: Sent, call: Call): Promise<void> {
  const { api, at, action } = call
  const { annotations } = run
  let sent = known
  do {
    sent = await unlessDenied(call, async (request) => {
      if (annotations.length > 0 && sent === null) {
        const { data } = await api.checks.get({ ...at, check_run_id: id, request })
        sent = data.output?.annotations_count
        if (!Number.isSafeInteger(sent)) throw notGitHub(action)
      }
      const from = sent ?? 0
      const next = annotations.slice(from, from + MOST_ANNOTATIONS)
      // Until the answer arrives, nobody knows.
      sent = null
      await api.checks.update({ ...at, check_run_id: id, ...fieldsOf(run, next), request })
      return from + next.length
    })
  } while (sent < annotations.length)
}

function fieldsOf(run: CheckRun, annotations: CheckAnnotation[]) {
  const { status, conclusion, startedAt, completedAt, detailsUrl, title, summary, actions } = run
  return {
    status,
    ...(conclusion !== null && { conclusion }),
    ...(startedAt !== null && { started_at: startedAt }),
    ...(completedAt !== null && { completed_at: completedAt }),
    details_url: detailsUrl,
    output: {
      title: shortLine(title, LONGEST_TITLE),
      summary: summary.slice(0, LONGEST_SUMMARY).toWellFormed(),
      ...(annotations.length > 0 && { annotations: annotations.map(annotation) }),
    },
    actions,
  }
}

function annotation({ path, startLine, endLine, level, title, message }: CheckAnnotation) {
  return {
    path,
    start_line: startLine,
    end_line: endLine,
    annotation_level: level,
    title: shortLine(title, LONGEST_TITLE),
    // In characters of at most four bytes.
    message: message.slice(0, LONGEST_MESSAGE / 4).toWellFormed(),
  }
}

/** Sends requests, again after temporary failures. @throws Denied */
async function unlessDenied<T>(
  { send }: Call,
  request: (settings: RequestSettings) => Promise<T>,
): Promise<T> {
  const answer = await send(async (options) => {
    try {
      return { value: await request(options) }
    } catch (thrown) {
      if (isDenied(thrown)) return null
      throw thrown
    }
  })
  if (answer === null) throw new Denied()
  return answer.value
}
