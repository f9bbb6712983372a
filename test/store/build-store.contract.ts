import { describe } from 'vitest'
import { accepting } from './contract/accepting.ts'
import { accessTokens } from './contract/access-tokens.ts'
import { attempts } from './contract/attempts/attempts.ts'
import { cancels } from './contract/attempts/cancels.ts'
import { suspects } from './contract/attempts/suspects.ts'
import { comparing } from './contract/comparing/comparing.ts'
import { fleet } from './contract/fleet.ts'
import { checkRuns } from './contract/forge/check-runs.ts'
import { keeping } from './contract/keeping.ts'
import { listing } from './contract/lists/builds.ts'
import { idempotency } from './contract/lists/idempotency.ts'
import { surroundings } from './contract/lists/surroundings.ts'
import { movingTags } from './contract/moving-tags.ts'
import { ordering } from './contract/ordering.ts'
import { outbound } from './contract/outbound/notifications.ts'
import { pulls } from './contract/pulls/pulls.ts'
import { pushes } from './contract/pushes.ts'
import { queueing } from './contract/queueing.ts'
import { recipes } from './contract/recipes.ts'
import { secrets } from './contract/secrets/secrets.ts'
import { sessions } from './contract/secrets/sessions.ts'
import { type OpenedStore, type OpenOptions, Subject } from './contract/subject.ts'
import { syncs } from './contract/syncs.ts'
import { timelines } from './contract/timelines.ts'
import { superseding } from './contract/waiting/superseding.ts'
import { turnsOfBuilds } from './contract/waiting/turns.ts'

/** What every build store promises. `open` makes an empty one. */
export function buildStoreContract(name: string, open: (options: OpenOptions) => Promise<OpenedStore>): void {
  describe(`${name} (build store contract)`, () => {
    const subject = new Subject(open)
    accepting(subject)
    ordering(subject)
    attempts(subject)
    cancels(subject)
    suspects(subject)
    movingTags(subject)
    pushes(subject)
    pulls(subject)
    keeping(subject)
    recipes(subject)
    queueing(subject)
    secrets(subject)
    syncs(subject)
    listing(subject)
    surroundings(subject)
    idempotency(subject)
    timelines(subject)
    checkRuns(subject)
    fleet(subject)
    turnsOfBuilds(subject)
    superseding(subject)
    outbound(subject)
    accessTokens(subject)
    sessions(subject)
    comparing(subject)
  })
}
