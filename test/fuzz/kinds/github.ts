import {
  appManifest,
  convertManifest,
  manifestTarget,
  setAppSecret,
  validCode,
} from '../../../src/lib/forge/github/manifest.ts'
import { pullRequests } from '../../../src/lib/forge/github/pulls.ts'
import { githubApi } from '../../../src/lib/forge/github/requests.ts'
import { githubSignIn } from '../../../src/lib/forge/github/sign-in.ts'
import { personalTokens } from '../../../src/lib/forge/github/tokens.ts'
import type { Chance } from '../generate/chance.ts'
import { mutated, ODD } from '../generate/mutate.ts'
import { excerpt, type Kind, mayRefuse, plain } from '../kind.ts'

const SHA = 'a'.repeat(40)
const VALUES: unknown[] = [
  ...[
    null,
    true,
    0,
    -1,
    1.5,
    1e21,
    '',
    'x',
    [],
    {},
    [[]],
    'acme/app',
    'a/b/c',
    '../..',
    SHA,
    'x'.repeat(70_000),
  ],
  ...[
    'admin',
    'write',
    'none',
    'closed',
    '2030-01-02T03:04:05Z',
    'javascript:x',
    '\0',
    '\ud800',
    '__proto__',
  ],
]

/** An answer with everything that is read of it, for each request. */
const PULL = {
  number: 7,
  title: 'Greet people',
  state: 'open',
  updated_at: '2030-01-02T03:04:05Z',
  user: { login: 'ada' },
  head: { sha: SHA, ref: 'topic', repo: { full_name: 'mallory/app' } },
}
const APP = {
  ...{ id: 1, name: 'Conveyor', html_url: 'https://github.com/apps/conveyor', client_id: 'Iv1.x' },
  ...{ client_secret: 'secret', webhook_secret: 'secret', pem: 'PEM' },
}
const SIGNED_IN = { access_token: 'ghu_x', expires_in: 28_800 }
const PERSON = { id: 1, login: 'ada' }
const INSTALLATIONS = { installations: [{ id: 1 }, { id: 2 }] }
const repository = (at: number) => ({
  full_name: `acme/app${at}`,
  permissions: { pull: true, push: at % 2 === 0 },
})
const REPOSITORIES = { repositories: Array.from({ length: 100 }, (_, at) => repository(at)) }
const MESSAGE = { message: 'Greet people\n\n[skip ci]' }
const STATUSES = [200, 200, 200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 422, 429, 500, 503]

/** Answers of GitHub, or of what is there in its place, to requests about people, Apps, and pull requests. */
export const githubKind: Kind = {
  share: 4,
  least: 300,
  parsers: ['forge/github/manifest.ts', 'forge/github/sign-in.ts', 'forge/github/pulls.ts'],
  open: plain((chance) => {
    const what = chance.whole(0, 5)
    const answers = [
      [PULL],
      [{ permission: chance.one(['admin', 'write', 'read', 'none', 'maintain']) }],
      [MESSAGE],
      [APP],
      [SIGNED_IN, PERSON],
      [INSTALLATIONS, REPOSITORIES, REPOSITORIES, { repositories: [] }, REPOSITORIES],
    ][what]?.map((one) => drawAnswer(chance, one))
    let next = 0
    const fetch = async () => {
      const { status, text } = answers?.[next++ % answers.length] ?? { status: 404, text: '{}' }
      const headers = {
        'content-type': chance.one(['application/json', 'application/json', 'text/html', '']),
      }
      return new Response(status === 204 ? null : text, { status, headers })
    }
    const options = { baseUrl: 'https://api.github.com', fetch, retryDelaysMs: [], sleep: async () => {} }
    return {
      shown: () => `${what} ${answers?.map(({ status, text }) => `${status} ${excerpt(text)}`).join(' ')}`,
      run: () =>
        mayRefuse(async () => {
          const api = githubApi({ ...options, tokens: personalTokens('ghp_x') })
          const signIn = githubSignIn({
            ...options,
            webUrl: 'https://github.com',
            clientId: 'x',
            clientSecret: 'y',
          })
          const pulls = pullRequests(api)
          signIn.url({ state: chance.one(ODD), challenge: 'x', redirectUri: chance.one(ODD) })
          if (what === 0) await pulls.pull('acme/app', 7)
          else if (what === 1) await pulls.permission('acme/app', 'ada')
          else if (what === 2) await pulls.message('acme/app', SHA)
          else if (what === 3) {
            const at = `https://${chance.one(ODD)}.example.com`.toWellFormed()
            manifestTarget(
              'https://github.com',
              chance.one([null, ...ODD.filter((one) => one.isWellFormed())]),
              at,
            )
            if (URL.canParse(at)) appManifest({ base: at, webhook: at, redirect: at, login: at })
            if (chance.percent(20)) await setAppSecret(api, 'secret')
            await convertManifest(api, validCode(chance.percent(5) ? chance.one(ODD) : 'code'))
          } else if (what === 4)
            await signIn.finish({ code: 'x', verifier: 'y', redirectUri: 'https://conveyor.example.com/' })
          else await signIn.roles('ghu_x')
        }),
    }
  }),
}

function drawAnswer(chance: Chance, valid: object): { status: number; text: string } {
  const copy = structuredClone(valid) as Record<string, unknown>
  if (chance.percent(60)) changeSomewhere(chance, copy)
  const json = JSON.stringify(copy)
  const status = chance.percent(70) ? 200 : chance.one(STATUSES)
  if (chance.percent(1)) return { status, text: chance.one(['[', '{"a":', ' ', 'x']).repeat(1 << 20) }
  return { status, text: chance.percent(25) ? mutated(chance, json, ODD) : json }
}

function changeSomewhere(chance: Chance, value: Record<string, unknown>): void {
  const name = chance.one(Object.keys(value))
  const inside = value[name]
  if (typeof inside === 'object' && inside !== null && Object.keys(inside).length > 0 && chance.percent(70))
    changeSomewhere(chance, inside as Record<string, unknown>)
  else if (chance.percent(15)) delete value[name]
  else value[name] = structuredClone(chance.one(VALUES))
}
