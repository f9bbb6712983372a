import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { readGitmodules } from '../../../src/lib/source/context/gitmodules.ts'
import { Git } from '../../../src/lib/source/git/git.ts'
import { gitHeads } from '../../../src/lib/source/git/heads.ts'
import { accessTo, originOf, submoduleUrl } from '../../../src/lib/source/git/submodule-url.ts'
import { LfsServer } from '../../../src/lib/source/lfs/batch.ts'
import { readLfsConfig } from '../../../src/lib/source/lfs/config.ts'
import { endpointOf } from '../../../src/lib/source/lfs/endpoint.ts'
import type { LfsResponse } from '../../../src/lib/source/lfs/http.ts'
import { parsePointer } from '../../../src/lib/source/lfs/pointer.ts'
import { Pace } from '../../../src/lib/util/pace.ts'
import { basicEnv } from '../../support/processes.ts'
import { tempDir } from '../../support/temp.ts'
import type { Chance } from '../generate/chance.ts'
import { ForgedObjects } from '../generate/forged-objects.ts'
import { mutated, mutatedBytes, ODD, pieces, textOf } from '../generate/mutate.ts'
import { excerpt, type Kind, mayRefuse, type Subject } from '../kind.ts'

const OID = 'a'.repeat(64)
const SHA = 'b'.repeat(40)
const TEMPLATES = [
  ...[
    'https://github.com/{repository}.git',
    'http://127.0.0.1:3000/scm/{repository}',
    'file:///srv/{repository}.git',
  ],
  ...['git@github.com:{repository}.git', 'ssh://git@git.example.com:2222/{repository}.git'],
]
const URL_PARTS = [
  ...[
    'https://',
    'http://',
    'ssh://',
    'git@',
    'user:pw@',
    'file://',
    'ext::',
    'github.com',
    'evil.example',
    '127.0.0.1',
  ],
  ...[
    '[::1]',
    ':',
    ':443',
    '/',
    '//',
    '../',
    './',
    '..',
    '\\',
    '@',
    '?',
    '#',
    '%2F',
    '%40',
    'acme/lib',
    '.git',
    '-u',
    ' ',
  ],
]
const GITMODULES = [
  ...[
    '[submodule "lib"]\n',
    '\tpath = lib\n',
    '\turl = ../lib.git\n',
    '\tupdate = none\n',
    '\tupdate = !x\n',
    '[submodule "a.b"]\n',
  ],
  ...[
    '[submodule "../x"]\n',
    'path\n',
    'url = -x\n',
    '[include]\npath = /etc/passwd\n',
    '[',
    '"',
    '\\',
    '\n',
    '\0',
    '# x\n',
  ],
]
/** Lines that git accepts in any order. */
const LINES = [
  ...['[submodule "lib"]\n', '[submodule "a.b"]\n', '[submodule "../x"]\n', 'path = lib\n', 'path = a/b\n'],
  ...['url = ../lib.git\n', 'url = -x\n', 'update = none\n', 'update = checkout\n', 'ignore = all\n'],
]
const LFSCONFIG = [
  ...[
    '[lfs]\n',
    'url = https://github.com/a/b\n',
    'fetchinclude = a,,b\n',
    'fetchexclude = *\n',
    'url\n',
    '[',
    '\0',
  ],
  ...['[remote "origin"]\n', 'lfsurl = x\n', '[include]\npath = /etc/passwd\n'],
]
const POINTER = `version https://git-lfs.github.com/spec/v1\noid sha256:${OID}\nsize 5\n`
const REFS = [
  `${SHA}\trefs/heads/main\n`,
  `${SHA}\trefs/tags/v1\n`,
  `${SHA}\trefs/tags/v1^{}\n`,
  `${SHA}\tHEAD\n`,
  `${'c'.repeat(64)}\trefs/heads/é\n`,
]
const VALUES: unknown[] = [
  ...[
    null,
    true,
    0,
    -5,
    1e300,
    '',
    'x',
    [],
    {},
    [[]],
    OID,
    'https://x/y',
    'http://x/',
    '//x',
    'file:///etc',
    '../x',
  ],
  ...[
    '2030-01-02T03:04:05Z',
    '9'.repeat(50),
    { authorization: 'x' },
    { 'a\nb': 'x', __proto__: null, host: 'x' },
  ],
]

