import { createHash } from 'node:crypto'
import { lstat, mkdir, readdir, readFile, readlink, symlink, writeFile } from 'node:fs/promises'
import type { Context } from '../../../src/lib/source/source.ts'

/** Writes a context into a new folder. */
export async function materialise(context: Context, folder: string): Promise<void> {
  await mkdir(folder)
  for (const entry of context.entries) {
    const path = Buffer.concat([Buffer.from(`${folder}/`), entry.rawPath])
    if (entry.kind === 'directory') await mkdir(path, { mode: entry.mode })
    else if (entry.kind === 'symlink') await symlink(Buffer.from(entry.linkTarget), path)
    else {
      const chunks: Uint8Array[] = []
      for await (const chunk of context.read(entry)) chunks.push(chunk)
      const content = Buffer.concat(chunks)
      if (content.length !== entry.size)
        throw new Error(`${entry.path} has ${content.length} bytes, not ${entry.size}`)
      await writeFile(path, content, { mode: entry.mode })
    }
  }
}

/** Path, mode and content of everything in a folder; names and symlink targets in hexadecimal. */
export async function describeTree(folder: string | Buffer, prefix = Buffer.alloc(0)): Promise<string[]> {
  const lines: string[] = []
  for (const name of await readdir(folder, { encoding: 'buffer' })) {
    const path = Buffer.concat([Buffer.from(folder), Buffer.from('/'), name])
    const inside = Buffer.concat([prefix, Buffer.from('/'), name])
    const stats = await lstat(path)
    const head = `${inside.toString('latin1')} ${stats.mode.toString(8)}`
    if (stats.isDirectory()) lines.push(head, ...(await describeTree(path, inside)))
    else if (stats.isSymbolicLink()) lines.push(`${head} ${(await readlink(path, 'buffer')).toString('hex')}`)
    else lines.push(`${head} ${shown(await readFile(path))}`)
  }
  return lines.sort()
}

/** Short contents verbatim, so that failures are readable. */
function shown(content: Buffer): string {
  const text = JSON.stringify(content.toString('latin1'))
  return text.length < 200 ? text : `${content.length} ${createHash('sha256').update(content).digest('hex')}`
}
