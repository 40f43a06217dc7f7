//! Models, made up: SQL over tables and over one another.
//!
//! Types are minded only so far that most of what comes out can be planned; what the planner refuses is thrown away.

mod shapes;

use relation::{DataType, Schema};

use crate::Without;
use testkit::Rng;

/// A relation that may be read: its name and columns.
pub(crate) struct Relation {
    pub(crate) name: String,
    pub(crate) columns: Vec<(String, DataType)>,
}

impl Relation {
    pub(crate) fn new(name: &str, schema: &Schema) -> Self {
        let columns = schema.columns.iter().map(|c| (c.name.clone(), c.data_type)).collect();
        Self { name: name.to_owned(), columns }
    }
}

/// What types have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Decimal,
    Text,
    Date,
    Timestamp,
    Float,
    Bool,
    Interval,
    /// Arrays of texts.
    Texts,
    Other,
}

fn kind(data_type: DataType) -> Kind {
    match data_type {
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::UInt64 => Kind::Int,
        DataType::Decimal { .. } => Kind::Decimal,
        DataType::Text | DataType::Json => Kind::Text,
        DataType::Date => Kind::Date,
        DataType::Timestamp | DataType::TimestampTz => Kind::Timestamp,
        DataType::Float32 | DataType::Float64 => Kind::Float,
        DataType::Bool => Kind::Bool,
        DataType::Interval => Kind::Interval,
        DataType::Array(DataType::Text) => Kind::Texts,
        _ => Kind::Other,
    }
}

/// A column in scope: how it is written, and its kind.
#[derive(Clone)]
struct Column {
    text: String,
    kind: Kind,
}

/// A query with the names and kinds of its columns.
struct Query {
    text: String,
    columns: Vec<(String, Kind)>,
    /// Whether it is known to have no more than one row, as a total has.
    single: bool,
}

