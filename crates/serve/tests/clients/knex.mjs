import { check, fails, require, same, version } from './checks.mjs'

const knex = require('knex')({ client: 'pg', connection: {}, pool: { min: 0, max: 2 } })
version('knex')

await check('select with parameters', async () => {
  same(await knex('orders').whereIn('order_id', [1, 2]).andWhere('total', '<', 1000000).orderBy('order_id').select('order_id'), [{ order_id: '1' }, { order_id: '2' }])
  same((await knex.raw('select ?::int + 1 as a', [1])).rows, [{ a: 2 }])
  same(await knex('orders').where('placed_at', '>', new Date(0)).count('* as n'), [{ n: '300' }])
  same((await knex('orders').join('people', 'people.user_id', 'orders.user_id').limit(3).offset(1).select('city')).length, 3)
})
await check('transaction and savepoint', async () => {
  const rows = await knex.transaction(async (outer) => {
    await fails(() => outer.transaction((inner) => inner('orders').select('no_such_column')))
    return outer('orders').where({ order_id: 1 })
  }, { isolationLevel: 'repeatable read' })
  same(rows.length, 1)
})
await check('schema: tables, columns', async () => {
  same(await knex.schema.hasTable('orders'), true)
  same(await knex.schema.hasTable('nothing'), false)
  same(await knex.schema.hasColumn('orders', 'total'), true)
  const columns = await knex('orders').columnInfo()
  same([columns.order_id.type, columns.total.type, columns.order_id.nullable], ['bigint', 'numeric', false])
})
await check('errors by SQLSTATE', async () => same((await fails(() => knex('nothing'))).code, '42P01'))
await check('stream', async () => {
  let count = 0
  for await (const _ of knex('orders').stream({ batchSize: 7 })) count++
  same(count, 300)
})
await knex.destroy()
