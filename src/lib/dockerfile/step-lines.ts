import { inOwnTurn } from '../util/own-turn.ts'
import { InvalidDockerfile, UnpredictableDockerfile } from './errors.ts'
import { type Instruction, type LineRange, parse } from './instructions.ts'
import { lineOf, outlineOf, placeOf, positionOf } from './outline.ts'

/** The lines of the instruction that a step executes; null if they are not certain. @param stepName as BuildKit names it */
export function linesOfStep(dockerfile: string, stepName: string): Promise<LineRange | null> {
  return certain(dockerfile, (places, instructions) => {
    if (!instructions) return undefined
    const outline = outlineOf(instructions.map(lineOf))
    const place = placeOf(outline, stepName)
    return place ? (places[positionOf(outline, place)] ?? null) : null
  })
}

/** The lines of the instruction that begins at a line; null if none does for certain. */
export function linesFrom(dockerfile: string, first: number): Promise<LineRange | null> {
  return certain(dockerfile, (places) => places.find((place) => place.first === first))
}

/**
 * What all frontends agree on, whichever heredocs they know.
 * @param find is given no instructions if the frontend rejects the Dockerfile; undefined: this frontend does not count
 */
async function certain(
  dockerfile: string,
  find: (places: LineRange[], instructions: Instruction[] | null) => LineRange | null | undefined,
): Promise<LineRange | null> {
  let found: LineRange | undefined
  for (const heredocs of ['spaced', 'tight', 'none'] as const) {
    const one = await inOwnTurn(() => {
      const places: LineRange[] = []
      return find(places, parsed(dockerfile, heredocs, places))
    })
    if (one === undefined) continue
    if (one === null || (found && (found.first !== one.first || found.last !== one.last))) return null
    found = one
  }
  return found ?? null
}

function parsed(
  dockerfile: string,
  heredocs: 'spaced' | 'tight' | 'none',
  places: LineRange[],
): Instruction[] | null {
  try {
    return parse(dockerfile, heredocs, places).instructions
  } catch (error) {
    if (error instanceof InvalidDockerfile || error instanceof UnpredictableDockerfile) return null
    throw error
  }
}
