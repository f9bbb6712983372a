import fc from 'fast-check'

// A fixed seed makes generated input the same in every run, so results change only with the code. To try other
// input: SEED=7 npx vitest run test/pipeline/tags/histories.test.ts
fc.configureGlobal({ seed: Number(process.env.SEED ?? 1) })
