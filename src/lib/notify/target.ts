import { createHash } from 'node:crypto'
import type { NotificationFormat } from '../store/notifications.ts'

/** Whom to notify, and how. */
export interface NotifyTarget {
  /** Stands for the URL and the format in the store. */
  key: string
  url: URL
  /** Signs what is sent; null for no signature. */
  secret: string | null
  format: NotificationFormat
}

/** @param url http or https */
export function notifyTarget(url: string, secret: string | null, format: NotificationFormat): NotifyTarget {
  const key = createHash('sha256').update(`${format} ${url}`).digest('hex').slice(0, 32)
  return { key, url: new URL(url), secret, format }
}
