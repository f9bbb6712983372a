import type { TokenJson } from '../../api/token.ts'
import type { Scope } from '../../core/access/access-token.ts'
import { table } from '../table.ts'

const RIGHTS: Record<Scope, string> = {
  read: 'read builds and logs',
  build: 'read builds and logs, and start, cancel, and retry builds',
  admin: 'do everything, also create and revoke tokens',
}

/** What a new token is good for, for the person who created it. */
export function tokenSummary({ name, scope, repositories, expires_at: expires }: TokenJson): string[] {
  const of = repositories.length === 0 ? 'of all repositories' : `of ${repositories.join(', ')}`
  const until = expires === null ? 'never expires' : `expires at ${minute(expires)} UTC`
  return [
    `created the token ${name}: it can ${RIGHTS[scope]}${scope === 'admin' ? '' : `, ${of}`}; it ${until}`,
    'It cannot be shown again. Use it in CONVEYOR_TOKEN, as `Authorization: Bearer TOKEN`, or as the password of any user',
  ]
}

/** A table, aligned for a terminal; empty without tokens. */
export function tokenTable(tokens: TokenJson[]): string {
  const rows = tokens.map((token) => [
    token.name,
    token.scope,
    token.repositories.join(',') || 'all',
    token.state === 'expired' ? 'expired' : token.expires_at === null ? 'never' : minute(token.expires_at),
    token.last_used_at === null ? 'never' : minute(token.last_used_at),
    token.created_by,
    token.id,
  ])
  return table(['NAME', 'SCOPE', 'REPOSITORIES', 'EXPIRES', 'LAST USED', 'CREATED BY', 'ID'], rows)
}

/** `2026-03-01 12:34` */
function minute(time: string): string {
  return time.slice(0, 16).replace('T', ' ')
}
