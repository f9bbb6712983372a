import { execFile } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type GitMirrors, gitMirrors } from '../../src/lib/source/mirrors.ts'
import { materialise } from '../support/context/on-disk.ts'
import { gitEnv } from '../support/git/repository.ts'
import { basicEnv } from '../support/processes.ts'
import type { Draw } from './generate/draw.ts'
import type { History } from './generate/model.ts'
import { CLONE_CONFIG, clone, createRepository, type TestRepository } from './repository.ts'

/** What git and setuptools-scm say in a context with `.git` folders, against what they say in a clone. */

const run = promisify(execFile)

const QUESTIONS = [
  ['git', 'status', '--porcelain'],
  ['git', 'describe', '--tags', '--dirty'],
  ['git', 'describe', '--dirty', '--always'],
  ['git', 'describe', '--tags', '--long', '--match', 'v*'],
  ['git', 'describe', '--tags', '--exact-match'],
  ['git', 'log', '-1', '--format=raw', '--decorate=full', '--decorate-refs=refs/tags'],
  ['git', 'log', '--format=%H %P %s'],
  ['git', 'submodule', 'status', '--recursive'],
  ['git', 'rev-list', '--count', 'HEAD'],
  ['git', 'ls-files', '--stage'],
]

export interface Asked {
  /** Commits whose answers were compared. */
  cases: number
  /** How many of them could not be cloned, and had no context either. */
  failed: number
  /** How the answers to the last of them differ; null if they do not. */
  difference: string | null
}

let runs = 0

/**
 * Asks after each commit of a history, with tags that are drawn.
 * @param folder a temporary one
 */
export async function askHistory({ commits }: History, draw: Draw, folder: string): Promise<Asked> {
  const name = `differential/g${process.pid}-${runs++}`
  const dir = join(folder, 'repositories', `${name}.git`)
  const repository = await createRepository(dir, { base: 'scratch', run: name })
  const source = gitMirrors({
    ...{ dir: join(folder, `mirrors${runs}`), url: `file://${folder}/repositories/{repository}.git` },
    ...{ environment: basicEnv(), gitFolder: () => true },
  })
  let [cases, failed] = [0, 0]
  try {
    for (const [index, { tree }] of commits.entries()) {
      // What it excludes is not in a context, of course.
      const files = [...tree].filter(([path]) => !/dockerignore$/i.test(path))
      const sha = await repository.commit(new Map(files))
      await addTags(draw, repository, index)
      const [ours, gits] = ['ours', 'gits'].map((one) => join(folder, `${one}${runs}-${index}`)) as [
        string,
        string,
      ]
      const broken = await clone(dir, gits)
      const refused = await write(source, name, sha, ours)
      cases++
      if (broken !== null && refused !== null) failed++
      else if (broken !== null)
        return { cases, failed, difference: `there is a context, but no clone:\n${broken}` }
      else if (refused !== null)
        return { cases, failed, difference: `there is a clone, but no context:\n${refused}` }
      else {
        const difference = await ask(ours, gits)
        if (difference !== null) return { cases, failed, difference }
      }
      for (const one of [ours, gits]) await rm(one, { recursive: true, force: true })
    }
    return { cases, failed, difference: null }
  } finally {
    await source.close()
  }
}

/** Null if it was written; else why it could not be. */
async function write(source: GitMirrors, name: string, sha: string, folder: string): Promise<string | null> {
  try {
    const context = await source.context(await source.fetch(name, sha))
    try {
      await materialise(context, folder)
    } finally {
      await context.close()
    }
    return null
  } catch (error) {
    return String(error)
  }
}

async function ask(ours: string, gits: string): Promise<string | null> {
  const { stdout } = await run('find', ['.', '-name', '.git', '-printf', '%h\\0'], {
    cwd: gits,
    encoding: 'latin1',
  })
  for (const at of stdout.split('\0').slice(0, -1).toSorted()) {
    let isDirty = false
    for (const question of QUESTIONS) {
      const inside = (folder: string) => Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(at, 'latin1')])
      const one = await answer(inside(ours), question)
      const other = await answer(inside(gits), question, CLEAN)
      if (question[1] === 'status') isDirty = other !== ''
      // Whether git takes a file that it has just converted for changed is a matter of milliseconds there.
      if (
        isDirty &&
        (question[1] === 'status' ? isPartOf(one, other) : isPartOf(one, other.replace('-dirty', '')))
      )
        continue
      if (one !== other) return `${question.join(' ')} in ${at} says\n${one}\nin the clone\n${other}`
    }
  }
  return null
}

/** Whether all lines of a text are among those of another. */
function isPartOf(part: string, whole: string): boolean {
  const lines = new Set(whole.split('\n'))
  return part.split('\n').every((line) => line === '' || lines.has(line))
}

/** What git says there; how it ends if it fails, as its reasons name branches and tags that a context does not have. */
async function answer(
  folder: Buffer,
  question: readonly string[],
  config: readonly string[] = [],
): Promise<string> {
  try {
    const env = { ...gitEnv(), GIT_ALLOW_PROTOCOL: 'none', ...environmentOf(config) }
    const where = folder.toString('utf8')
    const options = { env, cwd: where, encoding: 'latin1', maxBuffer: 1 << 26 } as const
    const { stdout } = await run(question[0] ?? '', question.slice(1), options)
    // Which branch or tag a submodule is at.
    return question[1] === 'submodule' ? stdout.replace(/ \(.*\)$/gm, '') : stdout
  } catch (error) {
    return `status ${(error as { code: unknown }).code}`
  }
}

/** As `git lfs install` has it. */
const CLEAN = ['filter.lfs.clean=git-lfs clean -- %f', ...CLONE_CONFIG]

function environmentOf(config: readonly string[]): Record<string, string> {
  const pairs = config.flatMap((one, index): [string, string][] => [
    [`GIT_CONFIG_KEY_${index}`, one.slice(0, one.indexOf('='))],
    [`GIT_CONFIG_VALUE_${index}`, one.slice(one.indexOf('=') + 1)],
  ])
  return { GIT_CONFIG_COUNT: String(config.length), ...Object.fromEntries(pairs) }
}

/** Light and annotated ones, of this commit, an earlier one, a tag, or of another branch. */
async function addTags(draw: Draw, { git }: TestRepository, index: number): Promise<void> {
  const who = ['-c', 'user.name=Ada', '-c', 'user.email=ada@example.com']
  for (let wanted = draw.whole(0, 2); wanted > 0; wanted--) {
    const name = draw.one([
      'v1.0',
      'v1.1',
      `v2.${index}`,
      'light',
      'app/v3',
      'v1.0.dev1',
      'V1.0',
      'release-7',
      'v1-rc.1',
    ])
    const of = draw.one([
      'main',
      'main',
      `main~${draw.whole(0, index)}`,
      'main^{tree}',
      ...(await git('tag')).split('\n'),
    ])
    if (of === '') continue
    await git(...who, 'tag', '-f', ...(draw.chance(60) ? ['-a', '-m', `Release ${name}`] : []), name, of)
  }
  if (draw.chance(15)) await git('tag', '-d', ...(await git('tag')).split('\n').slice(0, 1)).catch(() => {})
  if (draw.chance(15)) await git('update-ref', 'refs/heads/other', 'main')
}
