import { randomBytes } from 'node:crypto'
import type { StoreDialect } from '../dialect.ts'

/** As long as the digests that it is used for. */
const SECRET_BYTES = 32

/**
 * The secret of this name, created once: every process on this database gets the same one, even if all ask at once. An
 * insert waits for a concurrent one of the same name to be committed, and then changes nothing.
 */
export function kyselySecret(dialect: Pick<StoreDialect, 'write'>, name: string): Promise<Uint8Array> {
  return dialect.write(async (trx) => {
    const created = randomBytes(SECRET_BYTES).toString('hex')
    await trx
      .insertInto('secrets')
      .values({ name, value: created })
      .onConflict((conflict) => conflict.column('name').doNothing())
      .execute()
    const { value } = await trx
      .selectFrom('secrets')
      .select('value')
      .where('name', '=', name)
      .executeTakeFirstOrThrow()
    return Buffer.from(value, 'hex')
  })
}
