import asyncio
import io
import sys

sys.path.append(sys.path.pop(0))
import asyncpg
from checks import *

version(asyncpg.__version__)
loop = asyncio.new_event_loop()
connection = None


def done(work):
    return loop.run_until_complete(work)


@check("connect with SCRAM, and trusted")
def _():
    global connection
    connection = done(asyncpg.connect())
    trusted = done(asyncpg.connect(port=TRUST_PORT, password=""))
    same(done(trusted.fetchval("select 1")), 1)
    done(trusted.close())


@check("types")
def _():
    row = tuple(done(connection.fetchrow(TYPES)))
    same(row, ROW[:12] + ('{"a": [1, 2]}',) + ROW[13:])
    done(connection.set_type_codec("json", encoder=str, decoder=lambda text: text[:1], schema="pg_catalog"))
    same(done(connection.fetchval("select '{}'::json")), "{")


@check("parameters")
def _():
    statement = "select $1::int + 1, $2::text, $3::date, 2 = any($4::int[]), $5::text, $6::numeric, $7::timestamptz, $8::bool"
    row = done(connection.fetchrow(statement, 1, "it's", DAY, [1, 2], None, MONEY, INSTANT, True))
    same(tuple(row), (2, "it's", DAY, True, None, MONEY, INSTANT, True))
    count = "select count(*) from orders where order_id = any($1) and status <> $2 and placed_at > $3 and total < $4"
    same(done(connection.fetchval(count, [1, 2, 3], "?", AT.replace(year=2000), MONEY * 10000)), 3)
    prepared = done(connection.prepare("select order_id, total from orders where order_id = $1"))
    same([str(parameter.name) for parameter in prepared.get_parameters()], ["int8"])
    same([attribute.type.name for attribute in prepared.get_attributes()], ["int8", "numeric"])
    same(done(prepared.fetchval(2)), 2)


@check("errors by SQLSTATE")
def _():
    error = fails(asyncpg.UndefinedTableError, lambda: done(connection.execute("select * from nothing")))
    same(error.sqlstate, "42P01")
    fails(asyncpg.DivisionByZeroError, lambda: done(connection.fetch("select 1 / 0")))


@check("transaction and savepoint")
def _():
    async def work():
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            try:
                async with connection.transaction():
                    await connection.execute("select no_such_column from orders")
            except asyncpg.PostgresError:
                pass
            return await connection.fetchval("show transaction_isolation")

    same(done(work()), "repeatable read")


@check("cursor")
def _():
    async def work():
        async with connection.transaction():
            cursor = await connection.cursor("select order_id from orders where order_id <= $1 order by 1", 20)
            first = await cursor.fetch(3)
            await cursor.forward(1)
            return [row[0] for row in first] + [(await cursor.fetchrow())[0]]

    same(done(work()), [1, 2, 3, 5])


@check("cancel")
def _():
    fails(asyncio.TimeoutError, lambda: done(connection.fetch("select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b", timeout=0.3)))
    same(done(connection.fetchval("select 1")), 1)


@check("COPY out")
def _():
    out = io.BytesIO()
    same(done(connection.copy_from_query("select * from orders where order_id <= $1", 3, output=out, format="csv")), "COPY 3")
    same(done(connection.copy_from_table("orders", output=io.BytesIO(), columns=["order_id"], format="binary")), "COPY 300")


@check("pool")
def _():
    async def work():
        async with asyncpg.create_pool(min_size=1, max_size=2) as pool:
            for _ in range(3):
                async with pool.acquire() as one:
                    await one.execute("set application_name = 'x'")
                    await one.fetchval("select $1::int", 1)
            return await pool.fetchval("show application_name")

    same(done(work()), "")


@check("introspection of types")
def _():
    same(done(connection.fetchval("select array_agg(order_id order by order_id) from orders where order_id < 3")), [1, 2])
    row = done(connection.fetchrow("select 'orders'::regclass as class, 'int4'::regtype as type, relname, oid from pg_class where relname = 'orders_pkey'"))
    same(row["relname"], "orders_pkey")
    done(connection.reload_schema_state())


done(connection.close())
