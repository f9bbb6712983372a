import { instructionsOf } from './outline.ts'

/**
 * Which of these build arguments a Dockerfile declares with ARG, in any stage. In one that cannot be parsed, every one
 * that it mentions counts as declared.
 * @param dockerfile null if it could not be read: it declares none
 */
export function declaredArgs<Name extends string>(dockerfile: string | null, names: readonly Name[]): Name[] {
  if (dockerfile === null) return []
  const instructions = instructionsOf(dockerfile)
  const texts = instructions?.flatMap(({ keyword, args }) => {
    if (keyword === 'arg') return [args]
    return keyword === 'onbuild' && /^arg\s/i.test(args) ? [args] : []
  }) ?? [dockerfile]
  return names.filter((name) => {
    const mention = new RegExp(`(?<!\\w)${name}(?!\\w)`)
    return texts.some((text) => mention.test(text))
  })
}
