import { execFile } from 'node:child_process'
import { symlink, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { projectRoot } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'

const run = promisify(execFile)

/** Sets the variables of a completion as bash does, and prints what it suggests. */
const SUGGEST = `
eval "$(conveyor autocomplete script bash)"
suggest() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*"
  _conveyor_autocomplete
  echo "\${COMPREPLY[*]}"
}
complete -p conveyor
suggest conveyor bui
suggest conveyor list --st
suggest conveyor token ''
`

test('bash completes commands, flags and topics', async () => {
  await using home = await tempDir()
  await symlink(`${projectRoot}bin/run.js`, `${home.path}/conveyor`)
  await writeFile(`${home.path}/suggest.sh`, SUGGEST)
  const env = {
    HOME: home.path,
    PATH: `${home.path}:${dirname(process.execPath)}:/usr/bin:/bin`,
  }
  await run('conveyor', ['autocomplete', '--refresh-cache'], { env })
  const { stdout } = await run('bash', [`${home.path}/suggest.sh`], { env })
  expect(stdout.split('\n')).toEqual([
    'complete -F _conveyor_autocomplete conveyor',
    'build',
    '--state',
    'create list revoke',
    '',
  ])
})
