import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { gitMirrors } from '../../src/lib/source/mirrors.ts'
import type { Context } from '../../src/lib/source/source.ts'
import { describeTree, materialise } from '../support/context/on-disk.ts'
import { type FileContent, gitEnv } from '../support/git/repository.ts'
import { startGitServer } from '../support/git/server.ts'
import { basicEnv, start } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'

/** A context must be what `git checkout` would have written, in every byte and mode. */

const LONG = 'n'.repeat(251)

/** Every kind of entry that git knows, and names that differ only in bytes. */
const ODD: [string | Buffer, FileContent][] = [
  ['Dockerfile', 'FROM scratch\nCOPY . /\n'],
  ['plain', 'plain\n'],
  ['empty', ''],
  ['executable', { content: '#!/bin/sh\n', mode: 0o755 }],
  ['empty executable', { content: '', mode: 0o755 }],
  ['binary', Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7) % 256))],
  ['medium', Buffer.alloc(700_000, 'medium ')],
  ['links/to-file', { symlink: '../plain' }],
  ['links/to-directory', { symlink: '../names' }],
  ['links/dangling', { symlink: 'no/such/thing' }],
  ['links/absolute', { symlink: '/etc/hostname' }],
  ['links/outside', { symlink: '../../../..' }],
  ['links/self', { symlink: 'self' }],
  ['links/odd target', { symlink: Buffer.from('a b\n\xff"', 'latin1') }],
  ['names/with space', '1'],
  ['names/ leading and trailing ', '2'],
  ['names/new\nline', '3'],
  ['names/tab\there', '4'],
  ['names/"quoted" \'too\'', '5'],
  ['names/back\\slash', '6'],
  ['names/-rf', '7'],
  ['names/--', '8'],
  ['names/*?[x]', '9'],
  ['names/#hash', '10'],
  ['names/!bang', '11'],
  ['names/häß/ünïcode', '12'],
  ['names/😀', '13'],
  ['names/e\u0301', 'decomposed'],
  ['names/\u00e9', 'composed'],
  ['names/\u{10ffff}', 'astral'],
  ['names/\uffee', 'high in the basic plane'],
  [Buffer.from('names/\xff\xfe', 'latin1'), 'not UTF-8'],
  [Buffer.from('names/\xff', 'latin1'), 'reads the same as the next'],
  [Buffer.from('names/\xfe', 'latin1'), 'reads the same as the one before'],
  [Buffer.from('dirs/\xfe/file', 'latin1'), 'one'],
  [Buffer.from('dirs/\xff/file', 'latin1'), 'two'],
  ['names/\x01\x7f', 'control characters'],
  [`long/${LONG}/${LONG}/${LONG}/${LONG}`, 'long'],
  ['order/a/b', ''],
  ['order/a-b', ''],
  ['order/a.b', ''],
  ['order/a0', ''],
  ['order/ab/c', ''],
  ['.hidden', ''],
  ['.gitignore', '*\n'],
]

/** Files that a checkout converts, and some that only look as if it did. */
const CONVERTED: [string, FileContent][] = [
  [
    '.gitattributes',
    [
      '[attr]dos text eol=crlf',
      '*.bat text eol=crlf',
      '*.dos dos',
      '*.id ident',
      '*.utf16 text working-tree-encoding=UTF-16LE',
      '*.both text eol=crlf working-tree-encoding=UTF-16LE-BOM ident',
      '*.auto text=auto eol=crlf',
      '*.binary eol=crlf -text',
      '"quoted name" eol=crlf',
      'Dockerfile eol=crlf',
      '',
    ].join('\n'),
  ],
  ['Dockerfile', 'FROM scratch\nCOPY . /\n'],
  ['a.bat', 'one\ntwo\n'],
  ['mixed.bat', 'one\r\ntwo\n'],
  ['run.bat', { content: 'one\n', mode: 0o755 }],
  ['empty.bat', ''],
  ['link.bat', { symlink: 'a.bat' }],
  ['b.dos', 'one\ntwo\n'],
  ['c.id', 'before $Id$ after\n'],
  ['old.id', '$Id: 0123 $\n'],
  ['d.utf16', 'h\u00e4\n'],
  ['bad.utf16', Buffer.from('\xff\xfe\xfd', 'latin1')],
  ['e.both', '$Id$\n'],
  ['text.auto', 'one\n'],
  ['binary.auto', Buffer.from('one\n\0two\n')],
  ['f.binary', 'one\n'],
  ['quoted name', 'one\n'],
  ['sub/.gitattributes', '*.bat -text\n*.txt eol=crlf\n'],
  ['sub/a.bat', 'one\n'],
  ['sub/a.txt', 'one\n'],
  ['sub/deeper/.gitattributes', '*.txt !eol !text\n'],
  ['sub/deeper/a.txt', 'one\n'],
  ['sub/deeper/a b\n.txt', 'one\n'],
  ['other.txt', 'one\n'],
]

test.each([
  ['odd names and kinds', ODD],
  ['converted files', CONVERTED],
] as const)('%s', async (_, files) => {
  await using server = await startGitServer()
  await using temp = await tempDir()
  const repository = await server.create('acme/odd')
  const sha = await repository.commit(new Map<string | Buffer, FileContent>(files))
  const source = gitMirrors({
    dir: join(temp.path, 'mirrors'),
    url: server.urlTemplate,
    environment: basicEnv(),
  })
  onTestFinished(() => source.close())
  const context = await source.context(await source.fetch('acme/odd', sha))
  const [ours, gits] = [join(temp.path, 'ours'), join(temp.path, 'gits')]
  await materialise(context, ours)
  await context.close()
  await mkdir(gits)
  // In a shell, because the modes depend on the umask.
  const command = 'umask 022; git --git-dir "$1" --work-tree "$2" checkout --force --quiet "$3" -- .'
  const checkout = await start('sh', ['-c', command, '-', repository.dir, gits, sha], { env: gitEnv() })
  expect(await checkout.exited, checkout.stderr()).toMatchObject({ code: 0 })

  const expected = await describeTree(gits)
  expect(expected.length).toBeGreaterThanOrEqual(files.length)
  expect(await describeTree(ours)).toEqual(expected)
  expect(inWalkOrder(context)).toBe(true)
})

function inWalkOrder({ entries }: Context): boolean {
  const keys = entries.map(({ rawPath }) => Buffer.from(rawPath.map((byte) => (byte === 47 ? 0 : byte))))
  return keys.every((key, i) => i === 0 || Buffer.compare(keys[i - 1] as Buffer, key) < 0)
}
