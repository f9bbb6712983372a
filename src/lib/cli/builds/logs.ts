import { getBuild, logNow } from '../../client/builds.ts'
import { type ClientOptions, followBuild } from '../../client/client.ts'
import type { Connection } from '../../client/connection.ts'
import { untilStopped } from '../../util/lifecycle.ts'
import { plainProgress } from '../progress/view.ts'
import { printResult } from '../standard-streams.ts'

/** Prints the log of a build to stdout, until its present end or until the build ends. @throws ConveyorError */
export async function printLog(
  connection: Connection,
  server: Pick<ClientOptions, 'url' | 'auth' | 'proxies'>,
  target: string,
  follow: boolean,
): Promise<void> {
  const build = await getBuild(connection, target)
  const onLog = (bytes: Uint8Array) => printResult(bytes)
  if (!follow) {
    for await (const bytes of logNow(connection, build)) await onLog(bytes)
    return
  }
  const onNotice = plainProgress(process.stderr).say
  await followBuild({ ...server, request: build, onLog, onNotice, signal: untilStopped() })
}
