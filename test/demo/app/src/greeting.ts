const GREETINGS: Record<string, (name: string) => string> = {
  en: (name) => `Hello, ${name}!`,
  fr: (name) => `Bonjour ${name} !`,
  is: (name) => `Halló ${name}!`,
}

/** The languages that can be asked for. */
export const languages = Object.keys(GREETINGS)

/** Greets in a language; undefined when it is not one of `languages`. */
export function greet(name: string, language: string): string | undefined {
  return languages.includes(language) ? GREETINGS[language]?.(name) : undefined
}
