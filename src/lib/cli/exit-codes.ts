/** The exit codes of a command and their meanings, for --help and docs/cli.md. */
export type ExitCodes = Readonly<Record<number, string>>

/** Of commands that run until they are stopped. */
export const SERVICE_EXIT_CODES: ExitCodes = {
  0: 'stopped by SIGINT or SIGTERM',
  2: 'invalid configuration',
  3: 'a required service is unavailable',
}

/** Of commands that run a build. */
export const BUILD_EXIT_CODES: ExitCodes = {
  0: 'the build succeeded',
  1: 'the build failed, or somebody cancelled it',
  2: 'the request is invalid: arguments, unknown repository or branch, refused credentials',
  3: 'the server, or another required service, is unavailable; retrying may help',
  130: 'interrupted (Ctrl-C)',
}

/** Of commands that manage tokens. */
export const TOKEN_EXIT_CODES: ExitCodes = {
  0: 'done',
  2: 'the request is invalid: arguments, a name that is taken, an unknown token, refused credentials',
  3: 'the server or the database is unavailable; retrying may help',
}

/** A description, whose paragraphs may be several lines of source, with the exit codes below it. */
export function withExitCodes(description: string, codes: ExitCodes): string {
  return `${description.replace(/(?<!\n)\n(?!\n)/g, ' ')}${exitCodesHelp(codes)}`
}

/** What `withExitCodes` adds. */
export function exitCodesHelp(codes: ExitCodes): string {
  const lines = Object.entries(codes).map(([code, meaning]) => `${code}  ${meaning}`)
  return `\n\nExit codes:\n${lines.join('\n')}`
}
