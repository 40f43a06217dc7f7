"""What the Python clients share: where to connect to, and a line per check.

PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE are libpq's own: a server that asks for a password (SCRAM).
TRUST_PORT is one that asks nobody.
"""

import datetime
import decimal
import os
import traceback

HOST, PORT = os.environ["PGHOST"], int(os.environ["PGPORT"])
USER, PASSWORD, DATABASE = os.environ["PGUSER"], os.environ["PGPASSWORD"], os.environ["PGDATABASE"]
TRUST_PORT = int(os.environ["TRUST_PORT"])
URL = f"{USER}:{PASSWORD}@{HOST}:{PORT}/{DATABASE}"

TYPES = """select 1::int2 as small, 2::int4 as int, 3::int8 as long, 1.5::float4 as real, 0.1::float8 as double,
  12.34::numeric(10,2) as money, 'Zoë'::text as text, true as flag, date '2026-03-01' as day, time '09:30:00' as clock,
  timestamp '2026-03-01 09:30:00.5' as at, timestamptz '2026-03-01 09:30:00.5+00' as instant,
  '{"a": [1, 2]}'::json as json, array[1, 2]::int4[] as ints, array['a', 'b c']::text[] as texts, null::text as nothing"""

DAY = datetime.date(2026, 3, 1)
CLOCK = datetime.time(9, 30)
AT = datetime.datetime(2026, 3, 1, 9, 30, 0, 500_000)
INSTANT = AT.replace(tzinfo=datetime.timezone.utc)
MONEY = decimal.Decimal("12.34")
#: The row of TYPES as Python has it.
ROW = (1, 2, 3, 1.5, 0.1, MONEY, "Zoë", True, DAY, CLOCK, AT, INSTANT, {"a": [1, 2]}, [1, 2], ["a", "b c"], None)


def version(text):
    print("version", text, flush=True)


def check(name):
    """Runs a function and says how it went."""

    def run(function):
        try:
            function()
            print("ok", name, flush=True)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)
            own = [frame.lineno for frame in place if "tests/clients" in frame.filename and frame.filename != __file__]
            text = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"FAILED {name}: {text[:600]} (line {own[-1] if own else '?'})", flush=True)
        return function

    return run


def same(left, right):
    if left != right:
        raise AssertionError(f"{left!r} is not {right!r}")


def fails(error, action):
    """The error of this class that an action raises."""
    try:
        action()
    except error as raised:
        return raised
    raise AssertionError(f"no {error.__name__}")
