import { named, type Static, Type } from './type.ts'

/** A webhook delivery that requested a build. */
export const DeliveryAcceptedJson = named('DeliveryAccepted', {
  id: Type.String({ description: 'Id of the build' }),
  url: Type.String({ format: 'uri', description: 'URL of the build' }),
  log: Type.String({ format: 'uri', description: 'URL of its log' }),
  outcome: Type.Enum(['created', 'joined', 'redelivered'], {
    type: 'string',
    description:
      '`created`: a new build. `joined`: the commit is being built already. `redelivered`: this delivery, or another one of the same push, requested the build before.',
  }),
})
export type DeliveryAcceptedJson = Static<typeof DeliveryAcceptedJson>

/** A webhook delivery that requests no build. */
export const DeliveryIgnoredJson = named('DeliveryIgnored', {
  ignored: Type.String({ description: 'Why', examples: ['the branch was deleted'] }),
})
export type DeliveryIgnoredJson = Static<typeof DeliveryIgnoredJson>

/** A webhook delivery that requests no build, but changes something. */
export const DeliveryDoneJson = named('DeliveryDone', {
  done: Type.String({
    description: 'What',
    examples: [
      'build 5b6f0c1e-8d0f-4f0b-9a50-0d5e3a9c1f37 is cancelled: gh-readonly-queue/main/pr-7 is gone (dequeued)',
    ],
  }),
})
