//! Random SQL over four small tables: joins, subqueries, aggregates over each other, unions, windows, constants, NULLs,
//! intervals, arrays and their rows.
//!
//! What is written means the same here and in PostgreSQL, so it keeps off the known differences: no sums beyond their type,
//! no `avg` of integers, no order that is not total where rows are left out, no equal intervals of other parts.

use crate::tape::Tape;

/// Types of columns and expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Int,
    Decimal,
    Text,
    Bool,
    /// Intervals of whole days.
    Span,
    /// Arrays of texts.
    List,
}

const TYPES: [Type; 6] = [Type::Int, Type::Decimal, Type::Text, Type::Bool, Type::Span, Type::List];

/// A table that all questions are about: its definition, and its columns.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) definition: &'static str,
    pub(crate) columns: &'static [(&'static str, Type)],
    /// The first so many columns are the key.
    pub(crate) key: usize,
}

pub(crate) const TABLES: [Table; 4] = [
    Table {
        name: "a",
        definition: "a(id bigint primary key, g int, v int, t text, d decimal(10,2), b boolean)",
        columns: &[
            ("id", Type::Int),
            ("g", Type::Int),
            ("v", Type::Int),
            ("t", Type::Text),
            ("d", Type::Decimal),
            ("b", Type::Bool),
        ],
        key: 1,
    },
    Table {
        name: "b",
        definition: "b(id bigint primary key, a bigint, g int, t text, d decimal(12,3))",
        columns: &[("id", Type::Int), ("a", Type::Int), ("g", Type::Int), ("t", Type::Text), ("d", Type::Decimal)],
        key: 1,
    },
    Table {
        name: "c",
        definition: "c(a bigint, n int, q int, t text, primary key (a, n))",
        columns: &[("a", Type::Int), ("n", Type::Int), ("q", Type::Int), ("t", Type::Text)],
        key: 2,
    },
    Table {
        name: "k",
        definition: "k(g int, t text, b boolean)",
        columns: &[("g", Type::Int), ("t", Type::Text), ("b", Type::Bool)],
        key: 0,
    },
];

/// A column that expressions may use.
#[derive(Debug, Clone)]
struct Source {
    text: String,
    of: Type,
}

/// A SELECT in brackets or as a whole, with columns `c0`, `c1`, …
struct Select {
    text: String,
    columns: Vec<Type>,
}

pub(crate) struct Writer<'t> {
    tape: Tape<'t>,
    relations: usize,
}

/// The SQL that a tape stands for.
pub(crate) fn written(tape: &[u16]) -> String {
    let mut writer = Writer { tape: Tape::new(tape), relations: 0 };
    writer.select(3, &[]).text
}

