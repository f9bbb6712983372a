/**
 * Attributes of OpenTelemetry's conventions for pipelines and version control, which are not stable yet: copied, as the
 * package of the conventions asks for with those.
 * https://opentelemetry.io/docs/specs/semconv/cicd/cicd-spans/
 */
export const PIPELINE_ACTION = 'cicd.pipeline.action.name'
export const PIPELINE_NAME = 'cicd.pipeline.name'
export const RUN_ID = 'cicd.pipeline.run.id'
export const RUN_URL = 'cicd.pipeline.run.url.full'
export const RESULT = 'cicd.pipeline.result'
export const TASK_NAME = 'cicd.pipeline.task.name'
export const TASK_RUN_ID = 'cicd.pipeline.task.run.id'
export const TASK_RESULT = 'cicd.pipeline.task.run.result'
export const REPOSITORY = 'vcs.repository.name'
export const REF = 'vcs.ref.head.name'
export const REF_TYPE = 'vcs.ref.head.type'
export const REVISION = 'vcs.ref.head.revision'
export { ATTR_ERROR_TYPE as ERROR_TYPE } from '@opentelemetry/semantic-conventions'