/** What a commit says about its submodules and its files in Git LFS, and what servers answer about those and about refs. */
export const commitPartsKind: Kind = {
  share: 1.5,
  least: 200,
  parsers: [
    ...['source/context/gitmodules.ts', 'source/git/submodule-url.ts', 'source/lfs/answers.ts'],
    ...['source/lfs/config.ts', 'source/lfs/endpoint.ts', 'source/lfs/pointer.ts'],
  ],
  async open(): Promise<Subject> {
    await using resources = new AsyncDisposableStack()
    const { path } = resources.use(await tempDir('conveyor-fuzz-parts-'))
    const objects = new ForgedObjects(`${path}/forged.git`)
    const git = new Git(basicEnv(), path)
    const [bin, listed] = [join(path, 'bin'), join(path, 'refs')]
    await mkdir(bin)
    await writeFile(join(bin, 'git'), `#!/bin/sh\nexec cat '${listed}'\n`)
    await chmod(join(bin, 'git'), 0o755)
    const heads = gitHeads({
      ...{ dir: path, url: 'https://github.com/{repository}.git' },
      environment: { PATH: `${bin}:${basicEnv().PATH}` },
    })
    const owned = resources.move()
    const oid = async (text: Buffer) => (await objects.blob(text)).toString('hex')

    const urls = (chance: Chance) => {
      const [template, parent] = [
        chance.one(TEMPLATES),
        chance.one(TEMPLATES).replace('{repository}', 'acme/app'),
      ]
      const url = chance.percent(1)
        ? chance.one(URL_PARTS).repeat(chance.whole(100, 40_000))
        : textOf(chance, URL_PARTS, chance.size(120))
      return { input: `${template} ${parent} ${url}`, run: async () => checkUrl(template, parent, url) }
    }
    const draws: ((chance: Chance) => { input: string | Uint8Array; run: () => Promise<unknown> })[] = [
      // Nearly all of the others start git.
      ...[urls, urls, urls],
      (chance) => {
        const lines = () => `[submodule "x"]\n${chance.times(1, 12, () => chance.one(LINES)).join('')}`
        const odd = chance.one(['', '', 'update = !x\n', 'path\n'])
        const text = chance.percent(60) ? Buffer.from(lines() + odd) : drawText(chance, GITMODULES, 1 << 20)
        const how = { pace: new Pace(), signal: undefined }
        return {
          input: text,
          run: async () => readGitmodules(git, objects.gitDir, await oid(text), '.gitmodules', how),
        }
      },
      (chance) => {
        const text = drawText(chance, LFSCONFIG, 1 << 16)
        // The caller turns git's own failure into an error for people.
        const refused = () => {}
        return {
          input: text,
          run: async () => readLfsConfig(git, await oid(text), { gitDir: objects.gitDir }).catch(refused),
        }
      },
      (chance) => {
        const blob = mutatedBytes(
          chance,
          Buffer.from(mutated(chance, POINTER, ['ext-0-x sha256:y\n', 'size ', ...ODD])),
        )
        return { input: blob, run: async () => parsePointer(blob.subarray(0, 1023)) }
      },
      (chance) => {
        const answer = drawBatch(chance)
        return { input: answer, run: () => askFor(chance, answer) }
      },
      (chance) => {
        const text = chance.percent(2)
          ? chance.one(REFS).repeat(chance.whole(1000, 50_000))
          : mutated(chance, chance.times(0, 20, () => chance.one(REFS)).join(''), [
              ...REFS,
              '\t',
              '^{}',
              '\n',
            ])
        return {
          input: text,
          async run() {
            await writeFile(listed, text)
            await heads.heads('acme/app')
          },
        }
      },
    ]
    return {
      draw(chance) {
        const { input, run } = chance.one(draws)(chance)
        return { shown: () => excerpt(input), run: () => mayRefuse(run) }
      },
      async problem() {
        await objects.clear()
        return null
      },
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    }
  },
}

