// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are variables of Fn::Sub

import { describe, expect, test } from 'vitest'
import { problemsOf, ownTemplate as template, WILDCARDS } from '../support/aws/cloudformation/checks.ts'
import { checkGrants } from '../support/aws/cloudformation/security.ts'
import type { Template } from '../support/aws/cloudformation/template.ts'
import { unitProblems } from '../support/aws/cloudformation/user-data.ts'

describe('the checks of cloudformation.json refuse', () => {
  type Change = (one: Template, properties: (id: string) => Record<string, never>) => void
  const cases: [string, Change, RegExp][] = [
    [
      'a misspelt property',
      (_, of) => Object.assign(of('BuildQueue'), { VisibilityTimeOut: 1 }),
      /BuildQueue.Properties: no such property: VisibilityTimeOut/,
    ],
    [
      'a misspelt property further down',
      (_, of) => Object.assign(of('BuildQueue'), { Tags: [{ Key: 'a', Valeu: 'b' }] }),
      /Tags.0: no such property: Valeu/,
    ],
    [
      'a misspelt type',
      ({ Resources }) => Object.assign(Resources.BuildQueue as object, { Type: 'AWS::SQS::Que' }),
      /no such type: AWS::SQS::Que/,
    ],
    [
      'a text for a number',
      (_, of) => Object.assign(of('BuildQueue'), { VisibilityTimeout: 'soon' }),
      /VisibilityTimeout: an integer is expected/,
    ],
    [
      'a text for a list',
      (_, of) => Object.assign(of('LoadBalancer'), { Subnets: 'subnet-1' }),
      /Subnets: a list is expected/,
    ],
    [
      'a function that gives a text for a list',
      (_, of) => Object.assign(of('LoadBalancer'), { Subnets: { Ref: 'VpcId' } }),
      /Subnets: Ref gives string, and array/,
    ],
    [
      'a function that gives a list for a text',
      (_, of) => Object.assign(of('Vpc'), { CidrBlock: { 'Fn::Split': [',', 'a'] } }),
      /CidrBlock: Fn::Split gives list/,
    ],
    [
      'neither true nor false',
      (_, of) => Object.assign(of('Database'), { StorageEncrypted: 'yes' }),
      /StorageEncrypted: true or false/,
    ],
    [
      'a wrong type in a branch',
      (_, of) => Object.assign(of('Vpc'), { EnableDnsSupport: { 'Fn::If': ['UsesEcr', true, 'no'] } }),
      /Fn::If.2: true or false/,
    ],
    [
      'a required property that is missing',
      (_, of) => delete of('WorkerGroup').MaxSize,
      /WorkerGroup.Properties: MaxSize is required/,
    ],
    [
      'a required property without a value',
      (_, of) => Object.assign(of('WorkerGroup'), { MaxSize: { Ref: 'AWS::NoValue' } }),
      /MaxSize is required/,
    ],
    [
      'an unknown attribute',
      (_, of) => Object.assign(of('ServerProfile'), { Path: { 'Fn::GetAtt': ['BuildQueue', 'Url'] } }),
      /AWS::SQS::Queue has no attribute Url/,
    ],
    [
      'an unknown attribute in a text',
      (_, of) => Object.assign(of('ServerProfile'), { Path: { 'Fn::Sub': '/${Database.Host}/' } }),
      /AWS::RDS::DBInstance has no attribute Host/,
    ],
    [
      'a Ref to nothing',
      (_, of) => Object.assign(of('ServerProfile'), { Path: { Ref: 'Nothing' } }),
      /no such parameter or resource: Nothing/,
    ],
    [
      'a variable of nothing',
      (_, of) => Object.assign(of('ServerProfile'), { Path: { 'Fn::Sub': '/${Nothing}/' } }),
      /no such parameter or resource: Nothing/,
    ],
    [
      'a pseudo parameter that is none',
      (_, of) => Object.assign(of('ServerProfile'), { Path: { Ref: 'AWS::Account' } }),
      /no such parameter or resource: AWS::Account/,
    ],
    [
      'a function that is none',
      (_, of) => Object.assign(of('ServerProfile'), { Path: { 'Fn::Concat': ['a'] } }),
      /no such function: Fn::Concat/,
    ],
    [
      'a condition that is none',
      (_, of) => Object.assign(of('ServerProfile'), { Path: { 'Fn::If': ['Always', '/a/', '/b/'] } }),
      /no such condition: Always/,
    ],
    [
      'a mapping without a value',
      (_, of) =>
        Object.assign(of('ServerGroup'), {
          MaxSize: { 'Fn::FindInMap': ['ServerGroup', { Ref: 'Servers' }, 'Max'] },
        }),
      /mapping ServerGroup has no 1.Max/,
    ],
    [
      'DependsOn nothing',
      ({ Resources }) => Object.assign(Resources.WorkerGroup as object, { DependsOn: 'Nothing' }),
      /DependsOn: no such resource: Nothing/,
    ],
    [
      'resources that wait for each other',
      (_, of) => Object.assign(of('BuildQueue'), { QueueName: { 'Fn::GetAtt': ['WorkerRole', 'RoleId'] } }),
      /^(BuildQueue waits for WorkerRole|WorkerRole waits for BuildQueue)/,
    ],
    [
      'what may not exist',
      (_, of) => Object.assign(of('ServerProfile'), { Path: { Ref: 'LogGroup' } }),
      /LogGroup exists only if LogsInCloudwatch/,
    ],
    [
      'what does not exist in that branch',
      (_, of) =>
        Object.assign(of('ServerProfile'), { Path: { 'Fn::If': ['LogsInS3', { Ref: 'LogGroup' }, '/'] } }),
      /LogGroup exists only if LogsInCloudwatch/,
    ],
    [
      'a parameter that nothing uses',
      (one) => Object.assign(one.Parameters ?? {}, { Unused: { Type: 'String' } }),
      /Parameters.Unused: nothing uses it/,
    ],
    [
      'an attribute that resources have not',
      ({ Resources }) => Object.assign(Resources.Vpc as object, { DependOn: 'Name' }),
      /a resource has no DependOn/,
    ],
    [
      'a secret that is shown while it is typed',
      (one) => delete one.Parameters?.GitHubToken?.NoEcho,
      /Parameters.GitHubToken: a secret, and not NoEcho/,
    ],
    [
      'a secret with a default',
      (one) => Object.assign(one.Parameters?.GitHubToken ?? {}, { Default: 'x' }),
      /GitHubToken: has a default/,
    ],
    [
      'a secret in user data',
      (one) => joinOf(one).push({ 'Fn::Sub': 'GITHUB_TOKEN=${GitHubToken}' }),
      /UserData.*: shows GitHubToken, which is NoEcho/,
    ],
    [
      'a secret in the outputs',
      (one) => Object.assign(one.Outputs ?? {}, { Token: { Value: { Ref: 'GitHubToken' } } }),
      /Outputs.Token.Value: shows GitHubToken/,
    ],
    [
      'a secret in the description of another',
      (_, of) => Object.assign(of('GitHubTokenSecret'), { Description: { Ref: 'GitHubToken' } }),
      /Description: shows GitHubToken/,
    ],
    [
      'a secret that is written down',
      (one) => joinOf(one).push('GITHUB_TOKEN=ghp_0123456789abcdefghij0123'),
      /has a secret in it/,
    ],
    [
      'a password in a URL',
      (one) => joinOf(one).push('DATABASE_URL=postgres://conveyor:hunter2@db/conveyor'),
      /has a secret in it/,
    ],
    [
      'a secret that is resolved into user data',
      (one) => joinOf(one).push('TOKEN={{resolve:secretsmanager:token}}'),
      /dynamic reference/,
    ],
    ['every action of a service', (one) => (statementOf(one).Action = ['sqs:*']), /allows sqs:\*/],
    ['every resource', (one) => (statementOf(one).Resource = ['*']), /allows sqs:\S+ on \*/],
    ['all but some actions', (one) => (statementOf(one).NotAction = ['iam:*']), /allows NotAction/],
    [
      'anybody',
      (_, of) => {
        const { PolicyDocument } = of('LogBucketPolicy') as unknown as {
          PolicyDocument: { Statement: object[] }
        }
        PolicyDocument.Statement.push({
          Effect: 'Allow',
          Principal: '*',
          Action: 's3:GetObject',
          Resource: 'arn:aws:s3:::x/y',
        })
      },
      /allows anybody/,
    ],
  ]

  function joinOf(one: Template): unknown[] {
    const data = one.Resources.WorkerTemplate?.Properties?.LaunchTemplateData as {
      UserData: { 'Fn::Base64': { 'Fn::Join': [string, unknown[]] } }
    }
    return data.UserData['Fn::Base64']['Fn::Join'][1]
  }

  function statementOf(one: Template): Record<string, unknown> {
    const policies = one.Resources.WorkerRole?.Properties?.Policies as {
      PolicyDocument: { Statement: Record<string, unknown>[] }
    }[]
    return policies[0]?.PolicyDocument.Statement[0] ?? {}
  }

  test.each(cases)('%s', (_, change, expected) => {
    const broken = template()
    change(broken, (id) => broken.Resources[id]?.Properties as Record<string, never>)
    expect(problemsOf(broken)).toContainEqual(expect.stringMatching(expected))
  })

  test('an exception that nothing needs any more', () => {
    const unneeded = { ...WILDCARDS, 'arn:aws:s3:::old/*': 'gone' }
    expect(checkGrants(template(), unneeded)).toEqual(['nothing needs the exception for arn:aws:s3:::old/*'])
  })

  test('invalid units', () => {
    const unit = '[Service]\nExecStart=conveyor\nTimeoutStopSec=soon\nRestrat=always\nwhat\n'
    expect(unitProblems(unit)).toHaveLength(4)
  })
})
