import { named, type Static, Type } from './type.ts'

/** Body of every error response. `id` is for programs; `message` and `hint` are for people. */
export const Problem = named(
  'Problem',
  {
    id: Type.String({ description: 'What went wrong, for programs', examples: ['not_found'] }),
    message: Type.String({ description: 'What went wrong, for people', examples: ['build 42 not found'] }),
    hint: Type.Optional(Type.String({ description: 'What to do next' })),
    field: Type.Optional(
      Type.String({
        description: 'The key of the body, the query parameter or the header that is invalid',
        examples: ['sha'],
      }),
    ),
  },
  { description: 'Why a request was not answered' },
)
export type Problem = Static<typeof Problem>
