/** As BuildKit names images: `alpine` is `docker.io/library/alpine:latest`. A digest stays. */
export function fullName(name: string): string {
  const slash = name.indexOf('/')
  const first = name.slice(0, Math.max(slash, 0))
  const hasHost = slash >= 0 && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase())
  const host = !hasHost || first === 'index.docker.io' ? 'docker.io' : first
  const rest = hasHost ? name.slice(slash + 1) : name
  const path = host === 'docker.io' && !rest.includes('/') ? `library/${rest}` : rest
  const last = path.slice(path.lastIndexOf('/') + 1)
  return /[:@]/.test(last) ? `${host}/${path}` : `${host}/${path}:latest`
}

/** An image's full name with its tag, and the digest that it is named by; null for none. */
export function splitDigest(name: string): { name: string; digest: string | null } {
  const at = name.indexOf('@')
  return at < 0
    ? { name: fullName(name), digest: null }
    : { name: fullName(name.slice(0, at)), digest: name.slice(at + 1) }
}

/** How BuildKit looks for a named context in the place of an image: `docker.io/library/alpine:latest` is `alpine`. */
export function contextName(name: string): string {
  const full = fullName(name)
  const familiar = full.startsWith('docker.io/library/')
    ? full.slice('docker.io/library/'.length)
    : full.replace(/^docker\.io\//, '')
  return familiar.endsWith(':latest') ? familiar.slice(0, -':latest'.length) : familiar
}

const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/

/**
 * Whether something is the name of an image, as short as it may be; what is none makes a build fail.
 * (https://github.com/distribution/reference/blob/main/reference.go)
 */
export function isImageName(name: string): boolean {
  if (name.length > 512) return false
  const [named = '', digest, ...more] = name.split('@')
  const [host = '', ...path] = fullName(named).split('/')
  const [last = '', tag = '', ...rest] = (path.pop() ?? '').split(':')
  return (
    more.length + rest.length === 0 &&
    (digest === undefined || /^[a-z0-9]+:[0-9a-f]{32,128}$/.test(digest)) &&
    /^[\w.-]+(:\d+)?$|^\[[\w:]+\](:\d+)?$/.test(host) &&
    /^\w[\w.-]{0,127}$/.test(tag) &&
    [...path, last].every((one) => COMPONENT.test(one))
  )
}
