import sys

sys.path.append(sys.path.pop(0))
import pandas
import sqlalchemy
from checks import *

version(pandas.__version__)
engine = sqlalchemy.create_engine(f"postgresql+psycopg://{URL}")


@check("read_sql")
def _():
    frame = pandas.read_sql("select order_id, total, placed_at, is_paid from orders order by 1", engine, parse_dates=["placed_at"])
    same((len(frame), str(frame.dtypes["order_id"]), frame["placed_at"].dtype.kind), (300, "int64", "M"))


@check("read_sql with parameters and chunks")
def _():
    query = sqlalchemy.text("select * from orders where order_id <= :top")
    chunks = list(pandas.read_sql(query, engine, params={"top": 20}, chunksize=7))
    same([len(chunk) for chunk in chunks], [7, 7, 6])


@check("read_sql_table")
def _():
    frame = pandas.read_sql_table("orders", engine, index_col="order_id", columns=["status", "total"])
    same((frame.index.name, list(frame.columns), len(frame)), ("order_id", ["status", "total"], 300))
    same(len(pandas.read_sql_table("order_items", engine, schema="shop")) > 0, True)


@check("to_sql is refused as read only")
def _():
    error = fails(sqlalchemy.exc.DBAPIError, lambda: pandas.DataFrame({"a": [1]}).to_sql("mine", engine))
    same(error.orig.sqlstate, "25006")
