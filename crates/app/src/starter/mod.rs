//! A first project out of the tables of a source: their declaration, a staging view of each, a daily and a grouped count of the
//! largest that has a time, and a dashboard over them.
//!
//! Everything is text made of what the source says; nothing is asked here and nothing is written.

pub mod names;

use std::fmt::Write as _;

use connect::LeftOut;
use plan::quoted_name;
use relation::{Column, DataType, Schema};

use names::{Names, is_writable, jinja, plain, title, yaml};

/// What a project is made of.
#[derive(Debug)]
pub struct Origin {
    /// The project's name, and its profile's.
    pub project: String,
    /// The source's name: the schema that its tables are read in, and the connection's name.
    pub source: String,
    /// What `connections.yml` says of the connection, a line each, without its name.
    pub connection: Vec<String>,
    pub tables: Vec<Table>,
}

/// A table of the source.
#[derive(Debug)]
pub struct Table {
    /// As the source calls it.
    pub name: String,
    pub schema: Schema,
    /// Columns that cannot be held.
    pub left_out: Vec<LeftOut>,
    pub rows_estimate: u64,
}

/// A project as paths and texts, and what of the source is not in it, with the reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Starter {
    pub files: Vec<(String, String)>,
    pub left_out: Vec<String>,
}

impl Starter {
    fn add(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.files.push((path.into(), text.into()));
    }
}

/// Names of columns that say when a row came, the likeliest first.
const TIMES: [&str; 14] = [
    "created_at",
    "placed_at",
    "ordered_at",
    "paid_at",
    "created",
    "create_time",
    "created_time",
    "gmt_create",
    "order_date",
    "creation_date",
    "date_created",
    "add_time",
    "order_time",
    "created_on",
];
/// Parts of names of columns that are money.
const MONEY: [&str; 6] = ["total", "amount", "price", "revenue", "paid", "sum"];
/// Names of columns that have few values.
const GROUPS: [&str; 8] = ["status", "state", "order_status", "channel", "type", "kind", "category", "country"];

/// The project of these tables.
pub fn project_of(origin: &Origin) -> Starter {
    let mut starter = Starter::default();
    starter.add("profiles.yml", profiles_file(&origin.project));
    starter.add("connections.yml", format!("{}:\n  {}\n", yaml(&origin.source), origin.connection.join("\n  ")));
    starter.add(".gitignore", ".tidemill/\ntarget/\n");
    let (mut models, mut staged) = (Names::default(), Vec::new());
    for table in &origin.tables {
        if !is_writable(&table.name) {
            starter.left_out.push(format!("table {:?}: its name would be read as Jinja", table.name));
            continue;
        }
        let staging = Staging::of(table, models.give(&format!("stg_{}", table.name)), &mut starter.left_out);
        staged.push(staging);
    }
    starter.add("models/sources.yml", sources_file(&origin.source, &staged));
    for staging in &staged {
        starter.add(format!("models/staging/{}.sql", staging.model), staging.text(&origin.source));
    }
    let tests = staged.iter().filter_map(Staging::tests).collect::<String>();
    if !tests.is_empty() {
        starter.add("models/staging/staging.yml", format!("models:\n{tests}"));
    }
    let mut tiles = tables_tiles(&origin.source);
    let timed = staged.iter().filter(|staging| staging.time().is_some());
    // What has a time and money is what a shop is about; of several the largest, else the first.
    if let Some(main) =
        timed.rev().max_by_key(|of| (of.money().is_some() && of.group().is_some(), of.table.rows_estimate))
    {
        tiles.push_str(&marts(main, &mut models, &mut starter));
    }
    let has = |folder: &str| starter.files.iter().any(|(path, _)| path.starts_with(&format!("models/{folder}/")));
    let project = project_file(&origin.project, has("staging"), has("marts"));
    starter.files.insert(0, ("dbt_project.yml".to_owned(), project));
    let dashboard = format!("dashboard: overview\ntitle: {}\ntiles:\n{tiles}", yaml(&title(&origin.source)));
    starter.add("dashboards/overview.yml", dashboard);
    starter
}

