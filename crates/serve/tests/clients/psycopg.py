import sys
import threading

sys.path.append(sys.path.pop(0))
import psycopg
from checks import *
from psycopg.rows import dict_row
from psycopg.types import TypeInfo

version(psycopg.__version__)
connection = None


@check("connect with SCRAM, and trusted")
def _():
    global connection
    connection = psycopg.connect("", autocommit=True)
    with psycopg.connect("", port=TRUST_PORT, password="") as trusted:
        same(trusted.execute("select 1").fetchall(), [(1,)])


@check("types in text and in binary")
def _():
    for binary in (False, True):
        row = connection.execute(TYPES, binary=binary).fetchone()
        same(row, ROW)


@check("parameters")
def _():
    row = connection.execute(
        "select %s::int + 1, %s::text, %s::date, 2 = any(%s), %s::text, %s::numeric, %s::timestamptz, %s::bool",
        (1, "it's", DAY, [1, 2], None, MONEY, INSTANT, True),
    ).fetchone()
    same(row, (2, "it's", DAY, True, None, MONEY, INSTANT, True))
    count = "select count(*) from orders where order_id = any(%s) and status <> %s and placed_at > %s and total < %b"
    same(connection.execute(count, ([1, 2, 3], "?", AT.replace(year=2000), MONEY * 10000)).fetchone(), (3,))
    for _ in range(7):
        same(connection.execute("select order_id from orders where order_id = %s", (2,)).fetchone(), (2,))


@check("errors by SQLSTATE")
def _():
    error = fails(psycopg.errors.UndefinedTable, lambda: connection.execute("select * from nothing"))
    same(error.sqlstate, "42P01")
    fails(psycopg.errors.ReadOnlySqlTransaction, lambda: connection.execute("delete from orders"))
    fails(psycopg.errors.DivisionByZero, lambda: connection.execute("select 1 / 0"))


@check("transaction and savepoint")
def _():
    with connection.transaction():
        with psycopg.Connection.transaction(connection, "inner"):
            connection.execute("select 1")
        try:
            with connection.transaction():
                connection.execute("select no_such_column from orders")
        except psycopg.Error:
            pass
        same(connection.execute("select 2").fetchone(), (2,))
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection.transaction():
        same(connection.execute("show transaction_isolation").fetchone(), ("repeatable read",))


@check("server-side cursor")
def _():
    with connection.transaction(), connection.cursor("named") as cursor:
        cursor.execute("select order_id from orders where order_id <= %s order by 1", (20,))
        same(cursor.fetchmany(3), [(1,), (2,), (3,)])
        same(len(cursor.fetchall()), 17)
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("select order_id from orders order by 1 limit 3")
        same(cursor.fetchall(), [(1,), (2,), (3,)])
    same(len(list(connection.cursor().stream("select * from orders"))), 300)


@check("cancel")
def _():
    timer = threading.Timer(0.3, connection.cancel_safe)
    timer.start()
    fails(psycopg.errors.QueryCanceled, lambda: connection.execute("select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b"))


@check("COPY out in text, CSV and binary")
def _():
    cursor = connection.cursor()
    with cursor.copy("copy (select order_id, status, total from orders order by 1 limit 2) to stdout") as copy:
        same(len([row for row in copy.rows()]), 2)
    with cursor.copy("COPY orders TO STDOUT (FORMAT CSV, HEADER TRUE)") as copy:
        same(b"".join(copy).count(b"\n"), 301)
    with cursor.copy(f"copy ({TYPES}) to stdout (format binary)") as copy:
        copy.set_types("int2 int4 int8 float4 float8 numeric text bool date time timestamp timestamptz json int4[] text[] text".split())
        same([row for row in copy.rows()], [ROW])


@check("pipeline")
def _():
    with connection.pipeline():
        cursors = [connection.execute("select %s::int", (i,)) for i in range(3)]
        same([cursor.fetchone() for cursor in cursors], [(0,), (1,), (2,)])


@check("rows as dictionaries, types by name")
def _():
    same(connection.cursor(row_factory=dict_row).execute("select 1 as a").fetchone(), {"a": 1})
    same(TypeInfo.fetch(connection, "hstore"), None)
    same(TypeInfo.fetch(connection, "int4").oid, 23)
    same(connection.info.server_version // 10000 >= 15, True)
    same(str(connection.info.timezone), "UTC")
