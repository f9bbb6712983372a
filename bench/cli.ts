import { join } from 'node:path'
import { basicEnv, projectRoot, start } from '../test/support/processes.ts'
import { type Spread, spread } from './report/stats.ts'
import { say } from './support/run.ts'

/** How long programs take from start to end, in milliseconds. */
export interface CliResult {
  node: Spread
  help: Spread
  build: Spread
}

const ROUNDS = 20

/**
 * Times `conveyor --help`, a `conveyor build` that has nothing to do (its target is invalid), and, as the baseline,
 * Node with an empty program; in turns.
 */
export async function measureCli(): Promise<CliResult> {
  const run = join(projectRoot, 'bin/run.js')
  const programs: [keyof CliResult, string[], number][] = [
    ['node', ['-e', '0'], 0],
    ['help', [run, '--help'], 0],
    ['build', [run, 'build', 'x'], 2],
  ]
  const times: Record<keyof CliResult, number[]> = { node: [], help: [], build: [] }
  for (let round = -1; round < ROUNDS; round++) {
    for (const [name, args, expected] of programs) {
      const began = performance.now()
      const program = await start(process.execPath, args, { env: basicEnv(), stdio: 'ignore' })
      const { code } = await program.exited
      const took = performance.now() - began
      if (code !== expected)
        throw new Error(`node ${args.join(' ')} exited with ${code}, expected ${expected}`)
      if (round >= 0) times[name].push(took) // the first round fills Node's compile cache
    }
  }
  return { node: spread(times.node), help: spread(times.help), build: spread(times.build) }
}

/** For the terminal. */
export function cliLines({ node, help, build }: CliResult): string[] {
  const line = (name: string, { median, min, max }: Spread) => {
    const ratio = (median / node.median).toFixed(1)
    return `${name.padEnd(18)} ${median.toFixed(0)} ms (${min.toFixed(0)} to ${max.toFixed(0)}), ${ratio} times bare Node`
  }
  return [line('node -e 0', node), line('conveyor --help', help), line('conveyor build x', build)]
}

if (import.meta.main) cliLines(await measureCli()).map(say)
