/**
 * Follows a log until it ends.
 * @param onPiece called with the log so far whenever it has grown, without heartbeats
 * @returns the log
 */
export async function readLog(url: string, onPiece: (log: string) => void): Promise<string> {
  const answer = await fetch(url)
  if (answer.status !== 200 || answer.body === null) {
    throw new Error(`the log was answered ${answer.status}: ${await answer.text()}`)
  }
  const decoder = new TextDecoder()
  let log = ''
  for await (const piece of answer.body as AsyncIterable<Uint8Array>) {
    const text = decoder.decode(piece, { stream: true }).replaceAll('-- still running --\n', '')
    log += text
    if (text !== '') onPiece(log)
  }
  return log
}
