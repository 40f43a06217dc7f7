import sys

sys.path.append(sys.path.pop(0))
import polars
import psycopg
from checks import *

version(polars.__version__)
QUERY = "select order_id, status, placed_at, day, total, is_paid from orders order by order_id"


@check("read_database_uri, its own engine (connectorx)")
def _():
    frame = polars.read_database_uri(QUERY, f"postgresql://{URL}")
    same((frame.height, str(frame.dtypes[0])), (300, "Int64"))
    frame = polars.read_database_uri(QUERY.split(" order by")[0], f"postgresql://{URL}", partition_on="order_id", partition_num=3)
    same(frame.height, 300)


@check("read_database_uri, ADBC")
def _():
    frame = polars.read_database_uri(QUERY, f"postgresql://{URL}", engine="adbc")
    same((frame.height, str(frame.dtypes[0]), str(frame.dtypes[3])), (300, "Int64", "Date"))


@check("read_database over a connection")
def _():
    with psycopg.connect("") as connection:
        frame = polars.read_database(QUERY, connection)
        same((frame.height, frame["total"].dtype.is_decimal()), (300, True))
        batches = polars.read_database(QUERY, connection, iter_batches=True, batch_size=100)
        same(sum(batch.height for batch in batches), 300)
