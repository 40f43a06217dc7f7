import { check, fails, require, same, version, ROW, TYPES, TRUST_PORT } from './checks.mjs'

const pg = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
version('pg')
const client = new pg.Client()

await check('connect with SCRAM, and trusted', async () => {
  await client.connect()
  const trusted = new pg.Client({ port: TRUST_PORT, password: undefined })
  await trusted.connect()
  same((await trusted.query('select 1 as a')).rows, [{ a: 1 }])
  await trusted.end()
})
await check('types', async () => same((await client.query(TYPES)).rows, [ROW]))
await check('parameters', async () => {
  const row = ['1', "it's", '2026-03-01', [1, 2], null, 12.34, new Date(0), true]
  const { rows } = await client.query({
    text: 'select $1::int + 1 as a, $2::text as b, $3::date::text as c, 2 = any($4::int[]) as d, $5::text as e, $6::numeric(10,2) as f, $7::timestamptz as g, $8::bool as h',
    values: row,
  })
  same(rows, [{ a: 2, b: "it's", c: '2026-03-01', d: true, e: null, f: '12.34', g: new Date(0), h: true }])
  for (let i = 0; i < 2; i++) {
    const named = { name: 'chosen', text: 'select count(*)::int as n from orders where order_id = any($1) and total < $2 and placed_at > $3', values: [[1, 2, 3], '1000000', new Date(0)] }
    same((await client.query(named)).rows, [{ n: 3 }])
  }
})
await check('errors by SQLSTATE', async () => {
  same((await fails(() => client.query('select * from nothing'))).code, '42P01')
  same((await fails(() => client.query('select $1::int', ['x']))).code, '22P02')
})
await check('transaction and savepoint', async () => {
  await client.query('begin transaction isolation level repeatable read read only')
  await client.query('savepoint a')
  await fails(() => client.query('select no_such_column from orders'))
  await client.query('rollback to savepoint a')
  same((await client.query('show transaction_isolation')).rows[0].transaction_isolation, 'repeatable read')
  await client.query('commit')
})
await check('cursor and stream', async () => {
  const cursor = client.query(new Cursor('select order_id::int as id from orders where order_id <= $1 order by 1', [20]))
  same((await cursor.read(3)).map((row) => row.id), [1, 2, 3])
  await cursor.close()
  let count = 0
  for await (const _ of client.query(new QueryStream('select * from orders', [], { batchSize: 7 }))) count++
  same(count, 300)
})
await check('cancel', async () => {
  const asked = new pg.Client()
  await asked.connect()
  const { processID } = asked
  setTimeout(() => new pg.Client().cancel(asked, asked.activeQuery ?? asked._activeQuery), 300)
  const failed = await fails(() => asked.query('select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b'))
  same([failed.code, typeof processID], ['57014', 'number'])
  await asked.end()
})
await check('pool', async () => {
  const pool = new pg.Pool({ max: 2 })
  const rows = await Promise.all([1, 2, 3, 4].map((i) => pool.query('select $1::int as i', [i])))
  same(rows.map(({ rows: [{ i }] }) => i), [1, 2, 3, 4])
  await pool.end()
})
await client.end()
