import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ComparisonJson, TimelineJson, timelineJson } from '../../api/timeline.ts'
import { Type } from '../../api/type.ts'
import { buildJson } from '../../api/views.ts'
import type { Build } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import {
  differingBases,
  differingLines,
  differingSettings,
  stepPairs,
} from '../../pipeline/timeline/compare.ts'
import type { BuildStore } from '../../store/build-store.ts'
import { findBuild, findBuildBy } from '../lookup.ts'
import type { ServerOptions } from '../options.ts'
import { answers, json } from './answers.ts'
import { CommitPath, IdPath } from './parameters.ts'

const GET_STEPS = {
  operationId: 'getSteps',
  tags: ['builds'],
  summary: 'Show where the time of a build went, and why steps were not cached',
  description: 'Also while it runs: then at most about two seconds old.',
  params: IdPath,
  response: answers({ 200: json('The timeline', TimelineJson) }, 404),
}
const GET_STEPS_OF_COMMIT = {
  ...GET_STEPS,
  operationId: 'getStepsOfCommit',
  summary: 'Show the timeline of the newest build of a commit',
  params: CommitPath,
}
const part = (description: string, example: string) => Type.String({ description, examples: [example] })
const COMMIT = 'web@827fecd2a1d5b8c1d2b4d4b1a0c9b7c3f0e6a5d4'
const COMPARE = {
  operationId: 'compareBuilds',
  tags: ['builds'],
  summary: 'Show how two builds differ',
  params: Type.Object({
    builds: Type.String({
      description: '`A...B`, each the id of a build, or `owner/name@sha` with the slash encoded as %2F',
      examples: ['5b6f0c1e-8d0f-4f0b-9a50-0d5e3a9c1f37...0c1e5b6f-8d0f-4f0b-9a50-0d5e3a9c1f37'],
    }),
  }),
  response: answers({ 200: json('The differences', ComparisonJson) }, 404),
}
const COMPARE_COMMIT = {
  ...COMPARE,
  operationId: 'compareBuildAndCommit',
  summary: 'Show how a build and the newest build of a commit differ',
  params: Type.Object({
    first: part('`owner`, or `id...owner`', 'acme'),
    second: part('`name@sha...id`, or `name@sha`', `${COMMIT}...5b6f0c1e-8d0f-4f0b-9a50-0d5e3a9c1f37`),
  }),
}
const COMPARE_COMMITS = {
  ...COMPARE,
  operationId: 'compareCommits',
  summary: 'Show how the newest builds of two commits differ',
  params: Type.Object({
    first: part('Owner of the first repository', 'acme'),
    second: part('`name@sha...owner`', `${COMMIT}...acme`),
    third: part('`name@sha` in the second repository', COMMIT),
  }),
}

/** GET /builds/{id | owner/name@sha}/steps, GET /compare/{A...B}. */
export async function timelinesRoutes(
  app: FastifyInstance,
  { store, baseUrl }: ServerOptions,
): Promise<void> {
  const read = { config: { scope: 'read' } } as const

  const getSteps = async (request: FastifyRequest): Promise<TimelineJson> => {
    const { id, attempt } = await findBuild(store, request)
    const timeline = await store.timelines.get(id)
    return timelineJson(
      id,
      timeline ?? { attempt, phases: [], steps: [], critical: [], missed: null, made: null },
    )
  }
  app.get('/builds/:key/steps', { ...read, schema: GET_STEPS }, getSteps)
  app.get('/builds/:owner/:name/steps', { ...read, schema: GET_STEPS_OF_COMMIT }, getSteps)

  const compare = async (request: FastifyRequest): Promise<ComparisonJson> => {
    return comparison(store, ...(await compared(store, request)), baseUrl())
  }
  app.get('/compare/:builds', { ...read, schema: COMPARE }, compare)
  app.get('/compare/:first/:second', { ...read, schema: COMPARE_COMMIT }, compare)
  app.get('/compare/:first/:second/:third', { ...read, schema: COMPARE_COMMITS }, compare)
}

/** The builds that the path of a request names. @throws ConveyorError `invalid`, or `not_found` */
export async function compared(store: BuildStore, request: FastifyRequest): Promise<[Build, Build]> {
  const both = Object.values(request.params as Record<string, string>).join('/')
  const [first = '', second = '', ...more] = both.split('...')
  if (first === '' || second === '' || more.length > 0) {
    throw new ConveyorError('invalid', 'the path must be /compare/A...B', {
      hint: 'Use ids of builds, or owner/name@sha',
    })
  }
  return [await findBuildBy(store, request, first), await findBuildBy(store, request, second)]
}

/** How two builds differ. */
export async function comparison(
  store: BuildStore,
  a: Build,
  b: Build,
  baseUrl: string,
): Promise<ComparisonJson> {
  const [{ artifact: before, timeline: left }, { artifact: after, timeline: right }] = await Promise.all([
    sideOf(store, a),
    sideOf(store, b),
  ])
  const made = left?.made && right?.made ? ([left.made, right.made] as const) : null
  const lines =
    made?.[0].instructions && made[1].instructions
      ? differingLines(made[0].instructions, made[1].instructions)
      : null
  // Only what the worker saw is known: the server has no copy of the repository.
  const missed = right?.missed?.comparedWith?.build === a.id ? right.missed : null
  const files = missed?.causes.filter((cause) => cause.kind === 'file')
  return {
    a: buildJson(a, before?.image ?? null, baseUrl),
    b: buildJson(b, after?.image ?? null, baseUrl),
    same_image: before && after ? digestOf(before.image) === digestOf(after.image) : null,
    context: {
      same: before?.recipe && after?.recipe ? before.recipe.context === after.recipe.context : null,
      files: files?.map(({ path, change }) => ({ path, change })) ?? null,
      more: files && files.length > 0 ? (missed?.more ?? 0) : 0,
    },
    bases: made && differingBases(...made),
    instructions: lines,
    settings: made && differingSettings(...made),
    steps: stepPairs(left ?? { steps: [] }, right ?? { steps: [] }),
  }
}

async function sideOf(store: BuildStore, { id }: Build) {
  const [artifact, timeline] = await Promise.all([store.artifactOf(id), store.timelines.get(id)])
  return { artifact, timeline }
}

function digestOf(image: string): string {
  return image.slice(image.indexOf('@') + 1)
}
