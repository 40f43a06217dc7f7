import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.append(sys.path.pop(0))
from importlib.metadata import version as of_package

from checks import *

version(of_package("dbt-postgres"))
folder = pathlib.Path(tempfile.mkdtemp(prefix="dbt-"))
FILES = {
    "dbt_project.yml": "{name: mine, version: '1.0', profile: mine, model-paths: [models]}",
    "profiles.yml": json.dumps({"mine": {"target": "dev", "outputs": {"dev": {
        "type": "postgres", "host": HOST, "port": PORT, "user": USER, "password": PASSWORD, "dbname": DATABASE, "schema": "public", "threads": 1}}}}),
    "models/paid.sql": "select status, count(*) as orders from {{ source('public', 'orders') }} group by status",
    "models/sources.yml": "sources: [{name: public, tables: [{name: orders, columns: [{name: order_id, data_tests: [unique, not_null]}]}, {name: newest}]}]",
}
for name, text in FILES.items():
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def dbt(*arguments, fails=False):
    program = pathlib.Path(sys.executable).with_name("dbt")
    environment = {**os.environ, "DO_NOT_TRACK": "1", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    command = [program, "--no-use-colors", *arguments, "--profiles-dir", folder, "--project-dir", folder]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    if (ended.returncode != 0) != fails:
        raise AssertionError(ended.stdout[-1500:] + ended.stderr[-500:])
    return ended.stdout


@check("dbt debug")
def _():
    same("All checks passed" in dbt("debug"), True)


@check("dbt compile")
def _():
    dbt("compile")
    compiled = (folder / "target/compiled/mine/models/paid.sql").read_text()
    same(compiled, f'select status, count(*) as orders from "{DATABASE}"."public"."orders" group by status')


@check("dbt test of sources")
def _():
    same("PASS=2" in dbt("test"), True)


@check("dbt docs generate: the catalog of tables and columns")
def _():
    dbt("docs", "generate")
    found = json.loads((folder / "target/catalog.json").read_text())["sources"]
    same(list(found["source.mine.public.orders"]["columns"])[:2], ["order_id", "user_id"])
    same(found["source.mine.public.newest"]["metadata"]["type"], "VIEW")


@check("dbt show")
def _():
    same("paid" in dbt("show", "--inline", "select status from {{ source('public', 'orders') }} where status = 'paid'", "--limit", "1"), True)
    same('"orders"' in dbt("show", "--select", "paid", "--output", "json"), True)


@check("dbt run is refused as read only")
def _():
    said = dbt("run", fails=True)
    same([part in said for part in ("cannot execute CREATE", "in a read-only")], [True, True])
