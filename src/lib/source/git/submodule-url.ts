import { validRepository } from '../../core/validate.ts'
import { percentDecoded } from '../../util/percent.ts'

/** Where a submodule is fetched from. */
export interface SubmoduleOrigin {
  /** `github.com`, or with a port that is not the default `git.example.com:8443`; `localhost` for `file://`. */
  host: string
  /** Path on the host: `acme/lib`. */
  path: string
  /** `owner/name`, if it is on the server of `--git.url`; else null. */
  repository: string | null
  /** The URL to fetch it from; null: that of all repositories. */
  url: string | null
  /** The URL to fetch it from without credentials; null: there is none. */
  publicUrl: string | null
  /** Whether it is on the server of `--git.url`, whose credentials then are for it, too. */
  ours: boolean
}

interface ParsedUrl {
  scheme: 'http' | 'ssh' | 'file'
  /** Whether others can read what is sent. */
  plain: boolean
  /** As git gets it: so that it cannot read another host in it. */
  url: string
  host: string
  hostname: string
  path: string
}

const PLACEHOLDER = '{repository}'
const LONGEST_URL = 2048

/**
 * The URL of a submodule, which `.gitmodules` may give relative to that of its parent, resolved as git does:
 * https://github.com/git/git/blob/v2.39.0/remote.c#L2768
 * @returns null if it has more `../` than the parent has parts
 */
