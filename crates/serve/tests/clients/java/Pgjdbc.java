import java.math.BigDecimal;
import java.sql.*;
import java.time.*;
import java.util.*;

/** pgjdbc: a line per check; see checks.py for where it connects to. */
public class Pgjdbc {
    interface Action { void run() throws Exception; }

    static void check(String name, Action action) {
        try {
            action.run();
            System.out.println("ok " + name);
        } catch (Throwable error) {
            int line = Arrays.stream(error.getStackTrace()).filter(at -> at.getClassName().startsWith("Pgjdbc")).mapToInt(StackTraceElement::getLineNumber).findFirst().orElse(0);
            System.out.println("FAILED " + name + ": " + String.valueOf(error.getMessage()).replaceAll("\\s+", " ") + " (line " + line + ")");
        }
    }

    static void same(Object left, Object right) {
        if (!Objects.equals(left, right)) throw new AssertionError(left + " is not " + right);
    }

    static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> found = new ArrayList<>();
        while (rows.next()) found.add(rows.getString(name));
        return found;
    }

    static int count(ResultSet rows) throws SQLException {
        int count = 0;
        while (rows.next()) count++;
        return count;
    }

    static Connection connection;

    public static void main(String[] arguments) throws Exception {
        Map<String, String> env = System.getenv();
        String at = "jdbc:postgresql://" + env.get("PGHOST") + ":";
        String database = "/" + env.get("PGDATABASE");
        check("connect with SCRAM, and trusted", () -> {
            connection = DriverManager.getConnection(at + env.get("PGPORT") + database + "?prepareThreshold=1", env.get("PGUSER"), env.get("PGPASSWORD"));
            try (Connection trusted = DriverManager.getConnection(at + env.get("TRUST_PORT") + database, env.get("PGUSER"), "")) {
                same(trusted.isValid(5), true);
            }
        });
        DatabaseMetaData meta = connection.getMetaData();
        System.out.println("version " + meta.getDriverVersion());
        check("types", () -> {
            try (Statement statement = connection.createStatement();
                 ResultSet row = statement.executeQuery("select 1::int2, 2::int4, 3::int8, 0.1::float8, 12.34::numeric(10,2), 'Zoë'::text, true, date '2026-03-01',"
                     + " timestamp '2026-03-01 09:30:00.5', timestamptz '2026-03-01 09:30:00.5+00', '{\"a\": 1}'::json, array[1, 2]::int4[], null::text")) {
                row.next();
                same(List.of(row.getShort(1), row.getInt(2), row.getLong(3), row.getDouble(4), row.getBigDecimal(5), row.getString(6), row.getBoolean(7), row.getObject(8, LocalDate.class)),
                    List.of((short) 1, 2, 3L, 0.1, new BigDecimal("12.34"), "Zoë", true, LocalDate.of(2026, 3, 1)));
                same(row.getObject(9, LocalDateTime.class), LocalDateTime.of(2026, 3, 1, 9, 30, 0, 500_000_000));
                same(row.getObject(10, OffsetDateTime.class).toInstant(), Instant.parse("2026-03-01T09:30:00.500Z"));
                same(row.getString(11), "{\"a\": 1}");
                same(Arrays.asList((Integer[]) row.getArray(12).getArray()), List.of(1, 2));
                same(row.getString(13), null);
                same(row.getMetaData().getColumnTypeName(5), "numeric");
                same(row.getMetaData().getPrecision(5), 10);
            }
        });
        check("parameters", () -> {
            for (int i = 0; i < 3; i++) {
                try (PreparedStatement statement = connection.prepareStatement("select ?::int + 1, ?::text, ?::date, ? = any(?), ?::text, ?::numeric")) {
                    statement.setInt(1, 1);
                    statement.setString(2, "it's");
                    statement.setObject(3, LocalDate.of(2026, 3, 1));
                    statement.setInt(4, 2);
                    statement.setArray(5, connection.createArrayOf("int4", new Integer[] {1, 2}));
                    statement.setNull(6, Types.VARCHAR);
                    statement.setBigDecimal(7, new BigDecimal("12.34"));
                    ResultSet row = statement.executeQuery();
                    row.next();
                    same(Arrays.asList(row.getInt(1), row.getString(2), row.getBoolean(4), row.getString(5), row.getBigDecimal(6)), Arrays.asList(2, "it's", true, null, new BigDecimal("12.34")));
                }
                try (PreparedStatement statement = connection.prepareStatement("select count(*) from orders where order_id <= ? and status <> ? and placed_at > ? and total < ?")) {
                    statement.setLong(1, 3);
                    statement.setString(2, "?");
                    statement.setTimestamp(3, new Timestamp(0));
                    statement.setBigDecimal(4, new BigDecimal("1000000"));
                    same(statement.getParameterMetaData().getParameterTypeName(1), "int8");
                    ResultSet row = statement.executeQuery();
                    row.next();
                    same(row.getInt(1), 3);
                }
            }
        });
        check("errors by SQLSTATE", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.executeQuery("select * from nothing");
                throw new AssertionError("no error");
            } catch (SQLException error) {
                same(error.getSQLState(), "42P01");
            }
        });
        check("transaction, savepoint, rows in portions", () -> {
            connection.setAutoCommit(false);
            connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
            same(connection.getTransactionIsolation(), Connection.TRANSACTION_REPEATABLE_READ);
            try (Statement statement = connection.createStatement()) {
                Savepoint before = connection.setSavepoint();
                try { statement.executeQuery("select no_such_column from orders"); } catch (SQLException expected) { connection.rollback(before); }
                statement.setFetchSize(7);
                same(count(statement.executeQuery("select * from orders")), 300);
            }
            connection.commit();
            connection.setReadOnly(true);
            connection.setReadOnly(false);
            connection.setAutoCommit(true);
        });
        check("cancel", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                statement.execute("select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b");
                throw new AssertionError("no error");
            } catch (SQLException error) {
                same(error.getSQLState(), "57014");
            }
        });
        check("COPY out", () -> {
            var out = new java.io.ByteArrayOutputStream();
            same(new org.postgresql.copy.CopyManager(connection.unwrap(org.postgresql.core.BaseConnection.class)).copyOut("copy orders to stdout (format csv)", out), 300L);
        });
        check("scrollable rows", () -> {
            try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY); ResultSet rows = statement.executeQuery("select order_id from orders order by 1")) {
                rows.last();
                same(rows.getRow(), 300);
            }
        });
        check("metadata: catalogs, schemas, table types", () -> {
            same(column(meta.getSchemas(), "TABLE_SCHEM").containsAll(List.of("public", "shop", "pg_catalog")), true);
            same(column(meta.getCatalogs(), "TABLE_CAT").contains(connection.getCatalog()), true);
            same(connection.getSchema(), "public");
            same(column(meta.getTableTypes(), "TABLE_TYPE").contains("TABLE"), true);
        });
        check("metadata: tables", () -> {
            same(column(meta.getTables(null, "public", "orders", new String[] {"TABLE", "VIEW", "MATERIALIZED VIEW"}), "REMARKS"), List.of("One row per order."));
            same(column(meta.getTables(null, "shop", "%", null), "TABLE_NAME").contains("order_items"), true);
            same(column(meta.getTables(connection.getCatalog(), null, "newest", new String[] {"VIEW"}), "TABLE_TYPE"), List.of("VIEW"));
        });
        check("metadata: columns", () -> {
            same(column(meta.getColumns(null, "public", "orders", "%"), "COLUMN_NAME"), List.of("order_id", "user_id", "status", "placed_at", "day", "total", "is_paid"));
            same(column(meta.getColumns(null, "public", "orders", "total"), "REMARKS"), List.of("What is to be paid."));
            same(column(meta.getColumns(null, "public", "orders", "%"), "TYPE_NAME"), List.of("int8", "int8", "text", "timestamp", "date", "numeric", "bool"));
        });
        check("metadata: primary keys", () -> {
            same(column(meta.getPrimaryKeys(null, "public", "orders"), "COLUMN_NAME"), List.of("order_id"));
            same(column(meta.getPrimaryKeys(null, "shop", "order_items"), "COLUMN_NAME"), List.of("order_id", "line"));
            same(column(meta.getBestRowIdentifier(null, "public", "orders", DatabaseMetaData.bestRowSession, true), "COLUMN_NAME"), List.of("order_id"));
        });
        check("metadata: foreign keys", () -> {
            same(column(meta.getImportedKeys(null, "public", "orders"), "PKTABLE_NAME"), List.of("people"));
            same(column(meta.getExportedKeys(null, "public", "people"), "FKCOLUMN_NAME"), List.of("user_id"));
            same(column(meta.getCrossReference(null, "public", "people", null, "public", "orders"), "FKCOLUMN_NAME"), List.of("user_id"));
        });
        check("metadata: indexes", () -> {
            same(column(meta.getIndexInfo(null, "public", "orders", false, false), "INDEX_NAME"), List.of("orders_pkey"));
            same(column(meta.getIndexInfo(null, "public", "orders", true, true), "COLUMN_NAME"), List.of("order_id"));
        });
        check("metadata: types", () -> same(column(meta.getTypeInfo(), "TYPE_NAME").containsAll(List.of("int8", "numeric", "timestamptz")), true));
        check("metadata: keywords and limits", () -> {
            same(meta.getSQLKeywords().contains("analyse"), true);
            same(meta.getMaxColumnsInIndex(), 32);
            same(meta.getMaxColumnNameLength(), 63);
            same(meta.getDatabaseProductName(), "PostgreSQL");
        });
        check("metadata: functions, procedures, privileges, clients", () -> {
            meta.getFunctions(null, null, "abs").close();
            meta.getFunctionColumns(null, null, "abs", null).close();
            meta.getProcedures(null, null, "%").close();
            meta.getTablePrivileges(null, "public", "orders").close();
            meta.getColumnPrivileges(null, "public", "orders", "%").close();
            meta.getUDTs(null, null, "%", null).close();
            meta.getClientInfoProperties().close();
            meta.getVersionColumns(null, "public", "orders").close();
            connection.setClientInfo("ApplicationName", "clients");
        });
        connection.close();
    }
}
