import { basicEnv, lastLines, start } from '../../test/support/processes.ts'

export interface RunOptions {
  /** Added to PATH, HOME and TMPDIR. */
  env?: NodeJS.ProcessEnv
  cwd?: string
}

/**
 * Runs a program, and resolves to its stdout.
 * @throws Error with the end of its output when it fails
 */
export async function run(command: string, args: string[], options: RunOptions = {}): Promise<string> {
  const { env, ...rest } = options
  await using program = await start(command, args, { env: { ...basicEnv(), ...env }, ...rest })
  const { code, signal } = await program.exited
  if (code === 0) return program.stdout()
  const output = lastLines(`${program.stdout()}\n${program.stderr()}`, 12)
  throw new Error(`${command} ${args[0] ?? ''} ended with ${code ?? signal}:\n${output}`)
}

/** A line for the person who waits. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`)
}
