import { check, fails, require, same, version, ROW, TYPES, TRUST_PORT } from './checks.mjs'

const postgres = require('postgres')
version('postgres')
const sql = postgres({ max: 1, onnotice: () => {} })

await check('connect with SCRAM, and trusted', async () => {
  same([...(await sql`select 1 as a`)], [{ a: 1 }])
  const trusted = postgres({ port: TRUST_PORT, password: '' })
  same([...(await trusted`select 1 as a`)], [{ a: 1 }])
  await trusted.end()
})
await check('types', async () => same({ ...(await sql.unsafe(TYPES))[0] }, ROW))
await check('parameters', async () => {
  const [row] = await sql`select ${1}::int + 1 as a, ${"it's"} as b, ${'2026-03-01'}::date::text as c, 2 = any(${[1, 2]}::int[]) as d, ${null}::text as e, ${12.34}::numeric(10,2) as f, ${new Date(0)}::timestamptz as g, ${true}::bool as h`
  same({ ...row }, { a: 2, b: "it's", c: '2026-03-01', d: true, e: null, f: '12.34', g: new Date(0), h: true })
  const [{ n }] = await sql`select count(*)::int as n from orders where order_id = any(${[1, 2, 3]}) and total < ${'1000000'} and placed_at > ${new Date(0)}`
  same(n, 3)
  same((await sql`select ${sql('order_id')} from ${sql('orders')} where order_id in ${sql([1, 2])}`).length, 2)
})
await check('errors by SQLSTATE', async () => same((await fails(() => sql`select * from nothing`)).code, '42P01'))
await check('transaction and savepoint', async () => {
  const level = await sql.begin('isolation level repeatable read', async (sql) => {
    await fails(() => sql.savepoint((sql) => sql`select no_such_column from orders`))
    return (await sql`show transaction_isolation`)[0].transaction_isolation
  })
  same(level, 'repeatable read')
})
await check('cursor', async () => {
  const sizes = []
  await sql`select order_id from orders where order_id <= ${20}`.cursor(7, (rows) => sizes.push(rows.length))
  same(sizes, [7, 7, 6])
})
await check('cancel', async () => {
  const query = sql`select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b`
  setTimeout(() => query.cancel(), 300)
  same((await fails(() => query)).code, '57014')
})
await check('COPY out', async () => {
  const stream = await sql`copy orders (order_id, status) to stdout`.readable()
  let text = ''
  for await (const chunk of stream) text += chunk
  same(text.split('\n').length, 301)
})
await check('described statements', async () => {
  const { types, columns } = await sql`select total from orders where order_id = ${1}`.describe()
  same([[...types], columns.map(({ name, type }) => [name, type])], [[20], [['total', 1700]]])
})
await sql.end()
