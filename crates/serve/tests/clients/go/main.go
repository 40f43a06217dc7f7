// The Go clients: `clients pgx` and `clients pq`. A line per check; see checks.py for where they connect to.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lib/pq"
)

func check(name string, action func() error) {
	if err := action(); err != nil {
		fmt.Printf("FAILED %s: %s\n", name, strings.Join(strings.Fields(err.Error()), " "))
		return
	}
	fmt.Printf("ok %s\n", name)
}

func same(left, right any) error {
	if !reflect.DeepEqual(left, right) {
		return fmt.Errorf("%#v is not %#v", left, right)
	}
	return nil
}

func version(module string) {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			fmt.Println("version", strings.TrimPrefix(dependency.Version, "v"))
		}
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "pq" {
		libpq()
	} else {
		pgxClient()
	}
}

const parameters = "select $1::int + 1, $2::text, 2 = any($3::int[]), $4::text is null, $5::numeric(10,2), $6::bool"
const chosen = "select count(*) from orders where order_id = any($1) and status <> $2 and placed_at > $3"

func pgxClient() {
	version("github.com/jackc/pgx/v5")
	ctx := context.Background()
	var connection *pgx.Conn
	check("connect with SCRAM, and trusted", func() (err error) {
		if connection, err = pgx.Connect(ctx, ""); err != nil {
			return err
		}
		trusted, err := pgx.Connect(ctx, "port="+os.Getenv("TRUST_PORT"))
		if err != nil {
			return err
		}
		return trusted.Close(ctx)
	})
	check("types", func() error {
		var small int16
		var number int32
		var long int64
		var double float64
		var money pgtype.Numeric
		var text string
		var flag bool
		var day, at, instant time.Time
		var json map[string][]int
		var ints []int32
		var texts []string
		var nothing *string
		err := connection.QueryRow(ctx, `select 1::int2, 2::int4, 3::int8, 0.1::float8, 12.34::numeric(10,2), 'Zoë'::text, true, date '2026-03-01',
			timestamp '2026-03-01 09:30:00.5', timestamptz '2026-03-01 09:30:00.5+00', '{"a": [1, 2]}'::json, array[1, 2]::int4[], array['a', 'b c']::text[], null::text`).
			Scan(&small, &number, &long, &double, &money, &text, &flag, &day, &at, &instant, &json, &ints, &texts, &nothing)
		if err != nil {
			return err
		}
		value, _ := money.Float64Value()
		half := time.Date(2026, 3, 1, 9, 30, 0, 500_000_000, time.UTC)
		return same([]any{small, number, long, double, value.Float64, text, flag, at, instant.UTC(), json["a"], ints, texts, nothing == nil},
			[]any{int16(1), int32(2), int64(3), 0.1, 12.34, "Zoë", true, half, half, []int{1, 2}, []int32{1, 2}, []string{"a", "b c"}, true})
	})
	modes := map[string]pgx.QueryExecMode{
		"prepared": pgx.QueryExecModeCacheStatement, "described": pgx.QueryExecModeCacheDescribe, "each described": pgx.QueryExecModeDescribeExec,
		"not described": pgx.QueryExecModeExec, "simple": pgx.QueryExecModeSimpleProtocol,
	}
	for _, name := range []string{"prepared", "described", "each described", "not described", "simple"} {
		check("parameters, "+name, func() error {
			var number int32
			var text string
			var member, null, flag bool
			var numeric pgtype.Numeric
			row := connection.QueryRow(ctx, parameters, modes[name], 1, "it's", []int32{1, 2}, nil, "12.34", true)
			if err := row.Scan(&number, &text, &member, &null, &numeric, &flag); err != nil {
				return err
			}
			var count int64
			row = connection.QueryRow(ctx, chosen, modes[name], []int64{1, 2, 3}, "?", time.Unix(0, 0).UTC())
			if err := row.Scan(&count); err != nil {
				return err
			}
			return same([]any{number, text, member, null, flag, count}, []any{int32(2), "it's", true, true, true, int64(3)})
		})
	}
	check("errors by SQLSTATE", func() error {
		_, err := connection.Exec(ctx, "select * from nothing")
		var failed *pgconn.PgError
		if !errors.As(err, &failed) {
			return fmt.Errorf("no error of the server: %v", err)
		}
		return same(failed.Code, "42P01")
	})
	check("transaction and savepoint", func() error {
		outer, err := connection.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return err
		}
		inner, err := outer.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err = inner.Exec(ctx, "select no_such_column from orders"); err == nil {
			return errors.New("no error")
		}
		if err = inner.Rollback(ctx); err != nil {
			return err
		}
		var level string
		if err = outer.QueryRow(ctx, "show transaction_isolation").Scan(&level); err != nil {
			return err
		}
		return errors.Join(same(level, "repeatable read"), outer.Commit(ctx))
	})
	check("batch", func() error {
		batch := &pgx.Batch{}
		for i := range 3 {
			batch.Queue("select order_id from orders where order_id = $1", i+1)
		}
		results := connection.SendBatch(ctx, batch)
		for range 3 {
			if _, err := results.Exec(); err != nil {
				return err
			}
		}
		return results.Close()
	})
	check("rows by name", func() error {
		type order struct {
			OrderID int64 `db:"order_id"`
			Status  string
		}
		rows, _ := connection.Query(ctx, "select order_id, status from orders order by 1 limit 3")
		orders, err := pgx.CollectRows(rows, pgx.RowToStructByName[order])
		if err != nil {
			return err
		}
		return same(len(orders), 3)
	})
	check("cancel", func() error {
		soon, stop := context.WithTimeout(ctx, 300*time.Millisecond)
		defer stop()
		other, err := pgx.Connect(ctx, "")
		if err != nil {
			return err
		}
		defer other.Close(ctx)
		_, err = other.Exec(soon, "select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b")
		return same(errors.Is(err, context.DeadlineExceeded), true)
	})
	check("COPY out", func() error {
		tag, err := connection.PgConn().CopyTo(ctx, &strings.Builder{}, "copy orders to stdout (format csv)")
		if err != nil {
			return err
		}
		return same(tag.RowsAffected(), int64(300))
	})
	check("pool, types by name", func() error {
		pool, err := pgxpool.New(ctx, "")
		if err != nil {
			return err
		}
		defer pool.Close()
		if err = pool.Ping(ctx); err != nil {
			return err
		}
		kind, err := connection.LoadType(ctx, "_int4")
		if err != nil {
			return err
		}
		return same(kind.OID, uint32(1007))
	})
}

