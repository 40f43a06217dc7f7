import { check, fails, require, same, version, PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE } from './checks.mjs'

require('reflect-metadata')
const { DataSource, EntitySchema, In, MoreThan } = require('typeorm')
version('typeorm')
const Person = new EntitySchema({ name: 'Person', tableName: 'people', columns: { userId: { name: 'user_id', type: 'bigint', primary: true }, city: { type: 'text' } } })
const Order = new EntitySchema({
  name: 'Order', tableName: 'orders',
  columns: { orderId: { name: 'order_id', type: 'bigint', primary: true }, status: { type: 'text' }, total: { type: 'numeric' }, placedAt: { name: 'placed_at', type: 'timestamp' } },
  relations: { person: { type: 'many-to-one', target: 'Person', joinColumn: { name: 'user_id' } } },
})
const source = new DataSource({ type: 'postgres', host: PGHOST, port: +PGPORT, username: PGUSER, password: PGPASSWORD, database: PGDATABASE, entities: [Person, Order], installExtensions: false })

await check('initialize', () => source.initialize())
await check('find, join, count', async () => {
  const orders = source.getRepository('Order')
  same((await orders.find({ where: { orderId: In([1, 2]) }, relations: { person: true }, order: { orderId: 'ASC' } })).map((order) => order.orderId), ['1', '2'])
  same(await orders.count({ where: { placedAt: MoreThan(new Date(0)) } }), 300)
  same((await orders.findAndCount({ take: 3, skip: 1, relations: { person: true }, order: { orderId: 'ASC' } }))[0].length, 3)
  same((await orders.createQueryBuilder('o').select('o.status', 'status').addSelect('count(*)', 'n').where('o.total > :total', { total: 0 }).groupBy('o.status').getRawMany()).length > 0, true)
})
await check('raw query, transaction', async () => {
  same(await source.query('select $1::int + 1 as a', [1]), [{ a: 2 }])
  await source.transaction('REPEATABLE READ', async (manager) => {
    await fails(() => manager.transaction((inner) => inner.query('select no_such_column from orders')))
    same((await manager.query('select 1 as a')), [{ a: 1 }])
  })
})
await check('reflection', async () => {
  const runner = source.createQueryRunner()
  const [table] = await runner.getTables(['orders'])
  same(table.columns.map(({ name }) => name).slice(0, 2), ['order_id', 'user_id'])
  same(table.primaryColumns.map(({ name }) => name), ['order_id'])
  same(table.foreignKeys.map(({ columnNames, referencedTableName }) => [columnNames, referencedTableName]), [[['user_id'], 'people']])
  same(table.columns.find(({ name }) => name === 'total').comment, 'What is to be paid.')
  same(await runner.hasTable('orders'), true)
  same(await runner.hasColumn('orders', 'total'), true)
  same((await runner.getView('newest').catch(() => undefined)) === undefined, true)
  await runner.release()
})
await check('errors by SQLSTATE', async () => same((await fails(() => source.query('select * from nothing'))).code, '42P01'))
await source.destroy()
