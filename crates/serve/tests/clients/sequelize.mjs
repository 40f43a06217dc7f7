import { check, fails, require, same, version, PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE } from './checks.mjs'

const { DataTypes, QueryTypes, Sequelize, Transaction } = require('sequelize')
version('sequelize')
const sequelize = new Sequelize(PGDATABASE, PGUSER, PGPASSWORD, { host: PGHOST, port: PGPORT, dialect: 'postgres', logging: false })
const Person = sequelize.define('person', { user_id: { type: DataTypes.BIGINT, primaryKey: true }, city: DataTypes.TEXT }, { tableName: 'people', timestamps: false })
const Order = sequelize.define('order', { order_id: { type: DataTypes.BIGINT, primaryKey: true }, user_id: DataTypes.BIGINT, total: DataTypes.DECIMAL, placed_at: DataTypes.DATE }, { tableName: 'orders', timestamps: false })
Order.belongsTo(Person, { foreignKey: 'user_id' })

await check('authenticate', () => sequelize.authenticate())
await check('select with parameters', async () => {
  same(await sequelize.query('select $1::int + 1 as a', { bind: [1], type: QueryTypes.SELECT }), [{ a: 2 }])
  same(await sequelize.query('select count(*)::int as n from orders where order_id in (:ids)', { replacements: { ids: [1, 2] }, type: QueryTypes.SELECT }), [{ n: 2 }])
})
await check('models: find, join, count, sum', async () => {
  same((await Order.findAll({ where: { order_id: [1, 2] }, include: Person, order: ['order_id'] })).map((order) => order.order_id), ['1', '2'])
  same(await Order.count({ where: { placed_at: { [require('sequelize').Op.gt]: new Date(0) } } }), 300)
  same((await Order.findByPk(1)).order_id, '1')
  same(typeof (await Order.sum('total')), 'number')
})
await check('transaction and savepoint', async () => {
  await sequelize.transaction({ isolationLevel: Transaction.ISOLATION_LEVELS.REPEATABLE_READ }, async (transaction) => {
    await fails(() => sequelize.transaction({ transaction }, (inner) => sequelize.query('select no_such_column from orders', { transaction: inner })))
    await Order.findOne({ transaction })
  })
})
await check('reflection', async () => {
  const reads = sequelize.getQueryInterface()
  const tables = (await reads.showAllTables()).map((table) => table.tableName ?? table)
  same(tables.includes('orders'), true)
  const columns = await reads.describeTable('orders')
  same([columns.order_id.type, columns.order_id.primaryKey, columns.order_id.allowNull, columns.total.comment], ['BIGINT', true, false, 'What is to be paid.'])
  same(JSON.stringify((await reads.showIndex({ tableName: 'orders', schema: 'public' })).map((index) => [index.name, index.primary, index.fields.map(({ attribute }) => attribute)])), '[["orders_pkey",true,["order_id"]]]')
  same((await reads.getForeignKeyReferencesForTable('orders')).map((key) => [key.columnName, key.referencedTableName]), [['user_id', 'people']])
  same((await reads.showAllSchemas()).includes('shop'), true)
  same(await reads.tableExists('orders'), true)
})
await check('errors by SQLSTATE', async () => same((await fails(() => sequelize.query('select * from nothing'))).parent.code, '42P01'))
await sequelize.close()
