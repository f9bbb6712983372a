import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { projectRoot } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'

const BIN = join(projectRoot, 'node_modules/.bin')

test('the generated protocol code is what `npm run proto` generates', async () => {
  await using output = await tempDir()
  await promisify(execFile)(join(BIN, 'buf'), ['generate', '--output', output.path], {
    cwd: join(projectRoot, 'src/lib/buildkit'),
    // buf finds its plugin in the PATH, and caches modules under HOME.
    env: { PATH: [BIN, process.env.PATH].join(delimiter), HOME: output.path },
  })
  const generated = await textsIn(join(output.path, 'gen'))
  expect(Object.keys(generated).length).toBeGreaterThan(5)
  expect(await textsIn(join(projectRoot, 'src/lib/buildkit/gen'))).toEqual(generated)
})

/** The text of every file below the folder, by relative path. */
async function textsIn(folder: string): Promise<Record<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
  const texts = files.map(async (file) => [file.slice(folder.length + 1), await readFile(file, 'utf8')])
  return Object.fromEntries(await Promise.all(texts))
}
