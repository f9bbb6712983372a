import { ConveyorError } from '../../core/errors.ts'
import type { Pace } from '../../util/pace.ts'
import { type Git, GitFailure } from '../git/git.ts'

/** What `.gitmodules` says about a submodule. */
interface GitmodulesEntry {
  /** As written: it may be relative to that of the parent. Null if there is none that git accepts. */
  url: string | null
  /** False: it is not checked out (`update = none`). */
  wanted: boolean
}

/** By path in the tree, one character per byte. */
export type Gitmodules = ReadonlyMap<string, GitmodulesEntry>

/** Larger ones are refused: each submodule takes about a hundred bytes. */
export const MAX_GITMODULES = 1024 * 1024
/** Of what git lists: it repeats the name of a section for each of its lines. In bytes. */
const LONGEST_LIST = 8 * 1024 * 1024
const UPDATES = ['checkout', 'rebase', 'merge', 'none']

/**
 * Reads `.gitmodules` as git does in a clone: later values replace earlier ones, also for a path with several names.
 * @param oid of the blob
 * @param name of the file in errors
 * @throws ConveyorError `build_failed` where git refuses it; GitFailure if it cannot be read
 */
export async function readGitmodules(
  git: Git,
  gitDir: string,
  oid: string,
  name: string,
  { pace, signal }: { pace: Pace; signal: AbortSignal | undefined },
): Promise<Gitmodules> {
  const options = { gitDir, signal, mostBytes: LONGEST_LIST }
  const args = ['config', '--blob', oid, '--no-includes', '--null', '--list']
  const output = await git.run(args, options).catch(async (error) => {
    if (!(error instanceof GitFailure)) throw error
    await git.run(['cat-file', 'blob', oid], options) // throws if the blob is the problem, and not its content
    throw new ConveyorError('build_failed', `${name} is malformed`, {
      hint: 'Find the mistake with `git config --file .gitmodules --list`',
      cause: error,
    })
  })
  const byPath = new Map<string, string>()
  const values = new Map<string, string>()
  await pace.forEach(output.toString('latin1').split('\0'), (line) => {
    // KEY, newline, VALUE; the section and the variable are in lower case.
    const newline = line.indexOf('\n')
    const [, module, variable] =
      /^submodule\.(.*)\.([^.]+)$/s.exec(newline < 0 ? line : line.slice(0, newline)) ?? []
    if (module === undefined || variable === undefined || !isSafeName(module)) return
    if (!/^(path|url|update)$/.test(variable)) return
    const value = line.slice(newline + 1)
    if (newline < 0)
      throw new ConveyorError('build_failed', `${name} has no value for submodule.${module}.${variable}`)
    // git takes neither for an option of a command.
    if (value.startsWith('-')) return
    if (variable === 'update' && !UPDATES.includes(value)) {
      throw new ConveyorError(
        'build_failed',
        `${name} has an invalid value for submodule.${module}.update: ${value}`,
        {
          hint: `git accepts ${UPDATES.join(', ')} there`,
        },
      )
    }
    values.set(`${module}.${variable}`, value)
    if (variable === 'path') byPath.set(value, module)
  })
  const modules = new Map<string, GitmodulesEntry>()
  await pace.forEach(byPath, ([path, module]) => {
    if (values.get(`${module}.path`) !== path) return
    const url = utf8(values.get(`${module}.url`))
    modules.set(path, { url, wanted: values.get(`${module}.update`) !== 'none' })
  })
  return modules
}

/** git ignores others: they could name a folder outside of `.git/modules`. */
function isSafeName(name: string): boolean {
  return name !== '' && !name.split(/[/\\]/).includes('..')
}

function utf8(text: string | undefined): string | null {
  return text === undefined ? null : Buffer.from(text, 'latin1').toString('utf8')
}
