import type { IncomingHttpHeaders } from 'node:http'
import { PATIENCE_MS } from '../timing/patience.ts'
import { type Answer, invalid, problem } from './protocol.ts'
import type { GitHubSchema, Operation } from './schema.ts'
import type { Watchers } from './watchers.ts'

/** Check runs as GitHub keeps them: https://docs.github.com/rest/checks/runs */

interface RecordedAnnotation {
  path: string
  start_line: number
  end_line: number
  annotation_level: string
  title: string | null
  message: string
}

export interface RecordedCheckRun {
  id: number
  repository: string
  head_sha: string
  name: string
  external_id: string
  details_url: string | null
  /** Every status that it had, in order. */
  history: string[]
  status: string
  conclusion: string | null
  started_at: string | null
  completed_at: string | null
  title: string | null
  summary: string | null
  annotations: RecordedAnnotation[]
  actions: { identifier: string; label: string; description: string }[]
}

/** Who asks: as GitHub sees the token of a request. */
export interface Asker {
  repository: string
  params: Record<string, string>
  query: URLSearchParams
  /** Whether the token is that of an installation of an App. */
  isApp: boolean
  headers: IncomingHttpHeaders
}

type ServeCheck = (about: Asker, body: unknown, example: (status: number) => Json) => Answer
type Json = Record<string, unknown>

/** GitHub's limits that its description leaves out. */
const MOST_ANNOTATIONS = 50
/** Ids are larger than 32 bits. */
const FIRST_ID = 31_000_000_000

export class CheckRunsDouble {
  readonly runs: RecordedCheckRun[] = []
  /** Repositories whose installation lacks "Checks: write", in lower case. */
  readonly denied = new Set<string>()
  readonly #watchers: Watchers

  constructor(watchers: Watchers) {
    this.#watchers = watchers
  }

  /** The first run that fits, of those there are or that are made or changed later. */
  waitFor(fits: (run: RecordedCheckRun) => boolean): Promise<RecordedCheckRun> {
    const shown = () =>
      this.runs.map((run) => {
        const { repository, head_sha, history, title } = run
        return `${repository} ${head_sha.slice(0, 7)} ${history.join(', ')}: ${title}`
      })
    return this.#watchers.waitFor('check run', () => this.runs.find(fits), shown, PATIENCE_MS)
  }

  routes(schema: GitHubSchema): [Operation, ServeCheck][] {
    const at = '/repos/{owner}/{repo}'
    return [
      [schema.operation('POST', `${at}/check-runs`), this.#create],
      [schema.operation('PATCH', `${at}/check-runs/{check_run_id}`), this.#update],
      [schema.operation('GET', `${at}/check-runs/{check_run_id}`), this.#get],
      [schema.operation('GET', `${at}/commits/{ref}/check-runs`), this.#list],
    ]
  }

  readonly #create: ServeCheck = (about, body, example) => {
    const denial = this.#denial(about)
    if (denial) return denial
    const {
      name,
      head_sha,
      external_id = '',
    } = body as { name: string; head_sha: string; external_id?: string }
    const run: RecordedCheckRun = {
      id: FIRST_ID + this.runs.length,
      repository: about.repository,
      ...{ head_sha, name, external_id, details_url: null, history: [], status: 'queued', conclusion: null },
      ...{ started_at: null, completed_at: null, title: null, summary: null, annotations: [], actions: [] },
    }
    const wrong = change(run, { status: 'queued', ...(body as object) })
    if (wrong) return invalid(wrong)
    this.runs.push(run)
    this.#watchers.changed()
    return { kind: 201, body: { ...example(201), ...shown(run) } }
  }

  readonly #update: ServeCheck = (about, body, example) => {
    const run = this.#find(about)
    const denial = this.#denial(about)
    if (denial || !run) return denial ?? problem(404, 'Not Found')
    const wrong = change(run, body as Json)
    if (wrong) return invalid(wrong)
    this.#watchers.changed()
    return { kind: 200, body: { ...example(200), ...shown(run) } }
  }

  readonly #get: ServeCheck = (about, _, example) => {
    const run = this.#find(about)
    return run ? { kind: 200, body: { ...example(200), ...shown(run) } } : problem(404, 'Not Found')
  }

  readonly #list: ServeCheck = ({ repository, params, query }, _, example) => {
    const [page, size] = [Number(query.get('page') ?? 1), Number(query.get('per_page') ?? 30)]
    const name = query.get('check_name')
    const all = this.runs
      .filter(
        (run) => run.repository.toLowerCase() === repository.toLowerCase() && run.head_sha === params.ref,
      )
      .filter((run) => name === null || run.name === name)
    const newest = new Map(all.map((run) => [run.name, run]))
    const found = query.get('filter') === 'all' ? all : [...newest.values()]
    const [model] = example(200).check_runs as Json[]
    const runs = found.slice((page - 1) * size, page * size).map((run) => ({ ...model, ...shown(run) }))
    return { kind: 200, body: { total_count: found.length, check_runs: runs } }
  }

  #find({ repository, params }: Asker): RecordedCheckRun | undefined {
    const isHere = (run: RecordedCheckRun) => run.repository.toLowerCase() === repository.toLowerCase()
    return this.runs.find((run) => isHere(run) && `${run.id}` === params.check_run_id)
  }

  #denial({ isApp, repository }: Asker): Answer | null {
    if (!isApp) return problem(403, 'You must authenticate via a GitHub App.')
    if (this.denied.has(repository.toLowerCase()))
      return problem(403, 'Resource not accessible by integration')
    return null
  }
}

/** Applies a request to a run. @returns what GitHub would not accept, or null */
function change(run: RecordedCheckRun, body: Json): string | null {
  const { output, actions, ...fields } = body as Json & {
    output?: { title?: string; summary?: string; annotations?: RecordedAnnotation[] }
    actions?: RecordedCheckRun['actions']
  }
  const { annotations = [], title, summary } = output ?? {}
  if (annotations.length > MOST_ANNOTATIONS) return 'annotations exceeds a maximum quantity of 50'
  if ((actions ?? []).length > 3) return 'actions exceeds a maximum quantity of 3'
  for (const { start_line, end_line, path } of annotations) {
    if (end_line < start_line || start_line < 1 || /^\/|^\.\.?\/|\/$/.test(path))
      return 'an annotation is invalid'
  }
  if ([...(summary ?? '')].length > 65_535) return 'summary exceeds a maximum length of 65535'
  const next = { ...run, ...fields } as RecordedCheckRun
  if (fields.conclusion !== undefined) next.status = 'completed'
  if (next.status === 'completed' && next.conclusion === null) return 'conclusion is missing'
  if (run.external_id !== '' && next.external_id !== run.external_id) return 'external_id has changed'
  Object.assign(run, next, {
    ...(title !== undefined && { title }),
    ...(summary !== undefined && { summary }),
    ...(actions && { actions }),
    annotations: [...run.annotations, ...annotations],
    history: [...run.history, next.status],
  })
  return null
}

function shown(run: RecordedCheckRun): Json {
  const { repository: _, history: _history, annotations, actions: _actions, title, summary, ...fields } = run
  const annotations_url = `https://api.github.com/repos/${run.repository}/check-runs/${run.id}/annotations`
  const output = { title, summary, text: null, annotations_count: annotations.length, annotations_url }
  return { ...fields, output, pull_requests: [] }
}
