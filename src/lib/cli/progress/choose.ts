import { Chalk, chalkStderr } from 'chalk'
import type { TerminalEnvironment } from '../../config/client/environment.ts'
import { type Output, type ProgressKind, type ProgressView, plainProgress } from './view.ts'

export interface ProgressOptions {
  kind: ProgressKind
  environment: TerminalEnvironment
}

/**
 * The view that `--progress` names; `auto` is `tty` in a terminal that can move its cursor, and `plain` elsewhere.
 * @param title what is being built
 */
export async function progressView(
  out: Output,
  title: string,
  { kind, environment: { dumb, noColor } }: ProgressOptions,
): Promise<ProgressView> {
  if (kind === 'json') {
    const { jsonProgress } = await import('./json.ts')
    return jsonProgress(out)
  }
  if (kind === 'plain' || (kind === 'auto' && (dumb || out.isTTY !== true))) return plainProgress(out)
  const { TerminalProgress } = await import('./terminal.ts')
  return new TerminalProgress(out, { title, colors: noColor ? new Chalk({ level: 0 }) : chalkStderr })
}