/// Of a folder without models it is a comment how these would be kept: settings that fit no model are warned of.
fn project_file(name: &str, has_staging: bool, has_marts: bool) -> String {
    let folders = [
        (has_staging, "staging", "+materialized: view       # read when asked"),
        (has_marts, "marts", "+materialized: table      # kept up to date, row by row"),
    ];
    let mut text = format!("name: {name}\nversion: '1.0.0'\nconfig-version: 2\nprofile: {name}\n\n");
    let off = |is_on: bool| if is_on { "" } else { "# " };
    let any = off(has_staging || has_marts);
    text.push_str(&format!("{any}models:\n{any}  {name}:\n"));
    for (is_on, folder, setting) in folders {
        let off = off(is_on);
        text.push_str(&format!("{off}    {folder}:\n{off}      {setting}\n"));
    }
    text
}

fn profiles_file(name: &str) -> String {
    format!(
        "{name}:\n  target: dev\n  outputs:\n    dev:\n      type: tidemill\n      schema: public           # of the models\n      \
         data: .tidemill          # everything durable lives here\n      # pg: 127.0.0.1:5433     # Postgres wire; without it the \
         next free port\n      # http: 127.0.0.1:8080   # the page and the API; the same\n"
    )
}

/// A table on its way to a staging view.
struct Staging<'a> {
    table: &'a Table,
    model: String,
    /// Columns that can be written, with their names in the view.
    columns: Vec<(&'a Column, String)>,
}

impl<'a> Staging<'a> {
    fn of(table: &'a Table, model: String, left_out: &mut Vec<String>) -> Self {
        let mut names = Names::default();
        let mut columns = Vec::new();
        for column in &table.schema.columns {
            if is_writable(&column.name) {
                columns.push((column, names.give(&column.name)));
            } else {
                left_out.push(format!("column {:?} of {:?}: its name would be read as Jinja", column.name, table.name));
            }
        }
        left_out.extend(
            table.left_out.iter().map(|of| format!("column {:?} of {:?}: {}", of.column, table.name, of.reason)),
        );
        Self { table, model, columns }
    }

