import { createHash } from 'node:crypto'
import type { Ref } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import { fullRef } from '../core/validate.ts'
import { COMPONENT, canonicalHost, DOCKER_HUB, HOST, looksLikeHost, MAX_NAME, TAG } from './image-name.ts'

/** Where images are pushed, and the names and tags they get there. Everything here is pure. */

/** Where images are pushed: the parsed value of `--registry`. */
export interface RegistryLocation {
  /** `docker.io`, or `host[:port]`, lower-case. */
  host: string
  /** Path before `owner/name`, without leading or trailing slashes; empty if there is none. */
  prefix: string
  /** The registry was given with `http://`, so connections to it do not use TLS. */
  insecure: boolean
}

/**
 * Reads the value of `--registry`: empty or `docker.io` for Docker Hub, otherwise `host[:port][/prefix]`,
 * with or without `https://`; `http://` for a registry without TLS.
 * @throws ConveyorError `invalid`
 */
export function parseRegistryFlag(value: string): RegistryLocation {
  const accepted = 'Give host[:port][/prefix], for example ghcr.io/acme or http://registry.lan:5000'
  // A value with a password in it must not come back in an error message.
  if (value.includes('@')) {
    throw new ConveyorError('invalid', 'registry must not contain a username or password', {
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
  if (canonicalHost(first) === DOCKER_HUB) {
    if (insecure) throw refuse('is Docker Hub, which is reached over HTTPS only')
    if (path.length > 0) throw refuse('is not possible: Docker Hub images are owner/name, with no prefix')
    return { host: DOCKER_HUB, prefix: '', insecure: false }
  }
  if (!HOST.test(first) || Number(/:(\d+)$/.exec(first)?.[1] ?? 1) > 65_535) {
    throw refuse('is not of the form host[:port][/prefix]')
  }
  if (!looksLikeHost(first)) {
    throw refuse(
      'does not begin with a host',
      `Docker reads a name without a dot or a port as a Docker Hub user; write ${first}:${insecure ? 80 : 443} if it is a host`,
    )
  }
  const bad = path.find((part) => !COMPONENT.test(part))
  if (bad !== undefined)
    throw refuse(`has the prefix part ${JSON.stringify(bad)}, which is not allowed in image names`)
  return { host: first, prefix: path.join('/'), insecure }
}

/**
 * The name of a repository's image, without a tag: `acme/app` on Docker Hub, `registry.lan:5000/team/acme/app`
 * elsewhere. Lower-case, because image names are.
 * @param registry the value of `--registry`
 * @param repository `owner/name`
 * @throws ConveyorError `invalid` when that is not a valid image name
 */
export function imageName(registry: string, repository: string): string {
  const { host, prefix } = parseRegistryFlag(registry)
  const parts = repository.toLowerCase().split('/')
  const bad = parts.find((part) => !COMPONENT.test(part))
  if (bad !== undefined) {
    throw new ConveyorError(
      'invalid',
      `repository ${repository} is not a valid image name: ${JSON.stringify(bad)} must be letters and digits ` +
        'separated by a single . or _, by __, or by dashes',
      { hint: 'Rename the repository so that it begins and ends with a letter or a digit' },
    )
  }
  const path = [...(prefix ? [prefix] : []), ...parts].join('/')
  // An owner called `localhost` would be read as a host unless the real one is spelled out.
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
 * The Docker tag of a branch, a git tag, or a pull request (`pr-7`). Never longer than 128 characters.
 *
 * 1. A name that is a valid Docker tag is kept: `main`, `v1.2`, `fix-login`.
 * 2. `feature/x` becomes `feature-x`: one slash, no dash before it, everything else valid. The first dash
 *    marks the slash, so no two names with a slash get the same tag.
 * 3. Everything else gets `-` for each character that is invalid in a tag, is truncated, and ends in `--` and
 *    8 hex digits of the name's SHA-256: `a/b/c` -> `a-b-c--d76a7b72`. So do names that are reserved as tags:
 *    `latest`, a full commit id, and names that already end like a hashed one.
 *
 * Only tags of rule 3 end that way, so they never collide with others. Two pairs can still collide: a branch
 * and a git tag of the same name, and `feature/x` and `feature-x`. Whichever had the tag first keeps it (see
 * BuildStore.moveTags); the other one gets a `spare` name: 1 is that of rule 3, 2 has the hash of the whole
 * ref, `refs/tags/v1.2`. Every commit keeps its sha tag.
 */
export function tagForRef(ref: Ref, spare: 0 | 1 | 2 = 0): string {
  const name = ref.kind === 'pull' ? `pr-${ref.name}` : ref.name
  const plain = /^[^/-]+\/[^/]+$/.test(name) ? name.replace('/', '-') : name
  if (spare === 0 && TAG.test(plain) && !isReserved(plain)) return plain

  const hashed = spare === 2 ? fullRef(ref) : name
  const hash = createHash('sha256').update(hashed).digest('hex').slice(0, 8)
  const cleaned = name.replace(/[^A-Za-z0-9._-]/gu, '-').replace(/^[.-]/, '_')
  return `${cleaned.slice(0, 128 - 2 - hash.length)}--${hash}`
}

/** Builders store their cache under a tag with two dots, which is invalid in git refs, so it needs no entry here. */
function isReserved(tag: string): boolean {
  return tag === 'latest' || /^([0-9a-f]{40}|[0-9a-f]{64})$/i.test(tag) || /--[0-9a-f]{8}$/.test(tag)
}
