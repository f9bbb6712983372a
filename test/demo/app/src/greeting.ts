const GREETINGS: Record<string, (name: string) => string> = {
  en: (name) => `Hello, ${name}!`,
  fr: (name) => `Bonjour ${name} !`,
  is: (name) => `Halló ${name}!`,
}

/** The supported languages. */
export const languages = Object.keys(GREETINGS)

/** Greets in a language; undefined if it is not one of `languages`. */
export function greet(name: string, language: string): string | undefined {
  return languages.includes(language) ? GREETINGS[language]?.(name) : undefined
}
