import type { Chill } from './contenders/contender.ts'
import { APP, MONOREPO, type Shape } from './workload/shape.ts'
import type { Workload } from './workload/workload.ts'

/** One kind of push that is measured. Its commit is new for all contenders, unless it says otherwise. */
export interface Scenario {
  id: string
  /** For people. */
  title: string
  shape: Shape
  /** What kind of machine; null: the one of the scenario before. With `new`, the registry has no image, too. */
  chill: Chill | null
  /** Only Conveyor can do it: it is compared with what the others did in that scenario. */
  against?: string
  /** Makes a commit that has to be built before the clock starts, if the scenario needs one. */
  before: (workload: Workload) => Promise<string | null>
  /** Makes the commit that is measured; none where the head of the branch is pushed again. */
  push: (workload: Workload) => Promise<string | null>
}

const nothing = async () => null

/** In the order in which they run, each on what those before it left. */
export const SCENARIOS: Scenario[] = [
  {
    id: 'S1',
    title: 'cold worker, nothing cached',
    shape: APP,
    chill: 'new',
    before: nothing,
    push: nothing,
  },
  {
    id: 'S4',
    title: 'cold worker, previous image in the registry',
    shape: APP,
    chill: 'cold',
    before: nothing,
    push: (workload) => workload.oneLine(),
  },
  {
    id: 'S4-warm',
    title: 'the same, once the worker has warmed up',
    shape: APP,
    chill: 'warmed',
    against: 'S4',
    before: nothing,
    push: (workload) => workload.oneLine(),
  },
  {
    id: 'S2',
    title: 'one-line change, warm worker',
    shape: APP,
    chill: null,
    before: nothing,
    push: (workload) => workload.oneLine(),
  },
  {
    id: 'S3',
    title: 'the same commit again',
    shape: APP,
    chill: null,
    before: nothing,
    push: nothing,
  },
  {
    id: 'S6',
    title: 'a revert to a tree that was built before',
    shape: APP,
    chill: null,
    before: async (workload) => (workload.canRevert ? null : workload.oneLine()),
    push: (workload) => workload.revert(),
  },
  {
    id: 'S7',
    title: 'documentation only, excluded by .dockerignore',
    shape: APP,
    chill: null,
    before: nothing,
    push: (workload) => workload.docs(),
  },
  {
    id: 'S5',
    title: 'dependency change',
    shape: APP,
    chill: null,
    before: nothing,
    push: (workload) => workload.dependency(),
  },
  {
    id: 'S2-20k',
    title: 'one-line change among 20,000 files, warm worker',
    shape: MONOREPO,
    chill: null,
    before: nothing,
    push: (workload) => workload.oneLine(),
  },
]
