/** `user@host:path`, with which git means ssh. */
const SCP = /^(?:[\w.-]+@)?([\w.-]+):(?!\/\/)\/?(.+)$/

/**
 * The address of a repository's LFS server, as git-lfs derives it from that of the repository; null for a folder.
 * https://github.com/git-lfs/git-lfs/blob/main/docs/api/server-discovery.md
 */
export function endpointOf(remote: string): URL | null {
  const url = URL.parse(remote.includes('://') ? remote : remote.replace(SCP, 'ssh://$1/$2'))
  if (!url || !['http:', 'https:', 'ssh:'].includes(url.protocol)) return null
  // The port of ssh is not that of https.
  const origin = url.protocol === 'ssh:' ? `https://${url.hostname}` : url.origin
  const path = withoutSlashes(url.pathname)
  // Not in one text: without a path, the rest would belong to the host.
  const endpoint = new URL(origin)
  endpoint.pathname = `${path}${path.endsWith('.git') ? '' : '.git'}/info/lfs`
  return endpoint
}

/** Whether git takes an address for one of ssh. */
export function isOverSsh(address: string): boolean {
  if (address.includes('://')) return address.startsWith('ssh://')
  return SCP.test(address) && !/^https?:/i.test(address)
}

/** A resource below an LFS server's address. */
export function below(endpoint: URL, path: string): URL {
  const url = new URL(endpoint)
  url.pathname = `${withoutSlashes(endpoint.pathname)}/${path}`
  return url
}

/** A path without the slashes at its end. A pattern would take a second for a path of many slashes. */
export function withoutSlashes(path: string): string {
  let end = path.length
  while (path[end - 1] === '/') end--
  return path.slice(0, end)
}
