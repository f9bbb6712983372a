import type { LogWriter } from '../../src/lib/logs/log-store.ts'

/** A log that is kept in memory. */
export function memoryLog(): LogWriter & { text: string } {
  const log = {
    text: '',
    async write(chunk: Uint8Array | string) {
      log.text += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString()
    },
    async flush() {},
    async close() {},
    async end() {},
  }
  return log
}
