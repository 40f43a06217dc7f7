import os
import sys
import threading

sys.path.append(sys.path.pop(0))
import psycopg2
import psycopg2.extensions
import psycopg2.extras
from checks import *

version(psycopg2.__version__.split()[0])
connection = None


@check("connect with SCRAM, and trusted")
def _():
    global connection
    connection = psycopg2.connect("")
    with psycopg2.connect(port=TRUST_PORT, password="").cursor() as cursor:
        cursor.execute("select 1")
        same(cursor.fetchall(), [(1,)])


@check("types")
def _():
    with connection, connection.cursor() as cursor:
        cursor.execute(TYPES)
        same(cursor.fetchone(), ROW)


@check("parameters")
def _():
    with connection, connection.cursor() as cursor:
        cursor.execute("select %s + 1, %s, %s, %s = any(%s), %s", (1, "it's", DAY, 2, [1, 2], None))
        same(cursor.fetchone(), (2, "it's", DAY, True, None))
        cursor.execute("select count(*) from orders where day = %(day)s or total > %(total)s", {"day": DAY, "total": MONEY})
        same(len(cursor.fetchall()), 1)
        cursor.execute("select count(*) from orders where order_id in %s", ((1, 2, 3),))
        same(cursor.fetchone(), (3,))


@check("errors by SQLSTATE")
def _():
    with connection.cursor() as cursor:
        same(fails(psycopg2.errors.UndefinedTable, lambda: cursor.execute("select * from nothing")).pgcode, "42P01")
        same(fails(psycopg2.errors.InFailedSqlTransaction, lambda: cursor.execute("select 1")).pgcode, "25P02")
    connection.rollback()


@check("transaction and savepoint")
def _():
    with connection, connection.cursor() as cursor:
        cursor.execute("savepoint a")
        fails(psycopg2.Error, lambda: cursor.execute("select no_such_column from orders"))
        cursor.execute("rollback to savepoint a")
        cursor.execute("release savepoint a")
        cursor.execute("select 1")
        same(cursor.fetchone(), (1,))
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with connection, connection.cursor() as cursor:
        cursor.execute("show transaction_isolation")
        same(cursor.fetchone(), ("repeatable read",))
    connection.reset()


@check("server-side cursor")
def _():
    with connection, connection.cursor("named") as cursor:
        cursor.itersize = 7
        cursor.execute("select order_id from orders order by 1 limit 20")
        same(cursor.fetchmany(3), [(1,), (2,), (3,)])
        same(len(list(cursor)), 17)
    held = connection.cursor("held", withhold=True)
    held.execute("select order_id from orders order by 1 limit 3")
    connection.commit()
    same(held.fetchall(), [(1,), (2,), (3,)])
    held.close()
    connection.commit()


@check("cancel")
def _():
    timer = threading.Timer(0.3, connection.cancel)
    timer.start()
    with connection.cursor() as cursor:
        fails(psycopg2.errors.QueryCanceled, lambda: cursor.execute("select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b"))
    connection.rollback()


@check("COPY out")
def _():
    with connection, connection.cursor() as cursor, open(os.devnull, "w") as out:
        cursor.copy_expert("copy (select * from orders) to stdout with (format csv, header)", out)
        same(cursor.rowcount, 300)
        cursor.copy_to(out, "orders", columns=("order_id", "total"))


@check("helpers")
def _():
    with connection, connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        cursor.execute("select 1 as a")
        same(dict(cursor.fetchone()), {"a": 1})
        psycopg2.extras.execute_values(cursor, "select * from (values %s) t(a, b)", [(1, "x"), (2, "y")])
        same(len(cursor.fetchall()), 2)
    same(psycopg2.extras.HstoreAdapter.get_oids(connection), ((), ()))
    same(connection.server_version // 10000 >= 15, True)
    connection.set_client_encoding("UTF8")
