import { createHash } from 'node:crypto'
import type { Ref } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'

/** Names of images, by the grammar of https://github.com/distribution/reference. Everything here is pure. */

/** Where images go: what `--registry` means. */
export interface RegistryLocation {
  /** `docker.io`, or `host[:port]`, lower-case. */
  host: string
  /** Path before `owner/name`, without slashes at its ends; empty for none. */
  prefix: string
  /** The registry was given with `http://`, so it is spoken to without TLS. */
  insecure: boolean
}

/** An image reference taken apart. */
export interface ImageReference {
  /** The registry as people and credentials call it: `docker.io`, `ghcr.io`, `127.0.0.1:5000`. */
  host: string
  /** Where its API answers; differs from `host` for Docker Hub only. */
  apiHost: string
  /** Repository path in the registry, `library/alpine`. */
  path: string
  tag: string | null
  /** `sha256:...` */
  digest: string | null
}

export const DOCKER_HUB = 'docker.io'
const HUB_ALIASES = new Set([
  DOCKER_HUB,
  'index.docker.io',
  'registry-1.docker.io',
  'registry.hub.docker.com',
])
const HUB_API = 'registry-1.docker.io'

const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/
const LABEL = '[a-z0-9](?:[a-z0-9-]*[a-z0-9])?'
const HOST = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-f:]+\\])(?::[0-9]{1,5})?$`)
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/
const DIGEST = /^sha256:[0-9a-f]{64}$/
const MAX_NAME = 255

/**
 * Reads the value of `--registry`: empty or `docker.io` for Docker Hub, otherwise `host[:port][/prefix]`,
 * with or without `https://`; `http://` for a registry without TLS.
 * @throws ConveyorError `invalid`
 */
export function parseRegistryFlag(value: string): RegistryLocation {
  const accepted = 'Give host[:port][/prefix], for example ghcr.io/acme or http://registry.lan:5000'
  // A value with a password in it must not come back in an error message.
  if (value.includes('@')) {
    throw new ConveyorError('invalid', 'registry may not contain a user name or password', {
      hint: 'Leave out the part before @, and run `docker login` for that host',
    })
  }
  const refuse = (why: string, hint = accepted) =>
    new ConveyorError('invalid', `registry ${JSON.stringify(value)} ${why}`, { hint })

  const [, scheme = '', rest = ''] = /^(https?:\/\/)?(.*)$/is.exec(value.trim()) ?? []
  const [first = '', ...path] = rest.replace(/\/+$/, '').toLowerCase().split('/')
  const insecure = scheme.toLowerCase() === 'http://'

  if (first === '' && path.length === 0 && scheme === '') {
    return { host: DOCKER_HUB, prefix: '', insecure: false }
  }
  if (HUB_ALIASES.has(first)) {
    if (insecure) throw refuse('is Docker Hub, which is spoken to over https only')
    if (path.length > 0) throw refuse('is not possible: Docker Hub has only owner/name, no prefix')
    return { host: DOCKER_HUB, prefix: '', insecure: false }
  }
  if (!HOST.test(first) || Number(/:(\d+)$/.exec(first)?.[1] ?? 1) > 65_535) {
    throw refuse('is not of the form host[:port][/prefix]')
  }
  if (!looksLikeHost(first)) {
    throw refuse(
      'does not begin with a host',
      `Docker takes a name without a dot or a port for a user of Docker Hub: write ${first}:${insecure ? 80 : 443} if it is a host`,
    )
  }
  const bad = path.find((part) => !COMPONENT.test(part))
  if (bad !== undefined)
    throw refuse(`has the prefix part ${JSON.stringify(bad)}, which no image name may have`)
  return { host: first, prefix: path.join('/'), insecure }
}

/**
 * The name of a repository's image, without a tag: `acme/app` on Docker Hub, `registry.lan:5000/team/acme/app`
 * elsewhere. Lower-case, because image names are.
 * @param registry the value of `--registry`
 * @param repository `owner/name`
 * @throws ConveyorError `invalid` when no image can have that name
 */
export function imageName(registry: string, repository: string): string {
  const { host, prefix } = parseRegistryFlag(registry)
  const parts = repository.toLowerCase().split('/')
  const bad = parts.find((part) => !COMPONENT.test(part))
  if (bad !== undefined) {
    throw new ConveyorError(
      'invalid',
      `repository ${repository} cannot be the name of an image: ${JSON.stringify(bad)} is not letters and digits ` +
        'with single . or _, __ or dashes between them',
      { hint: 'Rename the repository so that it begins and ends with a letter or a digit' },
    )
  }
  const path = [...(prefix ? [prefix] : []), ...parts].join('/')
  // An owner called `localhost` would be taken for a host, unless the real one is written out.
  const plainHub = host === DOCKER_HUB && !looksLikeHost(parts[0] ?? '')
  const name = plainHub ? path : `${host}/${path}`
  if (name.length > MAX_NAME) {
    throw new ConveyorError('invalid', `image name ${name} is longer than ${MAX_NAME} characters`, {
      hint: 'Give --registry a shorter prefix',
    })
  }
  return name
}

