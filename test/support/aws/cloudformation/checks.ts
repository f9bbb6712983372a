// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are variables of Fn::Sub

import { readFileSync } from 'node:fs'
import { projectRoot } from '../../processes.ts'
import { checkReferences } from './references.ts'
import { checkGrants, checkSecrets } from './security.ts'
import { attributesOf, checkProperties } from './specification.ts'
import type { Template } from './template.ts'

export const templateText = readFileSync(`${projectRoot}cloudformation.json`, 'utf8')

/** A copy of this project's template. */
export function ownTemplate(): Template {
  return JSON.parse(templateText)
}

/** Resources in IAM statements that have a wildcard, and why they cannot be narrower. */
export const WILDCARDS: Record<string, string> = {
  'ecr:GetAuthorizationToken *': 'ECR takes no resource for it',
  ...Object.fromEntries(
    ['CreateControlChannel', 'CreateDataChannel', 'OpenControlChannel', 'OpenDataChannel'].map((action) => [
      `ssmmessages:${action} *`,
      'a channel to Session Manager is no resource',
    ]),
  ),
  'ssm:UpdateInstanceInformation *': 'what AWS documents for Session Manager without access to parameters',
  '${LogBucket.Arn}/builds/*': 'an object for each build, under the prefix of --logger',
  'arn:${AWS::Partition}:autoscaling:${AWS::Region}:${AWS::AccountId}:autoScalingGroup:*:autoScalingGroupName/${AWS::StackName}-workers':
    'the wildcard is a UUID that the group gets when it is made; the name behind it is the one group',
}

/** Every problem of a template. */
export function problemsOf(one: Template): string[] {
  const { problems, references: found } = checkReferences(one, attributesOf)
  return [...problems, ...checkProperties(one), ...checkSecrets(one, found), ...checkGrants(one, WILDCARDS)]
}