func libpq() {
	version("github.com/lib/pq")
	var db *sql.DB
	check("connect with SCRAM, and trusted", func() (err error) {
		if db, err = sql.Open("postgres", "sslmode=disable"); err != nil {
			return err
		}
		if err = db.Ping(); err != nil {
			return err
		}
		trusted, err := sql.Open("postgres", "sslmode=disable password='' port="+os.Getenv("TRUST_PORT"))
		if err != nil {
			return err
		}
		defer trusted.Close()
		return trusted.Ping()
	})
	check("types", func() error {
		var number int
		var double float64
		var money, text, json string
		var flag bool
		var day, at, instant time.Time
		var ints []int64
		var texts []string
		var nothing sql.NullString
		err := db.QueryRow(`select 2::int4, 0.1::float8, 12.34::numeric(10,2), 'Zoë'::text, true, date '2026-03-01', timestamp '2026-03-01 09:30:00.5',
			timestamptz '2026-03-01 09:30:00.5+00', '{"a": [1, 2]}'::json, array[1, 2]::int4[], array['a', 'b c']::text[], null::text`).
			Scan(&number, &double, &money, &text, &flag, &day, &at, &instant, &json, pq.Array(&ints), pq.Array(&texts), &nothing)
		if err != nil {
			return err
		}
		return same([]any{number, double, money, text, flag, json, ints, texts, nothing.Valid, instant.UnixMilli()},
			[]any{2, 0.1, "12.34", "Zoë", true, `{"a": [1, 2]}`, []int64{1, 2}, []string{"a", "b c"}, false, int64(1772357400500)})
	})
	check("parameters", func() error {
		var number int
		var text, numeric string
		var member, null, flag bool
		row := db.QueryRow(parameters, 1, "it's", pq.Array([]int64{1, 2}), nil, "12.34", true)
		if err := row.Scan(&number, &text, &member, &null, &numeric, &flag); err != nil {
			return err
		}
		var count int
		if err := db.QueryRow(chosen, pq.Array([]int64{1, 2, 3}), "?", time.Unix(0, 0)).Scan(&count); err != nil {
			return err
		}
		return same([]any{number, text, member, null, numeric, flag, count}, []any{2, "it's", true, true, "12.34", true, 3})
	})
	check("prepared statement", func() error {
		statement, err := db.Prepare("select status from orders where order_id = $1")
		if err != nil {
			return err
		}
		defer statement.Close()
		var status string
		return errors.Join(statement.QueryRow(1).Scan(&status), statement.QueryRow(2).Scan(&status))
	})
	check("errors by SQLSTATE", func() error {
		_, err := db.Exec("select * from nothing")
		var failed *pq.Error
		if !errors.As(err, &failed) {
			return fmt.Errorf("no error of the server: %v", err)
		}
		return same(string(failed.Code), "42P01")
	})
	check("transaction and savepoint", func() error {
		transaction, err := db.BeginTx(context.Background(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		if err != nil {
			return err
		}
		for _, statement := range []string{"savepoint a", "select no_such_column from orders", "rollback to savepoint a"} {
			_, err = transaction.Exec(statement)
		}
		return errors.Join(err, transaction.Commit())
	})
	check("cancel", func() error {
		soon, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer stop()
		_, err := db.ExecContext(soon, "select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b")
		if err == nil {
			return errors.New("no error")
		}
		return db.Ping()
	})
	check("column types", func() error {
		rows, err := db.Query("select order_id, total from orders limit 1")
		if err != nil {
			return err
		}
		defer rows.Close()
		types, err := rows.ColumnTypes()
		if err != nil {
			return err
		}
		return same([]string{types[0].DatabaseTypeName(), types[1].DatabaseTypeName()}, []string{"INT8", "NUMERIC"})
	})
}
