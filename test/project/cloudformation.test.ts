// biome-ignore-all lint/suspicious/noTemplateCurlyInString: they are variables of Fn::Sub

import { readFileSync } from 'node:fs'
import { access, mkdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { parseConfig } from '../../src/lib/config/config.ts'
import { OPTIONS } from '../../src/lib/config/options.ts'
import {
  problemsOf,
  ownTemplate as template,
  templateText as text,
} from '../support/aws/cloudformation/checks.ts'
import { grants } from '../support/aws/cloudformation/security.ts'
import { isObject, walk } from '../support/aws/cloudformation/template.ts'
import { filesOf, render, unitProblems, variablesOf } from '../support/aws/cloudformation/user-data.ts'
import { projectRoot, start } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'

describe('cloudformation.json', () => {
  test('passes all checks below', () => {
    expect(problemsOf(template())).toEqual([])
  })

  test('is within the limits of a template', () => {
    const { Parameters = {}, Resources, Outputs = {} } = template()
    // https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
    expect(Object.keys(Parameters).length).toBeLessThanOrEqual(200)
    expect(Object.keys(Resources).length).toBeLessThanOrEqual(500)
    expect(Object.keys(Outputs).length).toBeLessThanOrEqual(200)
    // 1 MB from a bucket; 51,200 bytes otherwise, which is enough without whitespace.
    expect(Buffer.byteLength(text)).toBeLessThan(1_000_000)
    expect(Buffer.byteLength(JSON.stringify(template()))).toBeLessThan(51_200)
  })

  test('every parameter is described, checked, and in a group', () => {
    const { Parameters = {}, Metadata } = template()
    const { ParameterGroups: groups } = (Metadata?.['AWS::CloudFormation::Interface'] ?? {}) as {
      ParameterGroups: { Parameters: string[] }[]
    }
    expect(groups.flatMap((group) => group.Parameters).sort()).toEqual(Object.keys(Parameters).sort())
    for (const [name, parameter] of Object.entries(Parameters)) {
      expect(parameter.Description, name).toMatch(/\S.{8}/)
      const checked = ['AllowedPattern', 'AllowedValues', 'MinValue'].some((key) => key in parameter)
      expect(checked || parameter.Type.startsWith('AWS::'), `${name} takes anything`).toBe(true)
      const { Default, AllowedPattern, AllowedValues } = parameter
      if (Default === undefined) continue
      if (AllowedPattern) expect(String(Default), name).toMatch(new RegExp(AllowedPattern))
      if (AllowedValues) expect(AllowedValues, name).toContain(Default)
    }
  })

  test.each([
    ['CertificateArn', 'arn:aws:acm:eu-central-1:123456789012:certificate/0f3c-1', 'conveyor.example.com'],
    ['KeyBucket', 'acme-keys', 's3://acme-keys'],
    ['LoadBalancerSubnets', 'subnet-0a1b,subnet-2c3d', 'subnet-0a1b'],
    ['GitHubToken', 'ghp_0123456789abcdefghij', 'token with spaces in it'],
    ['RegistryConfig', '{"auths": {"ghcr.io": {"auth": "eA=="}}}', 'user:password'],
    ['EcrRepositories', 'acme/*', '*'],
    ['AllowedCidr', '0.0.0.0/0', 'anywhere'],
  ])('%s accepts %j and not %j', (name, good, bad) => {
    const pattern = new RegExp(template().Parameters?.[name]?.AllowedPattern ?? '')
    expect(good).toMatch(pattern)
    expect(bad).not.toMatch(pattern)
  })

  test('stored data is encrypted, private, and survives the stack', () => {
    const { Resources } = template()
    expect(Resources.Database).toMatchObject({
      DeletionPolicy: 'Snapshot',
      UpdateReplacePolicy: 'Snapshot',
      Properties: { StorageEncrypted: true, PubliclyAccessible: false, ManageMasterUserPassword: true },
    })
    expect(Resources.Database?.Properties).not.toHaveProperty('MasterUserPassword')
    expect(Resources.LogBucket).toMatchObject({ DeletionPolicy: 'Retain', UpdateReplacePolicy: 'Retain' })
    expect(Object.values(Resources.LogBucket?.Properties?.PublicAccessBlockConfiguration as object)).toEqual(
      Array(4).fill(true),
    )
    for (const queue of ['BuildQueue', 'DeadLetterQueue']) {
      expect(Resources[queue]?.Properties?.SqsManagedSseEnabled, queue).toBe(true)
    }
    const disks: unknown[] = []
    walk(Resources, [], (value) => isObject(value) && 'Ebs' in value && disks.push(value.Ebs))
    expect(disks).toHaveLength(2)
    for (const disk of disks) expect(disk).toMatchObject({ Encrypted: true, VolumeType: 'gp3' })
  })

  test('only the load balancer is open, and each group accepts only the one before it', () => {
    const open: string[] = []
    walk(template().Resources, [], (value, path) => {
      const ingress = path.includes('SecurityGroupIngress') && isObject(value)
      if (ingress && ('CidrIp' in value || 'CidrIpv6' in value)) open.push(path[0] as string)
    })
    expect(open).toEqual(['LoadBalancerSecurityGroup', 'LoadBalancerSecurityGroup'])
    const rules = Object.values(template().Resources).filter(
      ({ Type }) => Type === 'AWS::EC2::SecurityGroupIngress',
    )
    expect(rules.length).toBeGreaterThan(0)
    for (const { Properties } of rules) expect(Properties).toHaveProperty('SourceSecurityGroupId')
  })

  test('instance metadata requires version 2, one hop away', () => {
    const { Resources } = template()
    for (const name of ['ServerTemplate', 'WorkerTemplate']) {
      expect(Resources[name]?.Properties?.LaunchTemplateData, name).toMatchObject({
        MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: 1 },
      })
    }
  })

  test('permissions', () => {
    const of = (role: string) =>
      grants(template())
        .filter(({ path }) => path.startsWith(`Resources.${role}.`))
        .map(({ action, resource }) => `${action} ${resource}`)
    expect(of('ServerRole').filter((one) => one.startsWith('sqs:'))).toEqual([
      'sqs:GetQueueAttributes ${BuildQueue.Arn}',
      'sqs:SendMessage ${BuildQueue.Arn}',
    ])
    // Builds are moved back from the dead-letter queue, and messages that are not builds are put there.
    expect(of('WorkerRole').filter((one) => one.startsWith('sqs:'))).toEqual([
      'sqs:ChangeMessageVisibility ${BuildQueue.Arn}',
      'sqs:DeleteMessage ${BuildQueue.Arn}',
      'sqs:GetQueueAttributes ${BuildQueue.Arn}',
      'sqs:ReceiveMessage ${BuildQueue.Arn}',
      'sqs:SendMessage ${BuildQueue.Arn}',
      'sqs:DeleteMessage ${DeadLetterQueue.Arn}',
      'sqs:ReceiveMessage ${DeadLetterQueue.Arn}',
      'sqs:SendMessage ${DeadLetterQueue.Arn}',
    ])
    // Servers remove the tags of closed pull requests; their images stay.
    const ecr = (role: string) =>
      of(role).flatMap((one) => /^ecr:(Batch(?:Check|Delete)\w+|Put\w+) /.exec(one)?.[1] ?? [])
    expect(ecr('ServerRole')).toEqual(['BatchCheckLayerAvailability', 'BatchDeleteImage'])
    expect(ecr('WorkerRole')).toEqual(['BatchCheckLayerAvailability', 'PutImage'])
    // Servers end the logs of builds that are cancelled or superseded while they wait.
    const logs = (role: string) => of(role).filter((one) => /\$\{(LogBucket|LogGroup)\.Arn\}/.test(one))
    expect(logs('WorkerRole')).toContain('s3:PutObject ${LogBucket.Arn}/builds/*')
    expect(logs('WorkerRole')).toContain('logs:PutLogEvents ${LogGroup.Arn}')
    expect(logs('ServerRole')).toEqual(logs('WorkerRole'))
    expect(of('WorkerRole').filter((one) => /WebhookSecret|ApiSecret/.test(one))).toEqual([])
    expect(of('WorkerRole').filter((one) => one.includes('KeyBucket'))).toEqual([
      's3:GetObject arn:${AWS::Partition}:s3:::${KeyBucket}/id_rsa',
      's3:GetObject arn:${AWS::Partition}:s3:::${KeyBucket}/id_rsa.pub',
    ])
  })
})