/**
 * The docker tag of a branch or git tag. Never longer than 128 characters.
 *
 * 1. A name that is a valid docker tag stays as it is: `main`, `v1.2`, `fix-login`.
 * 2. `feature/x` becomes `feature-x`: one slash, no dash before it, everything else valid. The first dash
 *    says where the slash was, so no two names with a slash become the same tag.
 * 3. Everything else gets `-` for each character that a tag cannot have, is cut, and ends in `--` and 8 hex
 *    digits of the name's SHA-256: `a/b/c` -> `a-b-c--d76a7b72`. So do names whose tag means something else:
 *    `latest`, a full commit id, and names that end like a hashed one themselves.
 *
 * The tags of rule 3 are the only ones that end so, hence they are nobody else's. What remains are pairs: a
 * branch and a git tag of one name, and `feature/x` and `feature-x`. Who had the tag first keeps it (see
 * BuildStore.moveTags); for the other one there is a `spare` name: 1 is that of rule 3, 2 has the hash of the whole
 * ref, `refs/tags/v1.2`. Every commit keeps its sha tag.
 */
export function tagForRef({ kind, name }: Ref, spare: 0 | 1 | 2 = 0): string {
  const plain = /^[^/-]+\/[^/]+$/.test(name) ? name.replace('/', '-') : name
  if (spare === 0 && TAG.test(plain) && !isReserved(plain)) return plain

  const hashed = spare === 2 ? `refs/${kind === 'branch' ? 'heads' : 'tags'}/${name}` : name
  const hash = createHash('sha256').update(hashed).digest('hex').slice(0, 8)
  const cleaned = name.replace(/[^A-Za-z0-9._-]/gu, '-').replace(/^[.-]/, '_')
  return `${cleaned.slice(0, 128 - 2 - hash.length)}--${hash}`
}

/** What builders keep beside the images is under a tag with two dots, which no ref can have. */
function isReserved(tag: string): boolean {
  return tag === 'latest' || /^([0-9a-f]{40}|[0-9a-f]{64})$/i.test(tag) || /--[0-9a-f]{8}$/.test(tag)
}

/** Whether the registry takes it as a tag or a `sha256:` digest. */
export function isTagOrDigest(reference: string): boolean {
  return TAG.test(reference) || DIGEST.test(reference)
}

/**
 * Takes a reference apart the way docker does: `alpine` is `docker.io`, `library/alpine`.
 * @throws ConveyorError `invalid`
 */
export function splitReference(ref: string): ImageReference {
  const [, name = '', tag, digest] = /^(.*?)(?::([^:/@]*))?(?:@(.*))?$/s.exec(ref) ?? []
  const slash = name.indexOf('/')
  const first = name.slice(0, Math.max(slash, 0))
  const hasHost = slash > 0 && looksLikeHost(first)
  const given = hasHost ? first.toLowerCase() : DOCKER_HUB
  const host = canonicalHost(given)
  const rest = hasHost ? name.slice(slash + 1) : name
  const path = host === DOCKER_HUB && !rest.includes('/') ? `library/${rest}` : rest

  const ok =
    HOST.test(host) &&
    path.split('/').every((part) => COMPONENT.test(part)) &&
    (tag === undefined || TAG.test(tag)) &&
    (digest === undefined || DIGEST.test(digest)) &&
    name.length <= MAX_NAME
  if (!ok) {
    throw new ConveyorError(
      'invalid',
      `${JSON.stringify(ref.slice(0, 300))} is not a valid image reference`,
      {
        hint: 'Image references look like host:5000/owner/name:tag, in lower case before the tag',
      },
    )
  }
  return {
    host,
    apiHost: host === DOCKER_HUB ? HUB_API : host,
    path,
    tag: tag ?? null,
    digest: digest ?? null,
  }
}

/** One spelling for each registry: without scheme and path, lower-case, `docker.io` for all of Docker Hub's names. */
export function canonicalHost(spelling: string): string {
  const host = spelling
    .replace(/^https?:\/\//i, '')
    .replace(/\/.*$/s, '')
    .toLowerCase()
  return HUB_ALIASES.has(host) ? DOCKER_HUB : host
}

/** Docker's own rule for telling `host/name` from `owner/name`. */
function looksLikeHost(first: string): boolean {
  return first.includes('.') || first.includes(':') || first === 'localhost' || first !== first.toLowerCase()
}
