import { ConveyorError } from '../core/errors.ts'

/**
 * Image references, by the grammar of https://github.com/distribution/reference. Everything here is pure.
 */

export const DOCKER_HUB = 'docker.io'
const HUB_ALIASES = new Set([
  DOCKER_HUB,
  'index.docker.io',
  'registry-1.docker.io',
  'registry.hub.docker.com',
])
const HUB_API = 'registry-1.docker.io'

/** One component of a repository path. */
export const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/
const LABEL = '[a-z0-9](?:[a-z0-9-]*[a-z0-9])?'
/** A registry's `host[:port]`, lower-case. */
export const HOST = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[0-9a-f:]+\\])(?::[0-9]{1,5})?$`)
export const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/
const SHA256 = /^sha256:[0-9a-f]{64}$/
/** Any algorithm: Docker pins images by sha512 too, although registries are only queried by sha256. */
const ANY_DIGEST = /^[a-z0-9]+:[0-9a-f]{32,128}$/
/** Characters of a name without tag and digest. */
export const MAX_NAME = 255

/** An image reference: `[host[:port]/]path[:tag][@digest]`. */
export class ImageReference {
  /** As written, without tag and digest: `alpine`, `127.0.0.1:5000/acme/app`. */
  readonly name: string
  readonly tag: string | null
  /** `sha256:...` */
  readonly digest: string | null

  constructor(name: string, tag: string | null = null, digest: string | null = null) {
    this.name = name
    this.tag = tag
    this.digest = digest
  }

  /** The registry as people and credentials call it, lower-case: `docker.io`, `ghcr.io`, `127.0.0.1:5000`. */
  get host(): string {
    return canonicalHost(this.#parts().domain)
  }

  /** Host of the registry's API; differs from `host` for Docker Hub only. */
  get apiHost(): string {
    return this.host === DOCKER_HUB ? HUB_API : this.host
  }

  /** Repository path in the registry, `library/alpine`. */
  get path(): string {
    return inLibrary(this.host, this.#parts().path)
  }

  /** What the registry's API calls the reference: the digest, else the tag, else `latest`. */
  get identifier(): string {
    return this.digest ?? this.tag ?? 'latest'
  }

  /** As Docker and BuildKit spell it in full: `docker.io/library/alpine:latest`; a digest needs no tag. */
  get canonical(): string {
    const { domain, path } = this.#parts()
    const host = domain === 'index.docker.io' ? DOCKER_HUB : domain
    const tag = this.tag ?? (this.digest === null ? 'latest' : null)
    return `${new ImageReference(`${host}/${inLibrary(host, path)}`, tag, this.digest)}`
  }

  /** As Docker abbreviates it, without a default tag: `docker.io/library/alpine:latest` is `alpine`. */
  get familiar(): string {
    return this.canonical.replace(/^docker\.io\/(?:library\/)?/, '').replace(/:latest$/, '')
  }

  /** The digest if the reference names this repository, which is spelled like `name`; null otherwise. */
  digestIn(name: string): string | null {
    return this.name === name ? this.digest : null
  }

  /** The same repository with this tag, without a digest. */
  withTag(tag: string): ImageReference {
    return new ImageReference(this.name, tag)
  }

  /** The same repository with this digest, without a tag. */
  withDigest(digest: string): ImageReference {
    return new ImageReference(this.name, null, digest)
  }

  /** @param identifier a tag or a digest; only a digest contains a colon */
  withIdentifier(identifier: string): ImageReference {
    return identifier.includes(':') ? this.withDigest(identifier) : this.withTag(identifier)
  }

  /** The same name and tag. */
  withoutDigest(): ImageReference {
    return new ImageReference(this.name, this.tag)
  }

  /** As written: `alpine:3`, `ghcr.io/acme/app@sha256:...`. */
  toString(): string {
    const tag = this.tag === null ? '' : `:${this.tag}`
    const digest = this.digest === null ? '' : `@${this.digest}`
    return `${this.name}${tag}${digest}`
  }

  #parts(): { domain: string; path: string } {
    const slash = this.name.indexOf('/')
    const first = this.name.slice(0, Math.max(slash, 0))
    return looksLikeHost(first)
      ? { domain: first, path: this.name.slice(slash + 1) }
      : { domain: DOCKER_HUB, path: this.name }
  }
}

/** Docker Hub's own images are in `library/`. */
function inLibrary(host: string, path: string): string {
  return host === DOCKER_HUB && !path.includes('/') ? `library/${path}` : path
}

/** Splits a reference, valid or not, such as one in a Dockerfile or in BuildKit's output. */
export function splitReference(text: string): ImageReference {
  const [, name = '', tag, digest] = /^(.*?)(?::([^:/@]*))?(?:@(.*))?$/s.exec(text) ?? []
  return new ImageReference(name, tag ?? null, digest ?? null)
}

/**
 * Parses a reference that a registry can be queried for.
 * @throws ConveyorError `invalid`
 */
export function parseReference(text: string): ImageReference {
  const reference = splitReference(text)
  if (isValid(reference, SHA256)) return reference
  throw new ConveyorError('invalid', `${JSON.stringify(text.slice(0, 300))} is not a valid image reference`, {
    hint: 'Image references look like host:5000/owner/name:tag, in lower case before the tag',
  })
}

/** Whether Docker accepts the text as an image reference; a build that names anything else fails. */
export function isImageReference(text: string): boolean {
  return isValid(splitReference(text), ANY_DIGEST)
}

function isValid(reference: ImageReference, digestForm: RegExp): boolean {
  const { host, path, name, tag, digest } = reference
  return (
    HOST.test(host) &&
    path.split('/').every((part) => COMPONENT.test(part)) &&
    (tag === null || TAG.test(tag)) &&
    (digest === null || digestForm.test(digest)) &&
    name.length <= MAX_NAME
  )
}

/** Whether the text is a valid tag or `sha256:` digest. */
export function isTagOrDigest(text: string): boolean {
  return TAG.test(text) || SHA256.test(text)
}

/** Normalizes a registry host: no scheme or path, lower-case, `docker.io` for every alias of Docker Hub. */
export function canonicalHost(spelling: string): string {
  const host = spelling
    .replace(/^https?:\/\//i, '')
    .replace(/\/.*$/s, '')
    .toLowerCase()
  return HUB_ALIASES.has(host) ? DOCKER_HUB : host
}

/** Docker's own rule for telling `host/name` from `owner/name`. */
export function looksLikeHost(first: string): boolean {
  return first.includes('.') || first.includes(':') || first === 'localhost' || first !== first.toLowerCase()
}