describe('user data', () => {
  const refs = {
    ConveyorImage: 'ghcr.io/acme/conveyor:1.0',
    DomainName: 'conveyor.example.com',
    Registry: 'ghcr.io/acme',
    BuildQueue: 'https://sqs.eu-central-1.amazonaws.com/123456789012/conveyor-BuildQueue',
    LogBucket: 'conveyor-logbucket-1x2y3z',
    LogGroup: 'conveyor-LogGroup-1x2y3z',
    'AWS::StackName': 'conveyor',
    'AWS::Region': 'eu-central-1',
  }
  const cases = ['Server', 'Worker'].flatMap((role) => [
    { role, name: `${role}, S3, ssh`, keys: 'acme-keys', conditions: { LogsInS3: true, UsesEcr: false } },
    { role, name: `${role}, CloudWatch, ECR`, keys: '', conditions: { LogsInS3: false, UsesEcr: true } },
  ])
  const userData = ({ role, keys, conditions }: (typeof cases)[number]) => {
    const one = template()
    const data = one.Resources[`${role}Template`]?.Properties?.LaunchTemplateData as { UserData: unknown }
    return render(one, data.UserData, { refs: { ...refs, KeyBucket: keys }, conditions })
  }
  afterEach(() => vi.unstubAllEnvs())

  test.each(cases)('$name: scripts are valid bash, and fit', async (one) => {
    const script = userData(one)
    // https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html: 16 KB before base64
    expect(Buffer.byteLength(script)).toBeLessThan(16 * 1024)
    await using folder = await tempDir('conveyor-user-data-')
    const scripts = [...filesOf(script)].filter(([path]) => path.startsWith('/usr/local/sbin/'))
    expect(scripts.length).toBe(one.role === 'Worker' ? 3 : 2)
    for (const [path, body] of [['user-data', script] as const, ...scripts]) {
      expect(body.split('\n')[0]).toBe('#!/bin/bash')
      const file = join(folder.path, basename(path))
      await writeFile(file, body)
      const bash = await start('bash', ['-n', file])
      expect((await bash.exited).code, `${path}: ${bash.stderr()}`).toBe(0)
    }
    expect(
      JSON.parse(
        filesOf(script)
          .get('/etc/docker/daemon.json')
          ?.replace(/\$\(\(.*\)\)/, '9') ?? '{}',
      ),
    ).toEqual(one.role === 'Worker' ? { builder: { gc: { enabled: true, defaultKeepStorage: '9GB' } } } : {})
  })

  test.each(cases)('$name: units are valid', async (one) => {
    const script = userData(one)
    const units = [...filesOf(script)].filter(([path]) => path.startsWith('/etc/systemd/system/'))
    expect(units.length).toBe(one.role === 'Worker' ? 4 : 3)
    for (const [path, body] of units) expect(unitProblems(body), path).toEqual([])
    // Every enabled unit exists.
    const [, enabled = ''] = /^systemctl enable --now (conveyor\.service.*)$/m.exec(script) ?? []
    for (const unit of enabled.trim().split(' ')) {
      expect(units.map(([path]) => basename(path))).toContain(unit)
    }
    if (!(await there('/usr/bin/systemd-analyze'))) return
    await using folder = await tempDir('conveyor-units-')
    await mkdir(join(folder.path, 'units'))
    const files = units.map(([path]) => join(folder.path, 'units', basename(path)))
    for (const [i, [, body]] of units.entries()) await writeFile(files[i] as string, body)
    const verify = await start('/usr/bin/systemd-analyze', ['verify', ...files])
    await verify.exited
    // The programs exist only on the target machine, and complaints about this machine's own units do not count.
    const said = verify.stderr().split('\n')
    expect(
      said.filter(
        (line) => /^(\S*\/)?conveyor/.test(line) && !/is not executable|docker\.service/.test(line),
      ),
    ).toEqual([])
  })

  test.each(cases)('$name: Conveyor accepts its settings', (one) => {
    const files = filesOf(userData({ ...one }))
    const variables = variablesOf(files.get('/etc/conveyor/env') ?? '')
    const secrets = [...(files.get('/usr/local/sbin/conveyor-secrets') ?? '').matchAll(/"([A-Z_]+)=" \+/g)]
    const names = [...Object.keys(variables), ...secrets.map(([, name]) => name as string)]
    const flags = Object.values(OPTIONS).map(({ env, flag }) => [env, flag] as const)
    const own = ['config.ts', 'options/storage.ts'].flatMap((file) => [
      ...readFileSync(`${projectRoot}src/lib/config/${file}`, 'utf8').matchAll(
        /\benv(?:ironment)?\.([A-Z_]+)/g,
      ),
    ])
    const others = [...own.map(([, name]) => name), 'AWS_REGION']
    const unknown = names.filter((name) => !others.includes(name) && !flags.some(([env]) => env === name))
    expect(unknown).toEqual([])

    vi.stubEnv('SQS_QUEUE_URL', variables.SQS_QUEUE_URL)
    const values = {
      ...variables,
      DATABASE_URL: 'postgres://conveyor:x@db:5432/conveyor?sslmode=verify-full',
    }
    const config = parseConfig(
      Object.fromEntries(
        Object.entries(values).map(([name, value]) => [
          flags.find(([env]) => env === name)?.[1] ?? '',
          value,
        ]),
      ),
    )
    expect(config).toMatchObject({
      url: 'https://conveyor.example.com',
      queue: { kind: 'sqs', url: refs.BuildQueue },
      registry: 'ghcr.io/acme',
      logger: one.conditions.LogsInS3
        ? { kind: 's3', bucket: refs.LogBucket, prefix: 'builds' }
        : { kind: 'cloudwatch', group: refs.LogGroup },
    })
    // Both query the registry, with the logins that conveyor-secrets places there.
    expect(variables.DOCKER_CONFIG).toBe('/run/secrets')
    if (one.role === 'Worker') expect(config).toMatchObject({ workers: 2, drainMs: 600_000 })
    expect(secrets.map(([, name]) => name)).toEqual(
      one.role === 'Worker'
        ? ['GITHUB_TOKEN', 'DATABASE_URL']
        : ['GITHUB_TOKEN', 'DATABASE_URL', 'GITHUB_SECRET', 'BASIC_AUTH'],
    )
    const run = files.get('/usr/local/sbin/conveyor-run') ?? ''
    expect(run).toMatch(new RegExp(`exec conveyor ${one.role.toLowerCase()}'$`, 'm'))
    expect([...run.matchAll(/exec conveyor .*(--[a-z.]+)/g)]).toEqual([])
  })

  test('a machine is terminated only after its worker had time to drain', () => {
    const worker = userData(cases[2] as (typeof cases)[number])
    const files = filesOf(worker)
    const unit = files.get('/etc/systemd/system/conveyor.service') ?? ''
    expect(files.get('/etc/conveyor/settings')).toContain('DRAIN_SECONDS=$((10 * 60 + 60))')
    expect(unit).toContain('docker stop --time $$DRAIN_SECONDS conveyor')
    expect(unit).toContain('TimeoutStopSec=10min 2min')
    const drain = files.get('/usr/local/sbin/conveyor-drain') ?? ''
    const order = [
      'target-lifecycle-state',
      'systemctl stop',
      'record-lifecycle-action-heartbeat',
      'complete-lifecycle-action',
    ]
    const places = order.map((step) => drain.indexOf(step))
    expect(places).toEqual(places.toSorted((a, b) => a - b))
    expect(places).not.toContain(-1)
    const hook = template().Resources.WorkerGroup?.Properties?.LifecycleHookSpecificationList
    expect(hook).toMatchObject([
      { LifecycleHookName: 'drain', LifecycleTransition: 'autoscaling:EC2_INSTANCE_TERMINATING' },
    ])
    expect(drain).toContain('--lifecycle-hook-name drain')
  })
})

async function there(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
