// What the JavaScript clients share: a line per check. PGHOST and so on are libpq's own and ask for a password (SCRAM);
// TRUST_PORT asks nobody.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

// Packages are not beside this file but where scripts/clients installs them.
export const require = createRequire(process.env.CLIENTS_NODE + '/')
export const { PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, TRUST_PORT } = process.env
export const same = (left, right) => assert.deepStrictEqual(left, right)

export const version = (name) => {
  const text = readFileSync(`${process.env.CLIENTS_NODE}/node_modules/${name}/package.json`, 'utf8')
  console.log('version', JSON.parse(text).version)
}

export const check = async (name, action) => {
  try {
    await action()
    console.log('ok', name)
  } catch (error) {
    const line = /clients\/\w+\.mjs:(\d+)/.exec(error.stack ?? '')?.[1] ?? '?'
    console.log(`FAILED ${name}: ${String(error.message ?? error).replace(/\s+/g, ' ').slice(0, 600)} (line ${line})`)
  }
}

export const fails = async (action) => {
  try {
    await action()
  } catch (error) {
    return error
  }
  throw new Error('no error')
}

export const TYPES = `select 1::int4 as int, 3::int8 as long, 0.1::float8 as double, 12.34::numeric(10,2) as money,
  'Zoë'::text as text, true as flag, '2026-03-01'::date::text as day, timestamptz '2026-03-01 09:30:00.5+00' as instant,
  '{"a": [1, 2]}'::json as json, array[1, 2]::int4[] as ints, array['a', 'b c']::text[] as texts, null::text as nothing`
export const ROW = {
  int: 1, long: '3', double: 0.1, money: '12.34', text: 'Zoë', flag: true, day: '2026-03-01',
  instant: new Date('2026-03-01T09:30:00.500Z'), json: { a: [1, 2] }, ints: [1, 2], texts: ['a', 'b c'], nothing: null,
}
