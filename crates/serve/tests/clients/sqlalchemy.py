import sys

sys.path.append(sys.path.pop(0))
import sqlalchemy
from checks import *
from sqlalchemy import func, select, text

version(sqlalchemy.__version__)

for driver in ("psycopg2", "psycopg"):
    engine = sqlalchemy.create_engine(f"postgresql+{driver}://{URL}")
    inspector = None

    def step(name):
        return check(f"{driver}: {name}")

    @step("connect")
    def _():
        global inspector
        with engine.connect() as connection:
            same(connection.execute(text("select 1")).scalar(), 1)
        inspector = sqlalchemy.inspect(engine)

    @step("tables, views, schemas")
    def _():
        same("orders" in inspector.get_table_names(), True)
        same(inspector.get_table_names(schema="shop")[:0], [])
        same("order_items" in inspector.get_table_names(schema="shop"), True)
        same("newest" in inspector.get_view_names(), True)
        same("newest" in str(inspector.get_view_definition("newest")) or "order_id" in str(inspector.get_view_definition("newest")), True)
        same({"public", "shop"} <= set(inspector.get_schema_names()), True)
        same(inspector.has_table("orders"), True)
        same(inspector.has_table("nothing"), False)
        inspector.get_materialized_view_names()
        inspector.get_temp_table_names()
        inspector.get_sequence_names()
        inspector.get_enums()
        inspector.get_domains()

    @step("columns")
    def _():
        columns = {column["name"]: column for column in inspector.get_columns("orders")}
        same(list(columns), ["order_id", "user_id", "status", "placed_at", "day", "total", "is_paid"])
        same([str(columns[name]["type"]) for name in ("order_id", "status", "placed_at", "day", "is_paid")], ["BIGINT", "TEXT", "TIMESTAMP", "DATE", "BOOLEAN"])
        same(columns["order_id"]["nullable"], False)
        same(columns["total"]["comment"], "What is to be paid.")
        same(str(columns["total"]["type"]).startswith("NUMERIC("), True)

    @step("primary keys")
    def _():
        key = inspector.get_pk_constraint("orders")
        same((key["constrained_columns"], key["name"]), (["order_id"], "orders_pkey"))
        same(inspector.get_pk_constraint("order_items", schema="shop")["constrained_columns"], ["order_id", "line"])

    @step("foreign keys")
    def _():
        [key] = inspector.get_foreign_keys("orders")
        same((key["constrained_columns"], key["referred_table"], key["referred_columns"]), (["user_id"], "people", ["user_id"]))

    @step("comments, indexes, constraints")
    def _():
        same(inspector.get_table_comment("orders")["text"], "One row per order.")
        same(inspector.get_indexes("orders"), [])
        same(inspector.get_unique_constraints("orders"), [])
        same(inspector.get_check_constraints("orders"), [])

    @step("reflection of all")
    def _():
        metadata = sqlalchemy.MetaData()
        metadata.reflect(engine, views=True)
        orders, people = metadata.tables["orders"], metadata.tables["people"]
        joined = select(people.c.city, func.count()).select_from(orders.join(people)).where(orders.c.order_id < 4).group_by(people.c.city)
        with engine.connect() as connection:
            same(sum(count for _, count in connection.execute(joined)), 3)
            chosen = select(orders.c.order_id).where(orders.c.order_id.in_([1, 2]), orders.c.total > MONEY - MONEY, orders.c.placed_at > AT.replace(year=2000))
            same(sorted(connection.scalars(chosen.limit(5))), [1, 2])
        metadata = sqlalchemy.MetaData()
        metadata.reflect(engine, schema="shop")
        same([column.name for column in metadata.tables["shop.order_items"].primary_key], ["order_id", "line"])

    @step("types")
    def _():
        with engine.connect() as connection:
            same(tuple(connection.execute(text(TYPES.replace("::", "\\:\\:").replace(': [1', '\\: [1'))).one()), ROW)

    @step("errors, transaction, savepoint, stream")
    def _():
        with engine.connect() as connection, connection.begin():
            with connection.begin_nested() as nested:
                fails(sqlalchemy.exc.ProgrammingError, lambda: connection.execute(text("select * from nothing")))
                nested.rollback()
            rows = connection.execution_options(yield_per=7).execute(text("select order_id from orders"))
            same(len(rows.all()), 300)
        with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
            same(connection.get_isolation_level(), "REPEATABLE READ")
            same(connection.default_isolation_level, "READ COMMITTED")

    engine.dispose()