/** What is fetched is on the host that was looked at, in the words of the program that fetches it. */
function checkUrl(template: string, parent: string, url: string): void {
  const absolute = submoduleUrl(parent, url)
  const origin = absolute === null ? null : originOf(absolute, template)
  if (!origin) return
  accessTo(origin, { repository: 'acme/app', template, allowed: ['github.com/acme'] })
  if (origin.url === null) return
  endpointOf(origin.url)
  const [, authority = ''] =
    /^[a-z]+:\/\/([^/?#\\]*)/i.exec(origin.url) ?? /^()([^:]*)/.exec(origin.url) ?? []
  const host = authority.slice(authority.lastIndexOf('@') + 1)
  const same = /^(https?|ssh):/.test(origin.url) ? host.replace(/:\d*$/, '') : null
  const looked = origin.host.replace(/:\d+$/, '')
  if (same !== null && same.toLowerCase().replace(/^(ssh|www)\.github\.com$/, 'github.com') !== looked)
    throw new Error(`${looked} was looked at, but ${same} is fetched from`)
}

function drawText(chance: Chance, words: readonly string[], longest: number): Buffer {
  if (chance.percent(1)) {
    const name = `[submodule "${'a.'.repeat(chance.size(400))}x"]\n`
    return Buffer.from(name + chance.one(words).repeat(longest)).subarray(0, longest)
  }
  return Buffer.from(textOf(chance, words, chance.size(400)).toWellFormed())
}

function drawBatch(chance: Chance): string {
  const download = {
    href: 'https://github.com/x',
    header: { authorization: 'x' },
    expires_in: 60,
    expires_at: 'x',
  }
  const one = { oid: OID, size: 5, authenticated: true, actions: { download } } as Record<string, unknown>
  const error = { code: 404, message: 'Object does not exist' }
  const other = { oid: OID, size: 5, error }
  const answer: Record<string, unknown> = { transfer: 'basic', hash_algo: 'sha256', objects: [one, other] }
  if (chance.percent(50)) answer.objects = [one]
  for (let left = chance.size(4); left > 0; left--) {
    const place = chance.one([answer, one, other, error, download]) as Record<string, unknown>
    place[chance.one([...Object.keys(place), 'x'])] = structuredClone(chance.one(VALUES))
  }
  const json = JSON.stringify(answer)
  if (chance.percent(4)) return `{"objects":[${'{},'.repeat(chance.one([300_000, 1 << 20]))}{}]}`
  return chance.percent(25) ? mutated(chance, json, ODD) : json
}

async function askFor(chance: Chance, text: string): Promise<void> {
  const status = chance.percent(80) ? 200 : chance.one([401, 403, 404, 410, 413, 429, 500, 503])
  const retryAfter = chance.one([undefined, '0', '-1', '9'.repeat(400), 'x'])
  const url = new URL('https://github.com/acme/app.git/info/lfs')
  const server = new LfsServer({
    ...{ host: 'github.com', name: 'acme/app@0123456', backoffMs: [] },
    access: async () => ({ url, headers: chance.one([{}, { authorization: 'Basic x' }]) }),
    http: {
      async send() {
        const body = Object.assign(Readable.from(pieces(chance, Buffer.from(text))), { dump: async () => {} })
        const header = (name: string) => (name === 'retry-after' ? retryAfter : undefined)
        return { status, header, body: body as unknown as LfsResponse['body'] }
      },
      close: async () => {},
    },
  })
  const found = await server.downloads([{ oid: OID, size: 5 }], new AbortController().signal)
  for (const one of found.values()) {
    if ('href' in one && one.href.protocol !== 'https:') throw new Error(`${one.href} is not as secure`)
  }
}