impl Writer<'_> {
    /// `outer`: columns of the query around, for correlated subqueries.
    fn select(&mut self, depth: usize, outer: &[Source]) -> Select {
        if depth > 0 {
            match self.tape.pick(14) {
                9 => return self.union(depth, outer),
                10 => return self.first_rows(depth, outer),
                11 => return self.numbered(depth, outer),
                12 => return self.without_from(depth),
                _ => {}
            }
        }
        let (from, scope) = self.from(depth);
        let inner = [scope.clone(), outer.to_vec()].concat();
        let condition = if self.tape.pick(2) == 1 {
            format!(" where {}", self.condition(depth, &inner, true))
        } else {
            String::new()
        };
        match self.tape.pick(6) {
            1 => self.plain(depth, "select distinct", &scope, &format!("{from}{condition}")),
            2 | 3 => self.grouped(depth, &scope, &format!("{from}{condition}")),
            4 => self.total(depth, &scope, &format!("{from}{condition}")),
            _ => self.plain(depth, "select", &scope, &format!("{from}{condition}")),
        }
    }

    fn plain(&mut self, depth: usize, verb: &str, scope: &[Source], rest: &str) -> Select {
        let count = 1 + self.tape.pick(3);
        let mut columns = Vec::new();
        let mut items = Vec::new();
        for i in 0..count {
            let of = if self.tape.once_in(6) { *self.tape.of(&TYPES) } else { self.type_of(scope) };
            let value = if self.tape.once_in(12) && depth > 0 {
                self.scalar(of, depth, scope)
            } else {
                self.value(of, scope, 2)
            };
            items.push(format!("{value} as c{i}"));
            columns.push(of);
        }
        Select { text: format!("{verb} {} from {rest}", items.join(", ")), columns }
    }

    fn grouped(&mut self, depth: usize, scope: &[Source], rest: &str) -> Select {
        let groups = 1 + self.tape.pick(2);
        let mut keys: Vec<Source> = Vec::new();
        for _ in 0..groups {
            let of = self.type_of(scope);
            let text = if self.tape.once_in(4) { self.value(of, scope, 1) } else { self.column(of, scope) };
            // A constant in GROUP BY is a position or refused.
            if scope.iter().any(|source| text.contains(&source.text)) && !keys.iter().any(|key| key.text == text) {
                keys.push(Source { text, of });
            }
        }
        if keys.is_empty() {
            return self.total(depth, scope, rest);
        }
        let mut results = keys.clone();
        for _ in 0..self.tape.pick(3) {
            results.push(self.aggregate(scope));
        }
        let having = if self.tape.once_in(4) {
            let mut known = results.clone();
            known.push(self.aggregate(scope));
            format!(" having {}", self.condition(0, &known, false))
        } else {
            String::new()
        };
        // Not every key is shown.
        if results.len() > 1 && self.tape.once_in(4) {
            results.remove(0);
        }
        let items: Vec<_> = results.iter().enumerate().map(|(i, r)| format!("{} as c{i}", r.text)).collect();
        let by: Vec<_> = keys.iter().map(|key| key.text.clone()).collect();
        let distinct = if self.tape.once_in(8) { "distinct " } else { "" };
        Select {
            text: format!("select {distinct}{} from {rest} group by {}{having}", items.join(", "), by.join(", ")),
            columns: results.iter().map(|r| r.of).collect(),
        }
    }

    fn total(&mut self, _depth: usize, scope: &[Source], rest: &str) -> Select {
        let mut results = vec![self.aggregate(scope)];
        if self.tape.pick(2) == 1 {
            results.push(self.aggregate(scope));
        }
        let having = if self.tape.once_in(5) {
            format!(" having {}", self.condition(0, &results, false))
        } else {
            String::new()
        };
        if self.tape.once_in(4) {
            let of = *self.tape.of(&TYPES);
            results.push(Source { text: self.constant(of), of });
        }
        let items: Vec<_> = results.iter().enumerate().map(|(i, r)| format!("{} as c{i}", r.text)).collect();
        Select {
            text: format!("select {} from {rest}{having}", items.join(", ")),
            columns: results.iter().map(|r| r.of).collect(),
        }
    }

    fn union(&mut self, depth: usize, outer: &[Source]) -> Select {
        let left = self.select(depth - 1, outer);
        let (from, scope) = self.from(depth - 1);
        let items: Vec<_> =
            left.columns.iter().enumerate().map(|(i, of)| format!("{} as c{i}", self.value(*of, &scope, 1))).collect();
        let condition =
            if self.tape.pick(3) == 1 { format!(" where {}", self.condition(0, &scope, false)) } else { String::new() };
        let all = if self.tape.pick(2) == 0 { "union all" } else { "union" };
        Select {
            text: format!("select * from ({}) l {all} select {} from {from}{condition}", left.text, items.join(", ")),
            columns: left.columns,
        }
    }

    /// The first rows of all columns' order.
    fn first_rows(&mut self, depth: usize, outer: &[Source]) -> Select {
        let inner = self.select(depth - 1, outer);
        let first = self.tape.pick(inner.columns.len());
        let direction = if self.tape.pick(2) == 1 { " desc" } else { "" };
        let rest: Vec<_> = (0..inner.columns.len()).filter(|&i| i != first).map(|i| format!(", l.c{i}")).collect();
        let limit = 1 + self.tape.pick(3);
        let offset = if self.tape.once_in(3) { " offset 1" } else { "" };
        Select {
            text: format!(
                "select * from ({}) l order by l.c{first}{direction}{} limit {limit}{offset}",
                inner.text,
                rest.join("")
            ),
            columns: inner.columns,
        }
    }

    fn numbered(&mut self, depth: usize, outer: &[Source]) -> Select {
        let inner = self.select(depth - 1, outer);
        let partition = self.tape.pick(inner.columns.len());
        let direction = if self.tape.pick(2) == 1 { " desc" } else { "" };
        let order: Vec<_> = (0..inner.columns.len()).map(|i| format!("l.c{i}{direction}")).collect();
        let columns: Vec<_> = (0..inner.columns.len()).map(|i| format!("c{i}")).collect();
        let bound = 1 + self.tape.pick(2);
        Select {
            text: format!(
                "select {} from (select l.*, row_number() over (partition by l.c{partition} order by {}) as rn from ({}) l) n \
                 where rn <= {bound}",
                columns.join(", "),
                order.join(", "),
                inner.text
            ),
            columns: inner.columns,
        }
    }

    fn without_from(&mut self, depth: usize) -> Select {
        let count = 1 + self.tape.pick(2);
        let mut columns = Vec::new();
        let mut items = Vec::new();
        for i in 0..count {
            let of = *self.tape.of(&TYPES);
            items.push(format!("{} as c{i}", self.scalar(of, depth, &[])));
            columns.push(of);
        }
        Select { text: format!("select {}", items.join(", ")), columns }
    }

    /// A scalar subquery: an aggregate, so that there is one row, or the first row, or one of which there may be several.
    fn scalar(&mut self, of: Type, depth: usize, outer: &[Source]) -> String {
        let (from, scope) = self.from(depth - 1);
        if self.tape.once_in(3) {
            return self.row(of, outer, &from, &scope);
        }
        let mut aggregate = self.aggregate(&scope);
        while aggregate.of != of {
            aggregate = match of {
                Type::Int => Source { text: "count(*)".to_owned(), of },
                Type::Bool => Source { text: "count(*) > 1".to_owned(), of },
                Type::Text | Type::Span | Type::List => {
                    Source { text: format!("max({})", self.column(of, &scope)), of }
                }
                Type::Decimal => Source { text: format!("sum({})", self.column(of, &scope)), of },
            };
        }
        let condition = match self.equal(outer, &scope) {
            Some(equality) if self.tape.pick(2) == 1 => format!(" where {equality}"),
            _ => String::new(),
        };
        format!("(select {} from {from}{condition})", aggregate.text)
    }

    fn row(&mut self, of: Type, outer: &[Source], from: &str, scope: &[Source]) -> String {
        let value = self.value(of, scope, 1);
        let condition = match self.equal(outer, scope) {
            Some(equality) => format!(" where {equality}"),
            None => format!(" where {}", self.simple(scope)),
        };
        let rest = if self.tape.pick(2) == 1 {
            let direction = *self.tape.of(&["", " desc", " nulls first", " desc nulls last"]);
            let first = self.tape.pick(scope.len());
            let others = scope.iter().map(|source| format!(", {}", source.text)).collect::<String>();
            format!(" order by {}{direction}{others} limit 1", scope[first].text)
        } else {
            String::new()
        };
        format!("(select {value} from {from}{condition}{rest})")
    }

    /// Relations joined, with their columns.
    fn from(&mut self, depth: usize) -> (String, Vec<Source>) {
        let (mut text, mut scope) = self.relation(depth);
        for _ in 0..[0, 0, 1, 1, 2][self.tape.pick(5)] {
            let (right, columns) = self.relation(depth.saturating_sub(1));
            // A model keeps no full join: seldom, so that most questions are asked of models too.
            let kinds = ["join", "left join", "join", "left join", "right join", "cross", "left join", "full join"];
            let kind = *self.tape.of(&kinds);
            let Some(equality) = self.equal(&scope, &columns) else { continue };
            let both = [scope.clone(), columns].concat();
            let further = if self.tape.once_in(4) { format!(" and {}", self.simple(&both)) } else { String::new() };
            if kind == "cross" {
                let total = self.total(0, &both[scope.len()..], &right).text;
                let name = self.alias();
                text = format!("{text} cross join ({total}) {name}");
            } else {
                text = format!("{text} {kind} {right} on {equality}{further}");
                scope = both;
            }
        }
        if self.tape.once_in(6) {
            let name = self.alias();
            let (rows, of) = if self.tape.pick(3) == 1 {
                (format!("generate_series(1, least({}, 3)::int)", self.column(Type::Int, &scope)), Type::Int)
            } else {
                (format!("unnest({})", self.value(Type::List, &scope, 1)), Type::Text)
            };
            text = match self.tape.pick(3) {
                0 => format!("{text} left join lateral {rows} {name}(c0) on true"),
                _ => format!("{text} cross join {rows} {name}(c0)"),
            };
            scope.push(Source { text: format!("{name}.c0"), of });
        }
        (text, scope)
    }

    fn alias(&mut self) -> String {
        self.relations += 1;
        format!("r{}", self.relations)
    }

    fn relation(&mut self, depth: usize) -> (String, Vec<Source>) {
        if depth > 0 && self.tape.pick(3) == 2 {
            let inner = self.select(depth - 1, &[]);
            let name = self.alias();
            let columns = inner.columns.iter().enumerate();
            let scope = columns.map(|(i, of)| Source { text: format!("{name}.c{i}"), of: *of }).collect();
            return (format!("({}) {name}", inner.text), scope);
        }
        let table = self.tape.of(&TABLES);
        let name = self.alias();
        let scope =
            table.columns.iter().map(|(column, of)| Source { text: format!("{name}.{column}"), of: *of }).collect();
        (format!("{} {name}", table.name), scope)
    }

    /// An equality of a column here and one there.
    fn equal(&mut self, here: &[Source], there: &[Source]) -> Option<String> {
        let pairs: Vec<_> = here
            .iter()
            .flat_map(|l| there.iter().filter(|r| r.of == l.of && l.of != Type::Decimal).map(move |r| (l, r)))
            .map(|(l, r)| format!("{} = {}", l.text, r.text))
            .collect();
        (!pairs.is_empty()).then(|| self.tape.of(&pairs).clone())
    }

    fn type_of(&mut self, scope: &[Source]) -> Type {
        scope[self.tape.pick(scope.len())].of
    }

    fn column(&mut self, of: Type, scope: &[Source]) -> String {
        let fitting: Vec<_> = scope.iter().filter(|source| source.of == of).map(|s| s.text.clone()).collect();
        if fitting.is_empty() { self.constant(of) } else { self.tape.of(&fitting).clone() }
    }

    fn constant(&mut self, of: Type) -> String {
        let choices: &[&str] = match of {
            Type::Int => &["1", "0", "2", "cast(null as int)", "-1"],
            Type::Decimal => &["1.5", "0.00", "-2.25", "cast(null as decimal(10,2))"],
            Type::Text => &["'x'", "'y'", "''", "cast(null as text)"],
            Type::Bool => &["true", "false", "cast(null as boolean)"],
            Type::Span => &["interval '1 day'", "interval '2 days'", "interval '0'", "cast(null as interval)"],
            Type::List => &["array['x', 'y']", "array['x', null]", "string_to_array('', 'y')", "cast(null as text[])"],
        };
        (*self.tape.of(choices)).to_owned()
    }

    fn value(&mut self, of: Type, scope: &[Source], depth: usize) -> String {
        if depth == 0 {
            return if self.tape.once_in(4) { self.constant(of) } else { self.column(of, scope) };
        }
        let deeper = |writer: &mut Self, of| writer.value(of, scope, depth - 1);
        match (self.tape.pick(10), of) {
            (7, _) => {
                let condition = self.condition(0, scope, false);
                let (yes, no) = (deeper(self, of), deeper(self, of));
                format!("case when {condition} then {yes} else {no} end")
            }
            (8, _) => format!("coalesce({}, {})", deeper(self, of), deeper(self, of)),
            (9, Type::Bool) => format!("({})", self.condition(0, scope, false)),
            (9, Type::Text) => match self.tape.pick(3) {
                0 => format!("({} || {})", deeper(self, of), deeper(self, of)),
                1 => format!("upper({})", deeper(self, of)),
                _ => format!("nullif({}, {})", deeper(self, of), self.constant(of)),
            },
            (9, Type::Int) => match self.tape.pick(6) {
                0 => format!("({} + {})", deeper(self, of), deeper(self, of)),
                1 => format!("({} - {})", deeper(self, of), deeper(self, of)),
                2 => format!("length({})", deeper(self, Type::Text)),
                3 => format!("abs({})", deeper(self, of)),
                4 => format!("greatest({}, {})", deeper(self, of), deeper(self, of)),
                _ => format!("nullif({}, {})", deeper(self, of), self.constant(of)),
            },
            (9, Type::Decimal) => match self.tape.pick(9) {
                0 => format!("({} + {})", deeper(self, of), deeper(self, of)),
                1 => format!("({} * {})", deeper(self, of), self.constant(Type::Int)),
                2 => format!("round({}, 1)", deeper(self, of)),
                3 => format!("trunc({}, 1)", deeper(self, of)),
                4 => format!("ceil({})", deeper(self, of)),
                5 => format!("floor({})", deeper(self, of)),
                6 => format!("abs({})", deeper(self, of)),
                7 => format!("least({}, {})", deeper(self, of), deeper(self, Type::Int)),
                _ => format!("coalesce({}, {})", deeper(self, of), deeper(self, Type::Int)),
            },
            (9, Type::Span) => match self.tape.pick(3) {
                0 => format!("({} + {})", deeper(self, of), deeper(self, of)),
                1 => format!("nullif({}, {})", deeper(self, of), self.constant(of)),
                _ => format!("greatest({}, {})", deeper(self, of), deeper(self, of)),
            },
            (9, Type::List) => match self.tape.pick(2) {
                0 => format!("array_append({}, {})", deeper(self, of), deeper(self, Type::Text)),
                _ => format!("nullif({}, {})", deeper(self, of), self.constant(of)),
            },
            (4..=6, Type::Span) => format!("({} * interval '1 day')", self.column(Type::Int, scope)),
            (4..=6, Type::List) => format!("string_to_array({}, 'x')", self.column(Type::Text, scope)),
            _ => self.column(of, scope),
        }
    }

    fn aggregate(&mut self, scope: &[Source]) -> Source {
        let filter =
            if self.tape.once_in(8) { format!(" filter (where {})", self.simple(scope)) } else { String::new() };
        let of = self.type_of(scope);
        let (text, of) = match (self.tape.pick(7), of) {
            (1, _) => (format!("count({})", self.column(of, scope)), Type::Int),
            (2, _) => (format!("count(distinct {})", self.column(of, scope)), Type::Int),
            (3 | 4, Type::Int | Type::Decimal | Type::Span) => (format!("sum({})", self.value(of, scope, 1)), of),
            (5, Type::Decimal) => (format!("avg({})", self.column(of, scope)), of),
            (5, Type::Int | Type::Text | Type::Span | Type::List) => (format!("min({})", self.value(of, scope, 1)), of),
            (6, Type::Bool) => (format!("bool_or({})", self.column(of, scope)), of),
            (6, _) => (format!("max({})", self.value(of, scope, 1)), of),
            _ => ("count(*)".to_owned(), Type::Int),
        };
        Source { text: format!("{text}{filter}"), of }
    }

    /// A condition of one comparison.
    fn simple(&mut self, scope: &[Source]) -> String {
        let of = self.type_of(scope);
        let value = self.value(of, scope, 1);
        match self.tape.pick(8) {
            1 => format!("{value} is null"),
            2 => format!("{value} is not null"),
            3 => format!("{value} is distinct from {}", self.value(of, scope, 0)),
            4 => format!("{value} is not distinct from {}", self.value(of, scope, 0)),
            5 if of != Type::Bool => format!("{value} in ({}, {})", self.constant(of), self.constant(of)),
            5 => format!("{value} is not true"),
            6 if of == Type::Int => format!("{value} between {} and {}", self.constant(of), self.value(of, scope, 0)),
            6 if of == Type::Text => format!("{value} like '%x'"),
            7 if of == Type::Text => format!("{value} not in ({}, {})", self.constant(of), self.constant(of)),
            _ => {
                let operator = *self.tape.of(&["=", "<>", "<", ">="]);
                format!("{value} {operator} {}", self.value(of, scope, 0))
            }
        }
    }

    fn condition(&mut self, depth: usize, scope: &[Source], subqueries: bool) -> String {
        match self.tape.pick(10) {
            4 => format!("{} and {}", self.simple(scope), self.condition(depth, scope, subqueries)),
            5 if subqueries && depth > 0 && self.tape.once_in(3) => {
                format!("({} or {})", self.simple(scope), self.subquery(depth, scope))
            }
            5 => format!("{} or {}", self.simple(scope), self.simple(scope)),
            6 => format!("not {}", self.simple(scope)),
            7 if subqueries && depth > 0 => self.subquery(depth, scope),
            8 if subqueries && depth > 0 => self.subquery(depth, scope),
            9 => (*self.tape.of(&["1 = 1", "1 = 0", "false", "cast(null as boolean)", "'a' = 'b'"])).to_owned(),
            _ => self.simple(scope),
        }
    }

    fn subquery(&mut self, depth: usize, scope: &[Source]) -> String {
        let not = if self.tape.pick(2) == 1 { "not " } else { "" };
        match self.tape.pick(4) {
            0 => {
                let of = self.type_of(scope);
                let value = if self.tape.once_in(4) { self.constant(of) } else { self.value(of, scope, 1) };
                let (from, columns) = self.from(depth - 1);
                let listed = self.value(of, &columns, 0);
                let condition = match self.equal(scope, &columns) {
                    Some(equality) if self.tape.once_in(4) => format!(" where {equality}"),
                    _ if self.tape.once_in(3) => format!(" where {}", self.simple(&columns)),
                    _ => String::new(),
                };
                format!("{value} {not}in (select {listed} from {from}{condition})")
            }
            1 => {
                let (from, columns) = self.from(depth - 1);
                let condition = match self.equal(scope, &columns) {
                    Some(equality) => equality,
                    None => self.simple(&columns),
                };
                let further =
                    if self.tape.once_in(3) { format!(" and {}", self.simple(&columns)) } else { String::new() };
                format!("{not}exists (select 1 from {from} where {condition}{further})")
            }
            2 => {
                let value = self.value(Type::Int, scope, 1);
                let operator = *self.tape.of(&["=", "<", ">="]);
                format!("{value} {operator} {}", self.scalar(Type::Int, depth, scope))
            }
            3 => {
                // A total is a row, whatever it is of.
                let (from, columns) = self.from(depth - 1);
                let condition = self.equal(scope, &columns).map_or_else(String::new, |e| format!(" where {e}"));
                let having = if self.tape.once_in(3) { " having count(*) > 1" } else { "" };
                format!("{not}exists (select {} from {from}{condition}{having})", self.aggregate(&columns).text)
            }
            4 => {
                let (from, columns) = self.from(depth - 1);
                let condition = self.equal(scope, &columns).map_or_else(String::new, |e| format!(" where {e}"));
                let value = self.value(Type::Int, scope, 0);
                format!("{value} {not}in (select count(*) from {from}{condition})")
            }
            _ => {
                let inner = self.select(depth - 1, &[]);
                let of = inner.columns[0];
                let value = self.value(of, scope, 0);
                format!("{value} {not}in (select s.c0 from ({}) s)", inner.text)
            }
        }
    }
}
