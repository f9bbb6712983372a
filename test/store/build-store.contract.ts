import { describe } from 'vitest'
import { accepting } from './build-store/accepting.ts'
import { attempts } from './build-store/attempts.ts'
import { keeping } from './build-store/keeping.ts'
import { movingTags } from './build-store/moving-tags.ts'
import { ordering } from './build-store/ordering.ts'
import { pushes } from './build-store/pushes.ts'
import { queueing } from './build-store/queueing.ts'
import { recipes } from './build-store/recipes.ts'
import { secrets } from './build-store/secrets.ts'
import { type OpenedStore, type OpenOptions, Subject } from './build-store/subject.ts'
import { suspects } from './build-store/suspects.ts'
import { syncs } from './build-store/syncs.ts'

/** What every build store promises. `open` makes an empty one. */
export function buildStoreContract(name: string, open: (options: OpenOptions) => Promise<OpenedStore>): void {
  describe(`${name} (build store contract)`, () => {
    const subject = new Subject(open)
    accepting(subject)
    ordering(subject)
    attempts(subject)
    suspects(subject)
    movingTags(subject)
    pushes(subject)
    keeping(subject)
    recipes(subject)
    queueing(subject)
    secrets(subject)
    syncs(subject)
  })
}
