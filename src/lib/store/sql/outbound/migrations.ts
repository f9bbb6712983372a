import { type Kysely, sql } from 'kysely'

/** Webhooks that are sent when builds end. */
export async function addNotifications(db: Kysely<unknown>): Promise<void> {
  const { schema } = db
  await schema
    .createTable('ended_builds')
    .addColumn('build_id', 'text', (column) => column.primaryKey().references('builds.id'))
    .addColumn('ended_at', 'text', (column) => column.notNull())
    .execute()
  await schema.createIndex('ended_builds_by_age').on('ended_builds').column('ended_at').execute()
  await schema
    .createTable('notifications')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('build_id', 'text', (column) => column.notNull().references('builds.id'))
    .addColumn('position', 'integer', (column) => column.notNull())
    .addColumn('target', 'text', (column) => column.notNull())
    .addColumn('origin', 'text', (column) => column.notNull())
    .addColumn('format', 'text', (column) => column.notNull())
    .addColumn('tag', 'text')
    .addColumn('state', 'text', (column) => column.notNull())
    .addColumn('attempts', 'integer', (column) => column.notNull())
    .addColumn('tries_left', 'integer', (column) => column.notNull())
    .addColumn('due_at', 'text', (column) => column.notNull())
    .addColumn('status', 'integer')
    .addColumn('answer', 'text')
    .addColumn('error', 'text')
    .addColumn('took_ms', 'integer')
    .addColumn('created_at', 'text', (column) => column.notNull())
    .addColumn('attempted_at', 'text')
    .execute()
  await schema
    .createIndex('notifications_due')
    .on('notifications')
    .columns(['target', 'due_at'])
    .where(sql<boolean>`state = 'pending'`)
    .execute()
  await schema
    .createIndex('notifications_of_build')
    .on('notifications')
    .columns(['build_id', 'position'])
    .execute()
  await schema.createIndex('notifications_by_age').on('notifications').column('created_at').execute()
}

/** Why the server itself asks for a build. */
export async function addReasons(db: Kysely<unknown>): Promise<void> {
  await db.schema.alterTable('builds').addColumn('reason', 'text').execute()
}
