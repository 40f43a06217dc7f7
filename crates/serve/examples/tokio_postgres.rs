//! tokio-postgres as `scripts/clients` tries it: a line per thing, `ok NAME` or `FAILED NAME: why`. Where it connects to is in
//! PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE; at TRUST_PORT nobody is asked for a password.

#![allow(clippy::print_stdout, reason = "the lines are its result")]

use std::error::Error;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, IsolationLevel, NoTls};

type Tried = Result<(), Box<dyn Error>>;

fn same<T: PartialEq + std::fmt::Debug>(left: T, right: T) -> Tried {
    if left == right { Ok(()) } else { Err(format!("{left:?} is not {right:?}").into()) }
}

fn said(name: &str, tried: Tried) {
    match tried {
        Ok(()) => println!("ok {name}"),
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            println!("FAILED {name}: {error}{cause}");
        }
    }
}

async fn connect(port: &str, has_password: bool) -> Result<Client, Box<dyn Error>> {
    let mut config = Config::new();
    config.host(std::env::var("PGHOST")?).port(std::env::var(port)?.parse()?);
    config.user(std::env::var("PGUSER")?).dbname(std::env::var("PGDATABASE")?);
    if has_password {
        config.password(std::env::var("PGPASSWORD")?);
    }
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    println!("version 0.7");
    let mut client = connect("PGPORT", true).await?;
    said("connect with SCRAM, and trusted", trusted().await);
    said("types", types(&client).await);
    said("parameters", parameters(&client).await);
    said("errors by SQLSTATE", errors(&client).await);
    said("transaction, savepoint, portal", transaction(&mut client).await);
    said("cancel", cancel(&client).await);
    said("COPY out", copy(&client).await);
    Ok(())
}

async fn trusted() -> Tried {
    let client = connect("TRUST_PORT", false).await?;
    same(client.query_one("select 1", &[]).await?.get::<_, i32>(0), 1)
}

async fn types(client: &Client) -> Tried {
    let sql = "select 1::int2, 2::int4, 3::int8, 1.5::float4, 0.1::float8, 'Zoë'::text, true, array[1, 2]::int4[], \
               array['a', 'b c']::text[], null::text, 12.34::numeric(10,2), '{}'::json, timestamptz '2026-03-01 09:30:00+00'";
    let row = client.query_one(sql, &[]).await?;
    same((row.get::<_, i16>(0), row.get::<_, i32>(1), row.get::<_, i64>(2)), (1, 2, 3))?;
    same((row.get::<_, f32>(3), row.get::<_, f64>(4)), (1.5, 0.1))?;
    same((row.get::<_, &str>(5), row.get::<_, bool>(6)), ("Zoë", true))?;
    same((row.get::<_, Vec<i32>>(7), row.get::<_, Vec<&str>>(8)), (vec![1, 2], vec!["a", "b c"]))?;
    same(row.get::<_, Option<&str>>(9), None)?;
    let types: Vec<&Type> = row.columns()[10..].iter().map(|column| column.type_()).collect();
    same(types, vec![&Type::NUMERIC, &Type::JSON, &Type::TIMESTAMPTZ])
}

async fn parameters(client: &Client) -> Tried {
    let sql = "select $1::int + 1, $2::text, 2 = any($3::int[]), $4::text, $5::bool, $6::float8";
    let none: Option<&str> = None;
    let row = client.query_one(sql, &[&1_i32, &"it's", &vec![1, 2], &none, &true, &0.5_f64]).await?;
    same((row.get::<_, i32>(0), row.get::<_, &str>(1), row.get::<_, bool>(2)), (2, "it's", true))?;
    let statement = client.prepare("select total from orders where order_id = any($1) and status <> $2").await?;
    same(statement.params(), &[Type::INT8_ARRAY, Type::TEXT])?;
    same(client.query(&statement, &[&vec![1_i64, 2, 3], &"?"]).await?.len(), 3)?;
    let typed = client.query_typed("select $1 + 1", &[(&1_i64, Type::INT8)]).await?;
    same(typed[0].get::<_, i64>(0), 2)
}

async fn errors(client: &Client) -> Tried {
    let error = client.query("select * from nothing", &[]).await.err().ok_or("no error")?;
    same(error.code().map(|code| code.code().to_owned()), Some("42P01".to_owned()))
}

async fn transaction(client: &mut Client) -> Tried {
    let built = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let mut outer = built.start().await?;
    let inner = outer.transaction().await?;
    inner.query("select no_such_column from orders", &[]).await.err().ok_or("no error")?;
    inner.rollback().await?;
    let portal = outer.bind("select order_id from orders order by 1", &[]).await?;
    same((outer.query_portal(&portal, 7).await?.len(), outer.query_portal(&portal, 0).await?.len()), (7, 293))?;
    outer.commit().await?;
    Ok(())
}

async fn cancel(client: &Client) -> Tried {
    let token = client.cancel_token();
    let asked =
        client.batch_execute("select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b");
    let cancelled = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    };
    let (asked, cancelled) = tokio::join!(asked, cancelled);
    cancelled?;
    same(asked.err().and_then(|error| error.code().map(|code| code.code().to_owned())), Some("57014".to_owned()))
}

async fn copy(client: &Client) -> Tried {
    let pieces = client.copy_out("copy orders to stdout (format csv)").await?;
    let lines: usize = pieces
        .map(|piece| piece.map(|bytes| bytes.iter().filter(|b| **b == b'\n').count()))
        .try_fold(0, async |sum, lines| Ok(sum + lines))
        .await?;
    same(lines, 300)
}
