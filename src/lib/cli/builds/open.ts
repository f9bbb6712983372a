import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { getBuild } from '../../client/builds.ts'
import type { Connection } from '../../client/connection.ts'
import { validRepository } from '../../core/validate.ts'

/** The page of a build, of a repository, or of all builds. @throws ConveyorError */
export async function pageUrl(connection: Connection, target: string | undefined): Promise<string> {
  const base = connection.shownUrl
  if (target === undefined) return `${base}/builds`
  if (target.includes('/') && !target.includes('@')) return `${base}/repositories/${validRepository(target)}`
  const { id } = await getBuild(connection, target)
  return `${base}/builds/${id}`
}

/** The program of each system that opens a URL in the user's browser; on others, that of freedesktop.org. */
const OPENERS: Partial<Record<NodeJS.Platform, string[]>> = {
  darwin: ['open'],
  win32: ['rundll32', 'url.dll,FileProtocolHandler'],
}

/** Opens a page in the user's browser. Resolves to whether there is one. */
export async function openBrowser(url: string): Promise<boolean> {
  const [program = '', ...args] = OPENERS[process.platform] ?? ['xdg-open']
  const opener = spawn(program, [...args, url], { stdio: 'ignore', detached: true })
  try {
    const [code] = (await once(opener, 'exit')) as [number | null]
    return code === 0
  } catch {
    return false // it does not exist
  }
}
