/** Where a buildkitd listens. */
export type BuildkitAddress = { path: string } | { host: string; port: number }

/**
 * Parses `tcp://HOST[:PORT]` (port 1234 by default) or `unix:///PATH`.
 * @returns undefined if it is neither
 */
export function parseBuildkitAddress(text: string): BuildkitAddress | undefined {
  const path = /^unix:\/\/(\/.+)$/.exec(text)?.[1]
  if (path) return { path }
  const tcp = /^tcp:\/\/(\[[0-9a-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/i.exec(text)
  const port = Number(tcp?.[2] ?? 1234)
  if (!tcp?.[1] || port < 1 || port > 65_535) return undefined
  return { host: tcp[1].replace(/^\[|\]$/g, ''), port }
}
