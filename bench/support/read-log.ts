/**
 * Follows a log to its end.
 * @param onPiece called with what the log holds by then, whenever it has grown; heartbeats are no part of it
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
