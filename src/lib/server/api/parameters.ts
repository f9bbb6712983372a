import { Type } from '../../api/type.ts'

/** Query parameters of lists that have pages. */
export const PAGE = {
  limit: Type.Integer({ minimum: 1, maximum: 100, default: 50, description: 'Most entries of a page' }),
  cursor: Type.Optional(
    Type.String({ description: 'Where the page begins: as in `next` of the previous one' }),
  ),
}

/** Path of a build or an artifact by its id. */
export const IdPath = Type.Object({
  key: Type.String({
    description: 'Its id; or `owner/name@sha` with the slash encoded as %2F',
    examples: ['5b6f0c1e-8d0f-4f0b-9a50-0d5e3a9c1f37'],
  }),
})

/** Path of the newest build or artifact of a commit. */
export const CommitPath = Type.Object({
  owner: Type.String({ description: 'Owner of the repository', examples: ['acme'] }),
  name: Type.String({
    description: 'Name of the repository, `@`, and the commit id, or at least its first 7 digits',
    examples: ['web@827fecd2a1d5b8c1d2b4d4b1a0c9b7c3f0e6a5d4'],
  }),
})
