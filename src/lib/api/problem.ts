/** Body of every error response. `id` is for programs; `message` and `hint` are for people. */
export interface Problem {
  id: string
  message: string
  hint?: string
}