pub(crate) struct Writer<'a> {
    rng: &'a mut Rng,
    relations: &'a [Relation],
    without: &'a Without,
    aliases: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(rng: &'a mut Rng, relations: &'a [Relation], without: &'a Without) -> Self {
        Self { rng, relations, without, aliases: 0 }
    }

    /// One model's SQL.
    pub(crate) fn model(&mut self) -> String {
        if !self.without.has("shapes") && self.rng.chance(35) {
            return self.shaped().text;
        }
        self.query(2).text
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("r{}", self.aliases)
    }

    fn query(&mut self, depth: usize) -> Query {
        let top = if self.without.has("topk") { 0 } else { 2 };
        let union = if depth > 0 { 2 } else { 0 };
        match self.rng.weighted(&[5, 5, 2, union, top, top, 1]) {
            0 => self.plain(depth),
            1 => self.grouped(depth),
            2 => self.distinct(depth),
            3 => self.union(depth),
            4 => self.limited(depth),
            5 => self.numbered(depth),
            _ => self.global(depth),
        }
    }

    /// FROM, and what is in scope behind it.
    fn from(&mut self, depth: usize) -> (String, Vec<Column>, bool) {
        let (mut text, mut scope, mut single) = self.item(depth);
        let mut joined = false;
        for _ in 0..self.rng.weighted(&[9, 8, 3]) {
            let (item, columns, _) = self.item(depth);
            let Some(condition) = self.join_condition(&scope, &columns) else { continue };
            // Full joins are refused but for those that a filter makes left, right or inner ones.
            let kinds = ["join", "join", "join", "left join", "left join", "left join", "right join", "full join"];
            let kind = *self.rng.pick(&kinds);
            text = format!("{text} {kind} {item} on {condition}");
            scope.extend(columns);
            joined = true;
        }
        if self.rng.chance(14) && !self.without.has("unnest") {
            let (item, column) = self.unnested(&scope);
            text = format!("{text}, {item}");
            scope.push(column);
            joined = true;
        }
        single &= !joined;
        (text, scope, single)
    }

    /// The rows of a value of what stands before.
    fn unnested(&mut self, scope: &[Column]) -> (String, Column) {
        let alias = self.alias();
        let (rows, kind) = match self.rng.below(4) {
            0 => {
                let last = self.expression_text(scope, Kind::Int, 0);
                (format!("generate_series(1, least({last}, 3))"), Kind::Int)
            }
            1 => {
                let text = self.expression_text(scope, Kind::Text, 0);
                (format!("regexp_split_to_table({text}, 'b')"), Kind::Text)
            }
            _ => (format!("unnest({})", self.expression_text(scope, Kind::Texts, 1)), Kind::Text),
        };
        (format!("{rows} as {alias}(x)"), Column { text: format!("{alias}.x"), kind })
    }

    fn item(&mut self, depth: usize) -> (String, Vec<Column>, bool) {
        let alias = self.alias();
        if depth > 0 && self.rng.chance(30) {
            let query = self.query(depth - 1);
            let columns =
                query.columns.iter().map(|(name, kind)| Column { text: format!("{alias}.{name}"), kind: *kind });
            return (format!("({}) as {alias}", query.text), columns.collect(), query.single);
        }
        // What was made last is read more often, so that models stand on models.
        let relations = self.relations;
        let at = if self.rng.chance(25) { relations.len() - 1 } else { self.rng.below(relations.len()) };
        let relation = &relations[at];
        let columns =
            relation.columns.iter().map(|(name, t)| Column { text: format!("{alias}.{name}"), kind: kind(*t) });
        (format!("{} as {alias}", relation.name), columns.collect(), false)
    }

    fn join_condition(&mut self, left: &[Column], right: &[Column]) -> Option<String> {
        let mut pairs: Vec<(&Column, &Column)> = Vec::new();
        for l in left {
            let fits = right.iter().filter(|r| r.kind == l.kind && !matches!(l.kind, Kind::Other | Kind::Bool));
            pairs.extend(fits.map(|r| (l, r)));
        }
        if pairs.is_empty() {
            return None;
        }
        let mut parts = Vec::new();
        for _ in 0..self.rng.weighted(&[0, 8, 2]) {
            let (l, r) = *self.rng.pick(&pairs);
            parts.push(format!("{} = {}", l.text, r.text));
        }
        if self.rng.chance(28) && !self.without.has("residual") {
            let (l, r) = *self.rng.pick(&pairs);
            let both: Vec<Column> = left.iter().chain(right).cloned().collect();
            parts.push(match self.rng.below(5) {
                0 => format!("{} < {}", l.text, r.text),
                1 => format!("{} <> {}", l.text, r.text),
                2 => format!("{} is distinct from {}", l.text, r.text),
                3 => self.predicate(right, 0),
                _ => self.predicate(&both, 0),
            });
        }
        Some(parts.join(" and "))
    }

    fn clause(&mut self, scope: &[Column], depth: usize, percent: usize) -> String {
        if !self.rng.chance(percent) {
            return String::new();
        }
        format!(" where {}", self.predicate(scope, depth))
    }

    fn plain(&mut self, depth: usize) -> Query {
        let (from, scope, single) = self.from(depth);
        let items = self.items(&scope, depth);
        let filter = self.clause(&scope, depth, 55);
        Query { single, ..self.select("select", &items, &format!("{from}{filter}")) }
    }

    fn distinct(&mut self, depth: usize) -> Query {
        let (from, scope, _) = self.from(depth);
        let mut items = self.items(&scope, 0);
        items.truncate(2);
        let filter = self.clause(&scope, depth, 35);
        self.select("select distinct", &items, &format!("{from}{filter}"))
    }

    fn grouped(&mut self, depth: usize) -> Query {
        let (from, scope, _) = self.from(depth);
        let filter = self.clause(&scope, depth, 35);
        let mut items = Vec::new();
        for _ in 0..self.rng.weighted(&[0, 7, 3]) {
            let wanted = *self.rng.pick(&[
                Kind::Int,
                Kind::Text,
                Kind::Int,
                Kind::Date,
                Kind::Decimal,
                Kind::Bool,
                Kind::Float,
                Kind::Interval,
                Kind::Texts,
            ]);
            let item = if self.rng.chance(75) { self.column(&scope) } else { Some(self.expression(&scope, wanted, 1)) };
            items.extend(item);
        }
        if items.is_empty() {
            items.push(Column { text: scope[0].text.clone(), kind: scope[0].kind });
        }
        let groups: Vec<String> = (1..=items.len()).map(|i| i.to_string()).collect();
        for _ in 0..self.rng.between(1, 3) {
            let aggregate = self.aggregate(&scope);
            items.push(aggregate);
        }
        let having = if self.rng.chance(22) {
            let aggregate = self.aggregate(&scope);
            format!(" having {}", self.compared(&aggregate))
        } else {
            String::new()
        };
        let tail = format!("{from}{filter} group by {}{having}", groups.join(", "));
        self.select("select", &items, &tail)
    }

    fn global(&mut self, depth: usize) -> Query {
        let (from, scope, _) = self.from(depth);
        let filter = self.clause(&scope, depth, 40);
        let items: Vec<Column> = (0..self.rng.between(1, 3)).map(|_| self.aggregate(&scope)).collect();
        Query { single: true, ..self.select("select", &items, &format!("{from}{filter}")) }
    }

    fn union(&mut self, depth: usize) -> Query {
        let first = self.query(depth - 1);
        let all = if self.rng.chance(70) { "union all" } else { "union" };
        let (from, scope, _) = self.from(0);
        let filter = self.clause(&scope, 0, 40);
        let items: Vec<Column> = first.columns.iter().map(|(_, kind)| self.expression(&scope, *kind, 0)).collect();
        let second = self.select("select", &items, &format!("{from}{filter}"));
        let wrapped = |query: &Query, alias: &str| format!("select * from ({}) as {alias}", query.text);
        let (a, b) = (self.alias(), self.alias());
        let text = format!("{} {all} {}", wrapped(&first, &a), wrapped(&second, &b));
        Query { text, columns: first.columns, single: false }
    }

    fn order(&mut self, scope: &[Column]) -> String {
        let mut parts = Vec::new();
        for _ in 0..self.rng.between(1, 2) {
            if let Some(column) = self.column(scope) {
                let direction = *self.rng.pick(&["", " desc", " nulls first", " desc nulls last"]);
                parts.push(format!("{}{direction}", column.text));
            }
        }
        parts.join(", ")
    }

    fn limited(&mut self, depth: usize) -> Query {
        let (from, scope, _) = self.from(depth);
        let mut items = self.items(&scope, 0);
        items.truncate(3);
        let filter = self.clause(&scope, depth, 30);
        let order = self.order(&scope);
        let limit = self.rng.between(1, 4);
        let offset = if self.rng.chance(25) { format!(" offset {}", self.rng.between(1, 2)) } else { String::new() };
        self.select("select", &items, &format!("{from}{filter} order by {order} limit {limit}{offset}"))
    }

    fn numbered(&mut self, depth: usize) -> Query {
        let (from, scope, _) = self.from(depth);
        let mut items = self.items(&scope, 0);
        items.truncate(3);
        let filter = self.clause(&scope, depth, 30);
        let partition = self.column(&scope).map_or_else(|| "1".to_owned(), |column| column.text);
        let order = self.order(&scope);
        let inner = self.select("select", &items, "");
        let inner_text = inner.text.trim_end_matches(" from ").to_owned();
        let alias = self.alias();
        let number = format!("row_number() over (partition by {partition} order by {order}) as rn");
        let bound = *self.rng.pick(&["rn <= 1", "rn <= 2", "rn = 1", "rn < 4", "rn = 2", "rn between 2 and 3"]);
        let mut columns = inner.columns;
        let mut names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
        if self.rng.chance(40) {
            names.push("rn".to_owned());
            columns.push(("rn".to_owned(), Kind::Int));
        }
        let names: Vec<String> = names.iter().map(|name| format!("{alias}.{name}")).collect();
        let text = format!(
            "select {} from ({inner_text}, {number} from {from}{filter}) as {alias} where {bound}",
            names.join(", ")
        );
        Query { text, columns, single: false }
    }

    fn select(&mut self, verb: &str, items: &[Column], from: &str) -> Query {
        let named: Vec<String> = items.iter().enumerate().map(|(i, item)| format!("{} as c{i}", item.text)).collect();
        let columns = items.iter().enumerate().map(|(i, item)| (format!("c{i}"), item.kind)).collect();
        Query { text: format!("{verb} {} from {from}", named.join(", ")), columns, single: false }
    }

    fn items(&mut self, scope: &[Column], depth: usize) -> Vec<Column> {
        let mut items = Vec::new();
        for _ in 0..self.rng.between(1, 5) {
            if self.rng.chance(65) {
                items.extend(self.column(scope));
                continue;
            }
            if depth > 0 && self.rng.chance(15) && !self.without.has("subqueries") {
                items.push(self.scalar(scope));
                continue;
            }
            let kinds = [
                Kind::Int,
                Kind::Int,
                Kind::Text,
                Kind::Decimal,
                Kind::Bool,
                Kind::Float,
                Kind::Date,
                Kind::Interval,
                Kind::Texts,
            ];
            let kind = *self.rng.pick(&kinds);
            items.push(self.expression(scope, kind, 2));
        }
        if items.is_empty() {
            items.push(scope[0].clone());
        }
        items
    }

    fn column(&mut self, scope: &[Column]) -> Option<Column> {
        (!scope.is_empty()).then(|| self.rng.pick(scope).clone())
    }

    fn of_kind(&mut self, scope: &[Column], kind: Kind) -> Option<String> {
        let fits: Vec<&Column> = scope.iter().filter(|column| column.kind == kind).collect();
        if fits.is_empty() { None } else { Some(self.rng.pick(&fits).text.clone()) }
    }

    fn constant(&mut self, kind: Kind) -> String {
        let of: &[&str] = match kind {
            Kind::Int => &["0", "1", "2", "3", "-1"],
            Kind::Decimal => &["cast(1.25 as decimal(10,2))", "cast(0 as decimal(10,2))", "cast(10 as decimal(10,2))"],
            Kind::Text => &["'a'", "'b'", "''", "'x'"],
            Kind::Date => &["date '2026-02-01'", "date '2026-01-31'"],
            Kind::Timestamp => &["timestamp '2026-02-01 00:00:00'"],
            Kind::Float => &["cast(0.5 as double)", "cast(2 as double)"],
            Kind::Bool => &["true", "false"],
            Kind::Interval => &[
                "interval '1 month'",
                "interval '30 days'",
                "interval '720 hours'",
                "interval '1 day -01:00:00'",
                "interval '0'",
            ],
            Kind::Texts => &["array['a', 'b']", "array['b', null]", "string_to_array('', ',')", "array['ab']"],
            Kind::Other => &["null"],
        };
        (*self.rng.pick(of)).to_owned()
    }

    fn expression(&mut self, scope: &[Column], kind: Kind, depth: usize) -> Column {
        let text = self.expression_text(scope, kind, depth);
        Column { text, kind }
    }

    fn expression_text(&mut self, scope: &[Column], kind: Kind, depth: usize) -> String {
        let leaf = self.of_kind(scope, kind);
        if depth == 0 || self.rng.chance(30) {
            return match leaf {
                Some(text) if self.rng.chance(88) => text,
                _ => self.constant(kind),
            };
        }
        let down = depth - 1;
        if self.rng.chance(30) {
            let (a, b) = (self.expression_text(scope, kind, down), self.expression_text(scope, kind, down));
            return match self.rng.below(4) {
                0 => format!("coalesce({a}, {b})"),
                1 => format!("nullif({a}, {b})"),
                2 => format!("case when {} then {a} else {b} end", self.predicate(scope, 0)),
                _ => format!("case when {} then {a} end", self.predicate(scope, 0)),
            };
        }
        let (a, b) = (self.expression_text(scope, kind, down), self.expression_text(scope, kind, down));
        match kind {
            Kind::Int | Kind::Decimal | Kind::Float => {
                let fails = if self.without.has("rejects") { 0 } else { 2 };
                let operator = ["+", "-", "*", "/", "%"]
                    [self.rng.weighted(&[4, 3, 3, fails, if kind == Kind::Int { fails } else { 0 }])];
                format!("({a} {operator} {b})")
            }
            Kind::Text => match self.rng.below(4) {
                0 => format!("upper({a})"),
                1 => format!("({a} || {b})"),
                2 => format!("substr({a}, 1, 1)"),
                _ => match self.of_kind(scope, Kind::Int) {
                    Some(number) => format!("cast({number} as text)"),
                    None => format!("lower({a})"),
                },
            },
            Kind::Bool => self.predicate(scope, 0),
            Kind::Date => match self.of_kind(scope, Kind::Timestamp) {
                Some(moment) => format!("cast({moment} as date)"),
                None => a,
            },
            Kind::Timestamp => format!("date_trunc('month', {a})"),
            Kind::Interval => match (self.rng.below(4), self.of_kind(scope, Kind::Timestamp)) {
                (0 | 1, Some(moment)) => format!("({moment} - {})", self.constant(Kind::Timestamp)),
                (0 | 2, _) => format!("({a} + {b})"),
                (1, _) => format!("({a} * 2)"),
                _ => format!("(- {a})"),
            },
            Kind::Texts => match (self.rng.below(4), self.of_kind(scope, Kind::Text)) {
                (0 | 1, Some(text)) => format!("string_to_array({text}, 'b')"),
                (2, Some(text)) => format!("array_append({a}, {text})"),
                _ => format!("({a} || {b})"),
            },
            Kind::Other => a,
        }
    }

    fn aggregate(&mut self, scope: &[Column]) -> Column {
        let filter = if self.rng.chance(22) && !self.without.has("filter") {
            format!(" filter (where {})", self.predicate(scope, 0))
        } else {
            String::new()
        };
        let extremes = if self.without.has("minmax") { 0 } else { 3 };
        let number = *self.rng.pick(&[Kind::Int, Kind::Decimal, Kind::Float, Kind::Int, Kind::Interval]);
        let choice = self.rng.weighted(&[4, 2, 5, 3, extremes, extremes, 3, 2, 1, 1]);
        let any = self.column(scope).unwrap_or(Column { text: "1".to_owned(), kind: Kind::Int });
        let (text, kind) = match choice {
            0 => ("count(*)".to_owned(), Kind::Int),
            1 => (format!("count({})", any.text), Kind::Int),
            2 => (format!("sum({})", self.expression_text(scope, number, 1)), number),
            3 => (
                format!("avg({})", self.expression_text(scope, number, 1)),
                if number == Kind::Int { Kind::Float } else { number },
            ),
            4 => (format!("min({})", any.text), any.kind),
            5 => (format!("max({})", any.text), any.kind),
            6 => (format!("count(distinct {})", any.text), Kind::Int),
            7 => (format!("sum(distinct {})", self.expression_text(scope, number, 0)), number),
            8 => (format!("bool_or({})", self.predicate(scope, 0)), Kind::Bool),
            _ => (format!("bool_and({})", self.predicate(scope, 0)), Kind::Bool),
        };
        Column { text: format!("{text}{filter}"), kind }
    }

    /// A condition over one value.
    fn compared(&mut self, column: &Column) -> String {
        let constant = self.constant(column.kind);
        let operator = *self.rng.pick(&["=", "<>", "<", "<=", ">", ">=", "is distinct from", "is not distinct from"]);
        match self.rng.below(10) {
            0 => format!("{} is null", column.text),
            1 => format!("{} is not null", column.text),
            _ => format!("{} {operator} {constant}", column.text),
        }
    }

    fn predicate(&mut self, scope: &[Column], depth: usize) -> String {
        if depth > 0 && self.rng.chance(32) && !self.without.has("subqueries") {
            return self.subquery(scope);
        }
        if self.rng.chance(22) {
            let (a, b) = (self.predicate(scope, 0), self.predicate(scope, depth.saturating_sub(1)));
            return match self.rng.below(5) {
                0 => format!("({a} or {b})"),
                1 => format!("not ({a})"),
                _ => format!("({a} and {b})"),
            };
        }
        let Some(column) = self.column(scope) else { return "true".to_owned() };
        match self.rng.below(8) {
            0 => {
                let of: Vec<String> = (0..2).map(|_| self.constant(column.kind)).collect();
                let not = *self.rng.pick(&["", "not "]);
                format!("{} {not}in ({})", column.text, of.join(", "))
            }
            1 => {
                let partner = self.of_kind(scope, column.kind).unwrap_or_else(|| column.text.clone());
                let operator = *self.rng.pick(&["=", "<>", "<", ">=", "is distinct from", "is not distinct from"]);
                format!("{} {operator} {partner}", column.text)
            }
            2 if column.kind == Kind::Text => format!("{} like '%b%'", column.text),
            3 if column.kind == Kind::Bool => column.text,
            _ => self.compared(&column),
        }
    }

    /// A relation of a subquery, and the columns of it and of the outer query that fit each other.
    fn inner(&mut self, scope: &[Column]) -> (String, Vec<Column>, Option<(String, String, Kind)>) {
        let (item, columns, _) = self.item(0);
        let mut pairs = Vec::new();
        for outer in scope {
            let fits = columns.iter().filter(|c| c.kind == outer.kind && !matches!(c.kind, Kind::Other | Kind::Bool));
            pairs.extend(fits.map(|c| (c.text.clone(), outer.text.clone(), c.kind)));
        }
        let pair = if pairs.is_empty() { None } else { Some(self.rng.pick(&pairs).clone()) };
        (item, columns, pair)
    }

    fn subquery(&mut self, scope: &[Column]) -> String {
        let (item, columns, pair) = self.inner(scope);
        let Some((inner, outer, _)) = pair else { return "true".to_owned() };
        let more = if self.rng.chance(40) { format!(" and {}", self.predicate(&columns, 0)) } else { String::new() };
        let filter =
            if more.is_empty() { String::new() } else { format!(" where {}", more.trim_start_matches(" and ")) };
        match self.rng.below(8) {
            0 | 1 => format!("exists (select 1 from {item} where {inner} = {outer}{more})"),
            2 | 3 => format!("not exists (select 1 from {item} where {inner} = {outer}{more})"),
            4 | 5 => format!("{outer} in (select {inner} from {item}{filter})"),
            _ => format!("{outer} not in (select {inner} from {item}{filter})"),
        }
    }

    /// A scalar subquery.
    fn scalar(&mut self, scope: &[Column]) -> Column {
        let (item, columns, pair) = self.inner(scope);
        let aggregate = self.aggregate(&columns);
        let filter = match pair {
            Some((inner, outer, _)) if self.rng.chance(65) => format!(" where {inner} = {outer}"),
            _ => String::new(),
        };
        Column { text: format!("(select {} from {item}{filter})", aggregate.text), kind: aggregate.kind }
    }
}
