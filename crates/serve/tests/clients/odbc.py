import sys

sys.path.append(sys.path.pop(0))
import pyodbc
from checks import *

connection = None


@check("connect with SCRAM, and trusted")
def _():
    global connection
    text = f"Driver=PostgreSQL Unicode;Server={HOST};Database={DATABASE};Uid={USER};"
    connection = pyodbc.connect(text + f"Port={PORT};Pwd={PASSWORD}", autocommit=True)
    version(connection.getinfo(pyodbc.SQL_DRIVER_VER))
    with pyodbc.connect(text + f"Port={TRUST_PORT}") as trusted:
        same(trusted.execute("select 1").fetchval(), 1)


@check("types")
def _():
    row = connection.execute(
        "select 2::int4, 3::int8, 0.1::float8, 12.34::numeric(10,2), 'Zoë'::text, date '2026-03-01', time '09:30:00', timestamp '2026-03-01 09:30:00.5', null::text"
    ).fetchone()
    same(tuple(row), (2, 3, 0.1, MONEY, "Zoë", DAY, CLOCK, AT, None))


@check("parameters")
def _():
    statement = "select count(*) from orders where order_id <= ? and status <> ? and placed_at > ? and total < ?"
    same(connection.execute(statement, 3, "?", AT.replace(year=2000), MONEY * 10000).fetchval(), 3)


@check("errors by SQLSTATE")
def _():
    same(fails(pyodbc.Error, lambda: connection.execute("select * from nothing")).args[0], "42P01")


@check("transaction")
def _():
    connection.autocommit = False
    fails(pyodbc.Error, lambda: connection.execute("select no_such_column from orders"))
    connection.rollback()
    same(len(connection.execute("select * from orders").fetchall()), 300)
    connection.commit()
    connection.autocommit = True


@check("SQLTables, SQLColumns")
def _():
    same([row.table_name for row in connection.cursor().tables(schema="shop", table="order%")], ["order_items", "orders"])
    columns = connection.cursor().columns(table="orders", schema="public").fetchall()
    same([(row.column_name, row.type_name) for row in columns][:3], [("order_id", "int8"), ("user_id", "int8"), ("status", "text")])


@check("SQLPrimaryKeys, SQLForeignKeys, SQLStatistics")
def _():
    same([row.column_name for row in connection.cursor().primaryKeys("orders", schema="public")], ["order_id"])
    same([row.fkcolumn_name for row in connection.cursor().foreignKeys(foreignTable="orders", foreignSchema="public")], ["user_id"])
    same("orders_pkey" in [row.index_name for row in connection.cursor().statistics("orders", schema="public", unique=True)], True)
    connection.cursor().rowIdColumns("orders", schema="public").fetchall()
    connection.cursor().getTypeInfo().fetchall()
    connection.cursor().procedures().fetchall()


@check("rows and catalogue through cursors, as Tableau asks for them")
def _():
    text = f"Driver=PostgreSQL Unicode;Server={HOST};Database={DATABASE};Uid={USER};UseDeclareFetch=1;Fetch=7"
    with pyodbc.connect(f"{text};Port={PORT};Pwd={PASSWORD}") as portions:
        same(len(portions.execute("select order_id from orders").fetchall()), 300)
        same([table.table_name for table in portions.cursor().tables("newest")], ["newest"])
        same([column.column_name for column in portions.cursor().columns("newest")], ["order_id", "status", "total"])
