import subprocess

from checks import *


def psql(*arguments, text=None, looks="-XqAt"):
    ended = subprocess.run(["psql", looks, "-v", "ON_ERROR_STOP=1", *arguments], input=text, capture_output=True, text=True)
    if ended.returncode != 0 or "ERROR" in ended.stderr:
        raise AssertionError(f"{' '.join(arguments)} {text or ''}: {ended.stderr}")
    return ended.stdout.strip()


version(subprocess.run(["psql", "--version"], capture_output=True, text=True).stdout.split()[2])


@check("connect with SCRAM, and trusted")
def _():
    same(psql("-c", "select 1"), "1")
    same(psql("-w", "-p", str(TRUST_PORT), "-c", "select 1"), "1")


@check("variables, rows in portions, crosstabs")
def _():
    same(psql("-v", "a=it's", text="select :'a' as b, 1 as c \\gset\nselect :c + 1, :'b'\n"), "2|it's")
    same(len(psql("-v", "FETCH_COUNT=7", "-c", "select * from orders").splitlines()), 300)
    psql(text="select order_id, total from orders limit 2 \\gdesc\nselect user_id, status, count(*) from orders group by 1, 2 \\crosstabview\n")


@check("\\d and its like")
def _():
    for words in ("", "+ orders", " orders", " newest", " shop.order_items", "t+", "v+", "m", "i", "n+", "u", "f", "df", "dT", "T", "a", "o", "p", "s", "b", "C", "x", "y", "L", "g", "rds", "conf", "des"):
        psql("-c", f"\\d{words}", looks="-X")
    for words in ("\\l+", "\\conninfo", "\\sv newest", "\\z", "\\encoding"):
        psql("-c", words)
    same("orders_pkey" in psql("-c", "\\d orders", looks="-X"), True)
    same("people" in psql("-c", "\\d orders", looks="-X"), True)
    same("What is to be paid." in psql("-c", "\\d+ orders", looks="-X"), True)


@check("\\copy")
def _():
    same(len(psql("-c", "\\copy orders to stdout with (format csv, header)").splitlines()), 301)
    same(len(psql("-c", "\\copy (select order_id from orders) to stdout").splitlines()), 300)


@check("transaction and savepoint")
def _():
    text = "\\set ON_ERROR_STOP off\nbegin; savepoint a; select no_such_column from orders; rollback to a; select 2; commit;"
    same(subprocess.run(["psql", "-XqAt"], input=text, capture_output=True, text=True).stdout.strip(), "2")
    same(psql("-v", "ON_ERROR_ROLLBACK=on", text="begin;\nselect 1;\ncommit;\n"), "1")


@check("errors by SQLSTATE")
def _():
    ended = subprocess.run(["psql", "-X", "-v", "VERBOSITY=verbose", "-c", "select * from nothing"], capture_output=True, text=True)
    same("42P01" in ended.stderr, True)
