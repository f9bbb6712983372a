import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readBuildSecrets } from '../../src/lib/config/build-secrets.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

let dir: TempDir
beforeEach(async () => {
  dir = await tempDir()
})
afterEach(() => dir[Symbol.asyncDispose]())

async function put(path: string, content: string): Promise<void> {
  const file = join(dir.path, path)
  await mkdir(join(file, '..'), { recursive: true })
  await writeFile(file, content)
}

async function secretsOf(repository: string): Promise<Record<string, string>> {
  const secrets = await readBuildSecrets(dir.path, repository)
  return Object.fromEntries(Object.entries(secrets).map(([id, bytes]) => [id, Buffer.from(bytes).toString()]))
}

describe('build secrets', () => {
  test.each(['Mixed/App', 'mixed/app', 'MIXED/APP'])('of a repository are found as %s', async (name) => {
    await put('npm', 'of all')
    await put('pip', 'of all')
    await put('Mixed/App/npm', 'of one')
    await put('Mixed/Apple/npm', 'of another')
    expect(await secretsOf(name)).toEqual({ npm: 'of one', pip: 'of all' })
    expect(await secretsOf('mixed/other')).toEqual({ npm: 'of all', pip: 'of all' })
  })

  test('in two directories of one owner belong to one repository each', async () => {
    await put('Mixed/app/a', '1')
    await put('mixed/other/b', '2')
    expect(await secretsOf('MIXED/app')).toEqual({ a: '1' })
    expect(await secretsOf('MIXED/other')).toEqual({ b: '2' })
  })

  test('in two directories of one repository are refused as ambiguous', async () => {
    await put('Mixed/App/npm', '1')
    await put('mixed/app/npm', '2')
    await expect(secretsOf('mixed/APP')).rejects.toMatchObject({
      kind: 'unavailable',
      retryable: false,
      message: expect.stringMatching(
        /^the build secrets of mixed\/APP are in .+\/Mixed\/App and .+\/mixed\/app$|^the build secrets of mixed\/APP are in .+\/mixed\/app and .+\/Mixed\/App$/,
      ),
    })
  })

  test('may have the name of an owner, as files or links', async () => {
    await put('acme', 'x')
    await put('..data/Other', 'y')
    await symlink(join(dir.path, '..data/Other'), join(dir.path, 'Other'))
    expect(await secretsOf('acme/app')).toEqual({ acme: 'x', Other: 'y' })
    expect(await secretsOf('other/app')).toEqual({ acme: 'x', Other: 'y' })
  })

  test('are optional, but a file in place of their directory is refused', async () => {
    expect(await readBuildSecrets(join(dir.path, 'none'), 'acme/app')).toEqual({})
    await put('file', 'x')
    await expect(readBuildSecrets(join(dir.path, 'file'), 'acme/app')).rejects.toThrow('cannot be read')
  })
})