export function submoduleUrl(parent: string, url: string): string | null {
  if (!/^\.\.?\//.test(url)) return url
  let [base, rest, separator] = [parent.replace(/\/$/, ''), url, '/']
  for (;;) {
    if (rest.startsWith('../')) {
      rest = rest.slice(3)
      const slash = base.lastIndexOf('/')
      const cut = slash >= 0 ? slash : base.lastIndexOf(':')
      if (cut < 0 && base === '.') return null
      if (slash < 0 && cut >= 0) separator = ':'
      base = cut < 0 ? '.' : base.slice(0, cut)
    } else if (rest.startsWith('./')) rest = rest.slice(2)
    else break
  }
  return `${base}${separator}${rest.replace(/\/$/, '')}`
}

/**
 * Where a submodule with this absolute URL is.
 * @param template of `--git.url`
 * @returns null if the URL is malformed, or its protocol is not https, http, ssh, or that of the template
 */
export function originOf(url: string, template: string): SubmoduleOrigin | null {
  const found = parse(url)
  const own = parse(template)
  if (!found || !own || (found.scheme === 'file' && own.scheme !== 'file')) return null
  const { host } = found
  // git and servers decode it, too.
  const path = trimmed(percentDecoded(found.path))
  // Where such a path leads is up to the server, so that its beginning says nothing.
  if (/(^|\/)(\.{0,2}|~[^/]*)(\/|$)/.test(path)) return null
  // Over SSH, the same server has another port.
  const ours =
    found.scheme === own.scheme
      ? found.host === own.host
      : own.scheme !== 'file' && (found.scheme === 'ssh' ? found.hostname : found.host) === own.hostname
  const repository = ours ? repositoryOf(path, trimmed(own.path), found.scheme === own.scheme) : null
  // Users who fetch over SSH may have a submodule over HTTPS that their key is not for.
  const asOurs = repository !== null && !(found.scheme === 'http' && own.scheme === 'ssh')
  // Without a user, ssh would log in as the one that Conveyor runs as.
  if (!asOurs && found.scheme === 'ssh' && !/^ssh:|@/.test(url)) return null
  const publicUrl = publicOf(asOurs ? template.replaceAll(PLACEHOLDER, repository) : found.url, found)
  const mayHaveToken = ours && (own.plain || !found.plain)
  return { host, path, repository, url: asOurs ? null : found.url, publicUrl, ours: mayHaveToken }
}

/** The same without a login. Who has only SSH needs a key for what is public, so HTTPS is used in its place. */
function publicOf(url: string, { hostname, path }: ParsedUrl): string | null {
  const scheme = parse(url)?.scheme
  if (scheme === 'ssh') return `https://${hostname}/${trimmed(path)}.git`
  return scheme === 'http' ? url.replace(/\/\/[^/@]*@/, '//') : null
}

/**
 * What builds of a repository may fetch from a place: nothing, what everybody can read, or what Conveyor's credentials
 * can read. One repository never reads what belongs to another: the credentials are for submodules of its own owner,
 * and for those that an owner or a name in `allowed` stands for.
 * @param repository that is built
 * @param allowed hosts, owners, or repositories: `gitlab.com`, `github.com/acme`, `github.com/acme/lib`; in addition to
 * the host of the template, unless there is a `none`
 */
export function accessTo(
  origin: SubmoduleOrigin,
  { repository, template, allowed }: { repository: string; template: string; allowed: readonly string[] },
): 'none' | 'public' | 'credentials' {
  const owner = (name: string) => name.slice(0, name.indexOf('/')).toLowerCase()
  const { host, path } = origin
  const own = parse(template)
  const isOwn = origin.ours || origin.repository !== null
  const hosts = isOwn && own ? [host, own.host, own.hostname] : [host]
  const places = hosts.flatMap((one) => [path, origin.repository ?? path].map((rest) => `${one}/${rest}/`))
  const matching = allowed.filter((one) =>
    places.some((place) => place.toLowerCase().startsWith(`${one.toLowerCase()}/`)),
  )
  if (matching.some((one) => one.includes('/'))) return 'credentials'
  const byDefault = isOwn && !allowed.includes('none')
  if (!byDefault && matching.length === 0) return 'none'
  return origin.repository !== null && owner(origin.repository) === owner(repository)
    ? 'credentials'
    : 'public'
}

/** Other programs than this one end a host at one of these, or begin it there: none of them is in a URL of git. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: no URL contains them
const AMBIGUOUS = /[\x00-\x20\x7f\\?#]/
/** git decodes the percent signs of these before it looks for the host. */
const SSH_URL = /^ssh:\/\/(?:[\w.-]+@)?(\w[\w.-]*)(?::\d*)?(\/.*)$/i

function parse(url: string): ParsedUrl | null {
  if (url.length > LONGEST_URL || AMBIGUOUS.test(url)) return null
  const [, scp, scpPath] = /^(?:[\w.-]+@)?(\w[\w.-]*):(?!\/\/)(.+)$/.exec(url) ?? []
  if (scp !== undefined && scpPath !== undefined) return overSsh(url, scp, scpPath)
  const [, ssh, sshPath] = SSH_URL.exec(url) ?? []
  if (ssh !== undefined && sshPath !== undefined) return overSsh(url, ssh, sshPath)
  // A placeholder stays readable: it is part of the path.
  const { protocol, host, hostname, pathname, href } =
    URL.parse(url.replaceAll(PLACEHOLDER, '0wner/n4me')) ?? {}
  if (host === undefined || hostname === undefined || pathname === undefined || href === undefined)
    return null
  const path = pathname.replaceAll('0wner/n4me', PLACEHOLDER)
  const place = { host: canonical(host), hostname: canonical(hostname), path, url: href }
  if (protocol === 'http:') return { ...place, scheme: 'http', plain: true }
  if (protocol === 'https:') return { ...place, scheme: 'http', plain: false }
  if (protocol !== 'file:') return null
  return {
    ...place,
    host: host || 'localhost',
    hostname: hostname || 'localhost',
    scheme: 'file',
    plain: false,
  }
}

function overSsh(url: string, host: string, path: string): ParsedUrl {
  return { scheme: 'ssh', plain: false, url, host: canonical(host), hostname: canonical(host), path }
}

/** github.com has a second name, for SSH on the port of HTTPS, and one that only redirects. */
function canonical(host: string): string {
  const lower = host.toLowerCase()
  return /^(ssh|www)\.github\.com$/.test(lower) ? 'github.com' : lower
}

function trimmed(path: string): string {
  return path
    .replace(/^\/+/, '')
    .replace(/\/+$/, '')
    .replace(/\.git$/, '')
}

/** The `owner/name` in a path, by the path of the template, `{repository}` or `scm/{repository}`. */
function repositoryOf(path: string, template: string, sameScheme: boolean): string | null {
  const at = template.indexOf(PLACEHOLDER)
  const [before, after] = [template.slice(0, at), template.slice(at + PLACEHOLDER.length)]
  const fits = at >= 0 && path.startsWith(before) && path.endsWith(after)
  if (!fits && sameScheme) return null
  const name = fits ? path.slice(before.length, path.length - after.length) : path
  try {
    return validRepository(name)
  } catch {
    return null
  }
}
