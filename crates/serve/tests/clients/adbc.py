import sys

sys.path.append(sys.path.pop(0))
import adbc_driver_manager
import adbc_driver_postgresql.dbapi
from checks import *

version(adbc_driver_postgresql.__version__)
connection = None


@check("connect with SCRAM, and trusted")
def _():
    global connection
    connection = adbc_driver_postgresql.dbapi.connect(f"postgresql://{URL}")
    with adbc_driver_postgresql.dbapi.connect(f"postgresql://{USER}@{HOST}:{TRUST_PORT}/{DATABASE}") as trusted:
        with trusted.cursor() as cursor:
            cursor.execute("select 1")
            same(cursor.fetchall(), [(1,)])


@check("types")
def _():
    with connection.cursor() as cursor:
        cursor.execute(TYPES)
        row = cursor.fetchone()
        # A numeric is a text to it, as is JSON.
        same(row, ROW[:5] + ("12.34",) + ROW[6:12] + ('{"a": [1, 2]}',) + ROW[13:])


@check("parameters")
def _():
    with connection.cursor() as cursor:
        cursor.execute("select order_id from orders where order_id <= $1 and status <> $2 order by 1", (3, "?"))
        same(cursor.fetchall(), [(1,), (2,), (3,)])


@check("errors by SQLSTATE")
def _():
    with connection.cursor() as cursor:
        error = fails(adbc_driver_manager.Error, lambda: cursor.execute("select * from nothing"))
        same(error.sqlstate, "42P01")
    connection.rollback()


@check("Arrow out of a binary COPY")
def _():
    with connection.cursor() as cursor:
        cursor.execute("select * from orders")
        table = cursor.fetch_arrow_table()
        same((table.num_rows, str(table.schema.field("order_id").type)), (300, "int64"))


@check("objects and schema of a table")
def _():
    objects = connection.adbc_get_objects(depth="all", table_name_filter="orders").read_all().to_pylist()
    found = [schema for catalog in objects for schema in catalog["catalog_db_schemas"] or []]
    schemas = {schema["db_schema_name"]: schema for schema in found}
    [table] = schemas["public"]["db_schema_tables"]
    # It asks for no order.
    columns = sorted(table["table_columns"], key=lambda column: column["ordinal_position"])
    same([column["column_name"] for column in columns][:2], ["order_id", "user_id"])
    same(sorted(constraint["constraint_type"] for constraint in table["table_constraints"]), ["FOREIGN KEY", "PRIMARY KEY"])
    same(str(connection.adbc_get_table_schema("orders").field("total").type), "extension<arrow.opaque[storage_type=string, type_name=numeric, vendor_name=PostgreSQL]>")
    connection.adbc_get_table_types()
