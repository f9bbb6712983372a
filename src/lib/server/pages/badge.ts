import { createHash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { Type } from '../../api/type.ts'
import { type BuildState, isEnded } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { validRefName, validRepository } from '../../core/validate.ts'
import { mayUse } from '../access/identity.ts'
import { publicAnswers } from '../api/answers.ts'
import type { ServerOptions } from '../options.ts'
import { Query } from './lists/place.ts'

/** What a badge shows. Of builds that cannot be seen it says no more than of those that do not exist. */
type BadgeState = Extract<BuildState, 'succeeded' | 'failed' | 'cancelled'> | 'unknown'

/** White text on each has a contrast of at least 4.5:1. */
const COLOURS: Record<BadgeState, string> = {
  succeeded: '#1f7a45',
  failed: '#c5313a',
  cancelled: '#666c75',
  unknown: '#666c75',
}

/** Widths of Verdana's letters, in thousandths of the size of the font. */
const WIDTHS: Record<string, number> = {
  ...{ a: 601, c: 521, d: 623, e: 596, f: 352, g: 623, i: 274, k: 592, l: 274 },
  ...{ m: 973, n: 633, o: 607, s: 521, u: 633, w: 818 },
}
const SIZE = 11
const PADDING = 7

const GET_BADGE = {
  operationId: 'getBadge',
  tags: ['repositories'],
  summary: 'Show the state of the newest ended build of a branch as an image',
  description:
    '`unknown` without such a build. With `--badges private`, the default, also without a login, whether the repository exists or not.',
  params: Type.Object({
    owner: Type.String({ description: 'Owner of the repository', examples: ['acme'] }),
    file: Type.String({ description: 'Name of the repository, and `.svg`', examples: ['web.svg'] }),
  }),
  querystring: Type.Object({
    branch: Type.Optional(Type.String({ description: 'The default branch if none is given' })),
  }),
  response: publicAnswers(
    {
      200: { description: 'The badge', content: { 'image/svg+xml': { schema: Type.String() } } },
      304: { description: 'It is still the same' },
    },
    400,
    404,
  ),
}

/** GET /badge/OWNER/NAME.svg?branch=: the state of the newest ended build of a branch, the default branch if none is given. */
export async function badgeRoute(app: FastifyInstance, options: ServerOptions): Promise<void> {
  const isPublic = options.badges === 'public'
  app.get(
    '/badge/:owner/:file',
    { schema: GET_BADGE, config: { public: isPublic ? true : 'identified' } },
    async (request, reply) => {
      const { owner, file } = request.params as { owner: string; file: string }
      if (!file.endsWith('.svg')) return reply.callNotFound()
      const repository = `${owner}/${file.slice(0, -'.svg'.length)}`
      const isVisible = isPublic || mayUse(request.identity, repository)
      const branch = new Query(request.query).text('branch')
      const state = isVisible ? await stateOf(repository, branch, options) : 'unknown'
      const svg = badge(state)
      const etag = `"${createHash('sha1').update(svg).digest('base64url')}"`
      // GitHub's proxy asks again each time. It loads neither scripts nor fonts, and the badge has none.
      reply.headers({ 'cache-control': 'no-cache', etag })
      if (request.headers['if-none-match'] === etag) return reply.code(304).send()
      return reply.type('image/svg+xml; charset=utf-8').send(svg)
    },
  )
}

/** How many builds may be running at the head of a branch before its last result is not looked for any more. */
const MOST_RUNNING = 20

async function stateOf(
  repository: string,
  branch: string | undefined,
  { store }: Pick<ServerOptions, 'store'>,
): Promise<BadgeState> {
  if (!isValid(() => validRepository(repository))) return 'unknown'
  if (branch !== undefined && !isValid(() => validRefName(branch))) return 'unknown'
  const of = async (name: string | undefined) =>
    (await store.list({ repository, ...(name && { branch: name }) }, { limit: MOST_RUNNING })).builds
  const builds = await of(branch)
  const main = builds.find(({ build }) => build.defaultBranch !== null)?.build.defaultBranch
  const wanted = branch === undefined && main ? await of(main) : builds
  const ended = wanted.find(({ build }) => isEnded(build.state))
  return (ended?.build.state as BadgeState | undefined) ?? 'unknown'
}

/** Whether a value that anyone may have sent is valid. */
function isValid(parse: () => unknown): boolean {
  try {
    parse()
    return true
  } catch (error) {
    if (error instanceof ConveyorError) return false
    throw error
  }
}

/** Width of a text in pixels. */
function widthOf(text: string): number {
  return [...text].reduce((sum, letter) => sum + (WIDTHS[letter] ?? 600), 0) * (SIZE / 1000)
}

/** The SVG image. Where Verdana is missing, `textLength` fits another font to its widths. */
export function badge(state: BadgeState): string {
  const [left, right] = ['image', state].map((text) => {
    const width = widthOf(text)
    return { text, width, box: Math.round(width + 2 * PADDING) }
  }) as [Part, Part]
  const text = ({ text, width, box }: Part, x: number) =>
    `<text x="${x + (box - width) / 2}" y="14" textLength="${width.toFixed(2)}" lengthAdjust="spacingAndGlyphs">${text}</text>`
  const width = left.box + right.box
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="20" role="img" aria-label="image: ${state}"><title>image: ${state}</title><clipPath id="r"><rect width="${width}" height="20" rx="4"/></clipPath><g clip-path="url(#r)"><path fill="#3b4048" d="M0 0h${left.box}v20H0z"/><path fill="${COLOURS[state]}" d="M${left.box} 0h${right.box}v20H${left.box}z"/></g><g fill="#fff" font-family="Verdana,'DejaVu Sans',Geneva,sans-serif" font-size="${SIZE}">${text(left, 0)}${text(right, left.box)}</g></svg>`
}

interface Part {
  text: string
  /** Of the text, and with padding around it. */
  width: number
  box: number
}