    fn text(&self, source: &str) -> String {
        let column = |(column, name): &(&Column, String)| {
            let written = quoted_name(&column.name);
            if column.name == *name { written } else { format!("{written} as {}", quoted_name(name)) }
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        let list = if columns.is_empty() { "*".to_owned() } else { columns.join(",\n    ") };
        format!("select\n    {list}\nfrom {{{{ source({}, {}) }}}}\n", jinja(source), jinja(&self.table.name))
    }

    /// What of the view's YAML is known: that a key of one column is one.
    fn tests(&self) -> Option<String> {
        let [key] = self.table.schema.key[..] else { return None };
        let wanted = self.table.schema.columns.get(key)?;
        let (_, name) = self.columns.iter().find(|(column, _)| column.name == wanted.name)?;
        let mut text = format!("  - name: {}\n    columns:\n", yaml(&self.model));
        writeln!(text, "      - {{name: {}, data_tests: [unique, not_null]}}", yaml(name)).ok()?;
        Some(text)
    }

    /// The columns of its key as YAML has them; none where one of them cannot be written.
    fn key(&self) -> Option<String> {
        let named = |&at: &usize| {
            let column = self.table.schema.columns.get(at)?;
            self.columns.iter().any(|(written, _)| written.name == column.name).then(|| yaml(&column.name))
        };
        let names: Vec<String> = self.table.schema.key.iter().map(named).collect::<Option<_>>()?;
        Some(names.join(", "))
    }

    /// The column that says when a row came, by its name in the view.
    fn time(&self) -> Option<(&'a Column, &str)> {
        let is_time = |c: &Column| matches!(c.data_type, DataType::Timestamp | DataType::TimestampTz | DataType::Date);
        let times: Vec<_> = self.columns.iter().filter(|(column, _)| is_time(column)).collect();
        let named = TIMES.iter().find_map(|wanted| times.iter().find(|(_, name)| name == wanted));
        let found = named.or_else(|| times.iter().find(|(column, _)| !column.nullable)).or_else(|| times.first());
        found.map(|(column, name)| (*column, name.as_str()))
    }

    fn money(&self) -> Option<&str> {
        let decimals = self.columns.iter().filter(|(c, _)| matches!(c.data_type, DataType::Decimal { .. }));
        let names: Vec<&str> = decimals.map(|(_, name)| name.as_str()).collect();
        MONEY.iter().find_map(|part| names.iter().copied().find(|name| name.contains(part)))
    }

    fn group(&self) -> Option<&str> {
        let texts = self.columns.iter().filter(|(c, _)| matches!(c.data_type, DataType::Text | DataType::Int16));
        let names: Vec<&str> = texts.map(|(_, name)| name.as_str()).collect();
        GROUPS.iter().find_map(|wanted| names.iter().copied().find(|name| name == wanted))
    }
}

fn sources_file(source: &str, staged: &[Staging<'_>]) -> String {
    let mut text = String::from(
        "# Types and keys are what `tidemill check` plans over before a source was asked. What the source has now holds when it \
         runs.\n",
    );
    text.push_str(&format!("sources:\n  - name: {}\n    tables:", yaml(source)));
    if staged.is_empty() {
        text.push_str(" []");
    }
    text.push('\n');
    for staging in staged {
        text.push_str(&format!("      - name: {}\n", yaml(&staging.table.name)));
        let mut meta = Vec::new();
        meta.extend(staging.key().map(|key| format!("key: [{key}]")));
        if !staging.table.left_out.is_empty() {
            meta.push("on_unsupported: leave_out".to_owned());
        }
        if !meta.is_empty() {
            text.push_str(&format!("        config: {{meta: {{{}}}}}\n", meta.join(", ")));
        }
        if !staging.columns.is_empty() {
            text.push_str("        columns:\n");
        }
        for (column, _) in &staging.columns {
            let data_type = yaml(&column.data_type.to_string());
            text.push_str(&format!("          - {{name: {}, data_type: {data_type}}}\n", yaml(&column.name)));
        }
    }
    text
}

/// Tiles that every project has: what there is of the source.
fn tables_tiles(source: &str) -> String {
    let schema = source.replace('\'', "''");
    let count = yaml(&format!("select sum(rows) as rows from tidemill.tables where schema = '{schema}'"));
    let each = yaml(&format!(
        "select \"table\", rows from tidemill.tables where schema = '{schema}' order by rows desc limit 20"
    ));
    format!(
        "  - {{title: Rows, kind: number, format: integer, sql: {count}}}\n  - {{title: Rows of each table, kind: bar, x: table, y: \
         [rows], format: integer, sql: {each}}}\n"
    )
}

/// Models of the main table, and their tiles.
fn marts(main: &Staging<'_>, models: &mut Names, starter: &mut Starter) -> String {
    let mut tiles = String::new();
    let name = plain(&main.table.name);
    if let Some((column, time)) = main.time() {
        let model = models.give(&format!("{name}_per_day"));
        let time = quoted_name(time);
        let day = match column.data_type {
            DataType::Date => time.clone(),
            DataType::TimestampTz => format!("({time} at time zone 'UTC')::date"),
            _ => format!("{time}::date"),
        };
        let money = main
            .money()
            .map(|money| format!(",\n    sum({}) as {}", quoted_name(money), quoted_name(&format!("{money}_of_day"))));
        let sum = main.money().map(|money| format!("{money}_of_day"));
        let text = format!(
            "select\n    {day} as day,\n    count(*) as count_of_day{}\nfrom {{{{ ref({}) }}}}\nwhere {time} is not null\ngroup by 1\n",
            money.unwrap_or_default(),
            jinja(&main.model)
        );
        starter.add(format!("models/marts/{model}.sql"), text);
        let mut line = |title: &str, column: &str| {
            let sql = format!("select day, {} from {{{{ ref({}) }}}} order by day", quoted_name(column), jinja(&model));
            tiles.push_str(&format!(
                "  - {{title: {}, kind: line, x: day, y: [{}], sql: {}}}\n",
                yaml(title),
                yaml(column),
                yaml(&sql)
            ));
        };
        line(&format!("{} a day", title(&name)), "count_of_day");
        if let Some(sum) = &sum {
            line(&format!("{} a day", title(sum.trim_end_matches("_of_day"))), sum);
        }
    }
    if let Some(group) = main.group() {
        let model = models.give(&format!("{name}_by_{group}"));
        let column = quoted_name(group);
        let text = format!(
            "select\n    {column},\n    count(*) as count_of_group\nfrom {{{{ ref({}) }}}}\ngroup by 1\n",
            jinja(&main.model)
        );
        starter.add(format!("models/marts/{model}.sql"), text);
        let sql = format!(
            "select {column}, count_of_group from {{{{ ref({}) }}}} order by count_of_group desc limit 20",
            jinja(&model)
        );
        tiles.push_str(&format!(
            "  - {{title: {}, kind: bar, x: {}, y: [count_of_group], format: integer, sql: {}}}\n",
            yaml(&format!("{} by {}", title(&name), group.replace('_', " "))),
            yaml(group),
            yaml(&sql)
        ));
    }
    tiles
}
