import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { deflateSync } from 'node:zlib'

/** One line of a tree, valid or not. */
export interface Line {
  mode: string
  name: Buffer
  /** 20 bytes. */
  id: Buffer
}

/** A bare repository into which objects are written as raw bytes, so that no git program can reject them. */
export class ForgedObjects {
  readonly gitDir: string
  readonly #written = new Set<string>()

  /** @param gitDir created if missing */
  constructor(gitDir: string) {
    this.gitDir = gitDir
    execFileSync('git', ['init', '--quiet', '--bare', gitDir], { stdio: 'ignore' })
  }

  async blob(content: Uint8Array): Promise<Buffer> {
    return this.#write('blob', content)
  }

  async tree(lines: readonly Line[]): Promise<Buffer> {
    const parts = lines.flatMap(({ mode, name, id }) => [Buffer.from(`${mode} `), name, Buffer.alloc(1), id])
    return this.#write('tree', Buffer.concat(parts))
  }

  /** Writes an object of any bytes under its correct id. */
  async #write(type: string, content: Uint8Array): Promise<Buffer> {
    const bytes = Buffer.concat([Buffer.from(`${type} ${content.length}\0`), content])
    const id = createHash('sha1').update(bytes).digest()
    const hex = id.toString('hex')
    if (this.#written.has(hex)) return id
    this.#written.add(hex)
    const folder = join(this.gitDir, 'objects', hex.slice(0, 2))
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, hex.slice(2)), deflateSync(bytes, { level: 1 }))
    return id
  }

  /** Removes all objects, so that there are never too many. */
  async clear(): Promise<void> {
    const folders = new Set([...this.#written].map((hex) => hex.slice(0, 2)))
    this.#written.clear()
    for (const folder of folders)
      await rm(join(this.gitDir, 'objects', folder), { recursive: true, force: true })
  }
}
