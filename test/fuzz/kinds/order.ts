import {
  fullRef,
  parseRef,
  refsLabel,
  refTitle,
  validRefName,
  validRepository,
} from '../../../src/lib/core/validate.ts'
import {
  canonicalHost,
  isImageReference,
  isTagOrDigest,
  parseReference,
} from '../../../src/lib/registry/image-name.ts'
import { imageName, parseRegistryFlag, tagForRef } from '../../../src/lib/registry/naming.ts'
import { formAsJson, parseBuildBody } from '../../../src/lib/server/api/build-body.ts'
import type { Chance } from '../generate/chance.ts'
import { mutated, ODD } from '../generate/mutate.ts'
import { refName } from '../generate/webhook-bodies.ts'
import { excerpt, type Kind, mayRefuse, plain } from '../kind.ts'

const KEYS = [
  'repository',
  'Repository',
  'sha',
  'Sha',
  'branch',
  'Branch',
  'cache',
  'NoCache',
  'pull',
  'x',
  '__proto__',
]
const HOSTS = [
  'ghcr.io',
  'docker.io',
  'index.docker.io',
  'localhost',
  '[::1]:5000',
  'registry.lan:5000',
  'http://a.b',
  'a',
  'HTTPS://X.Y/Z',
  'u:p@h',
  'a.b:99999',
  '',
]

/** Build requests with repositories, refs and commit ids, and the image names for them. */
export const orderKind: Kind = {
  share: 20,
  least: 200,
  parsers: ['server/api/build-body.ts', 'core/validate.ts', 'registry/image-name.ts', 'registry/naming.ts'],
  open: plain((chance) => {
    const body = drawOrder(chance)
    const [registry, repository, ref] = [drawRegistry(chance), drawRepository(chance), drawRef(chance)]
    const image = drawImage(chance)
    return {
      shown: () => excerpt(JSON.stringify([body, registry, repository, ref, image])),
      async run() {
        await mayRefuse(() => parseBuildBody(body))
        await mayRefuse(() => parseBuildBody(formAsJson(body)))
        await mayRefuse(() => imageName(registry, validRepository(repository)))
        await mayRefuse(() => parseRegistryFlag(registry))
        await mayRefuse(() => checkTags(ref))
        await mayRefuse(() => checkReference(image))
        canonicalHost(registry)
      },
    }
  }),
}

/** Every form in which a valid reference is printed is a valid reference to the same image. */
function checkReference(image: string): void {
  const reference = parseReference(image)
  const { identifier, canonical, familiar, apiHost } = reference
  const isSame = (text: string) => {
    const { host, path, identifier: other } = parseReference(text)
    return host === reference.host && path === reference.path && other === identifier
  }
  for (const text of [`${reference}`, canonical, `${reference.withIdentifier(identifier)}`]) {
    if (!isSame(text)) throw new Error(`${image} is printed as ${text}`)
  }
  // As Docker abbreviates it, which is another image if the path begins like a host.
  if (!canonical.startsWith('docker.io/') && !isSame(familiar))
    throw new Error(`${image} is printed as ${familiar}`)
  if (reference.digestIn(reference.name) !== reference.digest || apiHost === '') throw new Error(image)
  if (!isTagOrDigest(identifier) || !isImageReference(`${reference.withoutDigest()}`)) throw new Error(image)
}

/** Every valid name of a ref gives a tag that a registry accepts. */
function checkTags(ref: string): void {
  for (const parsed of [parseRef(ref), { kind: 'tag' as const, name: validRefName(ref) }]) {
    if (!parsed) continue
    const pull = { kind: 'pull' as const, name: '7' }
    for (const refs of [[], [parsed], [parsed, pull], [pull, parsed, parsed]]) refsLabel(refs)
    for (const one of [parsed, pull])
      if (!fullRef(one).endsWith(one.kind === 'pull' ? '/head' : one.name)) throw new Error(refTitle(one))
    const tags = ([0, 1, 2] as const).map((spare) => tagForRef(parsed, spare))
    const wrong = tags.find((tag) => !/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(tag))
    if (wrong !== undefined || new Set(tags).size < 2) throw new Error(`${ref} gives the tags ${tags}`)
  }
}

export function drawOrder(chance: Chance): string {
  if (chance.percent(0.5))
    return chance.one(['[', '{"a":', '"', ' ', '1', '{"sha":1,']).repeat(chance.size(60_000))
  const keys = chance.times(0, 4, () => chance.one(KEYS))
  const order: [string, unknown][] = [
    ...['repository', 'sha', 'branch'].filter(() => chance.percent(70)),
    ...keys,
  ].map((key) => [key, drawValue(chance, key.toLowerCase())])
  const text = `{${order.map(([key, value]) => `"${key}":${JSON.stringify(value) ?? 1}`).join(',')}}`
  return chance.percent(20) ? mutated(chance, text, ['"', '{', '}', '[', 'null', 'true', ...KEYS]) : text
}

function drawValue(chance: Chance, key: string): unknown {
  if (chance.percent(10))
    return chance.one([null, '', 0, Infinity, true, [], {}, ['x'], '\ud800', 'x'.repeat(5000)])
  if (key === 'repository') return drawRepository(chance)
  if (key === 'pull') return chance.one([7, '7', 0, -1, 1.5, '7 ', 1e21, '9'.repeat(400)])
  if (key === 'sha')
    return chance.one([
      'a'.repeat(40),
      'A'.repeat(40),
      'f'.repeat(64),
      'abc',
      `${'a'.repeat(40)}\n`,
      'g'.repeat(40),
    ])
  if (key === 'branch') return refName(chance)
  return chance.percent(80) ? chance.percent(50) : chance.one(['true', 1, null])
}

function drawRepository(chance: Chance): string {
  const text = chance.one([
    'acme/app',
    'Acme/App',
    'a/..',
    'a/.',
    'a/b.git',
    'a-b/c_d.e',
    'a/-x',
    '-a/b',
    'a/b/c',
    'a',
    '/',
    'a/--',
    'a/a..b',
    `a/${'x'.repeat(100)}`,
  ])
  return chance.percent(30) ? mutated(chance, text, ODD) : text
}

function drawRef(chance: Chance): string {
  const prefix = chance.one(['refs/heads/', 'refs/tags/', 'refs/heads/gh-readonly-queue/', '', 'refs/'])
  return chance.percent(1)
    ? prefix + chance.one(['a/', '-', '.', 'é']).repeat(chance.size(20_000))
    : prefix + refName(chance)
}

function drawRegistry(chance: Chance): string {
  const text = `${chance.one(HOSTS)}${chance.one(['', '/', '/acme', '/a/b', '/A', `/${'x'.repeat(250)}`])}`
  return chance.percent(20) ? mutated(chance, text, ODD) : text
}

function drawImage(chance: Chance): string {
  const text = `${chance.one(HOSTS)}/${chance.one(['a/b', 'b', 'a//b', 'A'])}${chance.one(['', ':1', `@sha256:${'a'.repeat(64)}`, `:1@sha256:${'a'.repeat(64)}`, ':', '@'])}`
  if (chance.percent(1))
    return chance.one(['a-', 'a.', 'a_', '-', 'a/', ':', '@']).repeat(chance.size(50_000))
  return chance.percent(40) ? mutated(chance, text, ODD) : text
}
