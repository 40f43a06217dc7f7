//! Models in the shapes that reports have: chance alone puts such parts together too seldom.

use super::{Column, Kind, Query, Writer};

/// A relation in FROM: how it is written, and its columns.
type Item = (String, Vec<Column>);

impl Writer<'_> {
    /// A model of one of the shapes.
    pub(super) fn shaped(&mut self) -> Query {
        match self.rng.below(13) {
            0 => self.totals_beside_names(),
            1 => self.first_of_a_join(),
            2 => self.outside_of_groups(),
            3 => self.counted_apart(),
            4 => self.by_prefix(),
            5 => self.by_period(),
            6 => self.chain_of_lefts(),
            7 => self.shares(),
            8 => self.twice(),
            9 => self.how_often_how_many(),
            10 => self.with_itself(),
            11 => self.newest_of_each(),
            _ => self.periods_side_by_side(),
        }
    }

    fn relation(&mut self) -> Item {
        let (text, columns, _) = self.item(0);
        (text, columns)
    }

    /// A column by which rows are grouped or joined.
    fn key(&mut self, scope: &[Column]) -> Column {
        let fits = |column: &&Column| matches!(column.kind, Kind::Int | Kind::Text | Kind::Date | Kind::Decimal);
        let keys: Vec<&Column> = scope.iter().filter(fits).collect();
        if keys.is_empty() { scope[0].clone() } else { (*self.rng.pick(&keys)).clone() }
    }

    /// Two columns of one kind, as an equality.
    fn equal(&mut self, left: &[Column], right: &[Column]) -> String {
        let mut pairs = Vec::new();
        for l in left {
            let fits = right.iter().filter(|r| r.kind == l.kind && !matches!(l.kind, Kind::Other | Kind::Bool));
            pairs.extend(fits.map(|r| format!("{} = {}", l.text, r.text)));
        }
        if pairs.is_empty() { "1 = 1".to_owned() } else { self.rng.pick(&pairs).clone() }
    }

    fn number(&mut self, scope: &[Column]) -> String {
        let kind = *self.rng.pick(&[Kind::Int, Kind::Decimal, Kind::Int]);
        self.expression_text(scope, kind, 0)
    }

    /// A query in FROM, under a name.
    fn named(&mut self, query: &Query) -> Item {
        let alias = self.alias();
        let columns = query.columns.iter().map(|(name, kind)| Column { text: format!("{alias}.{name}"), kind: *kind });
        (format!("({}) as {alias}", query.text), columns.collect())
    }

    fn grouped_by(&mut self, keys: &[Column], aggregates: Vec<Column>, from: &str, filter: &str) -> Query {
        let groups: Vec<String> = (1..=keys.len()).map(|i| i.to_string()).collect();
        let items: Vec<Column> = keys.iter().cloned().chain(aggregates).collect();
        self.select("select", &items, &format!("{from}{filter} group by {}", groups.join(", ")))
    }

    /// A count or a sum by a key of some kind.
    fn total_by(&mut self, kind: Kind) -> Query {
        let (from, scope) = self.relation();
        let key = Column { text: self.of_kind(&scope, kind).unwrap_or_else(|| self.constant(kind)), kind };
        let total = match self.rng.below(3) {
            0 => "count(*)".to_owned(),
            1 => format!("sum({})", self.expression_text(&scope, Kind::Int, 0)),
            _ => format!("count(distinct {})", self.key(&scope).text),
        };
        let filter = self.clause(&scope, 0, 40);
        self.grouped_by(&[key], vec![Column { text: total, kind: Kind::Int }], &from, &filter)
    }

    /// Totals out of several relations, one below the other, beside the names that stand for their keys.
    fn totals_beside_names(&mut self) -> Query {
        let (names, scope) = self.relation();
        let key = self.key(&scope);
        let mut branches: Vec<String> = Vec::new();
        for _ in 0..self.rng.between(1, 2) {
            branches.push(self.total_by(key.kind).text);
        }
        // The same once more, in other words or in these.
        branches.push(if self.rng.chance(30) { branches[0].clone() } else { self.total_by(key.kind).text });
        let all = if self.rng.chance(85) { "union all" } else { "union" };
        let branches: Vec<String> = branches
            .iter()
            .map(|branch| {
                let alias = self.alias();
                format!("select * from ({branch}) as {alias}")
            })
            .collect();
        let alias = self.alias();
        let totals = format!("({}) as {alias}", branches.join(&format!(" {all} ")));
        let total = Column { text: format!("{alias}.c1"), kind: Kind::Int };
        let kind = *self.rng.pick(&["join", "left join", "right join"]);
        let from = format!("{names} {kind} {totals} on {} = {alias}.c0", key.text);
        let mut items = self.items(&scope, 0);
        items.truncate(2);
        if self.rng.chance(50) {
            items.push(total);
            return self.select("select", &items, &from);
        }
        let sums = vec![Column { text: format!("sum({})", total.text), kind: Kind::Int }];
        self.grouped_by(&[key], sums, &from, "")
    }

    /// One row of each group of a join, where several may come first; and what is made of them.
    fn first_of_a_join(&mut self) -> Query {
        let (left, mut scope) = self.relation();
        let (right, columns) = self.relation();
        let on = self.equal(&scope, &columns);
        scope.extend(columns);
        let kind = *self.rng.pick(&["join", "left join"]);
        let (group, order) = (self.key(&scope).text, self.order(&scope));
        let mut items = self.items(&scope, 0);
        items.truncate(3);
        let filter = self.clause(&scope, 1, 25);
        let inner = self.select("select", &items, "");
        let chosen = inner.text.trim_end_matches(" from ");
        let number = format!("row_number() over (partition by {group} order by {order}) as rn");
        let alias = self.alias();
        let from = format!("({chosen}, {number} from {left} {kind} {right} on {on}{filter}) as {alias}");
        let columns = inner.columns.iter().map(|(name, kind)| Column { text: format!("{alias}.{name}"), kind: *kind });
        let first: Vec<Column> = columns.collect();
        let only = format!(" where {alias}.rn = 1");
        match self.rng.below(3) {
            0 => self.select("select", &first, &format!("{from}{only}")),
            1 => {
                let aggregate = self.aggregate(&first);
                self.grouped_by(&first[..1], vec![aggregate], &from, &only)
            }
            _ => {
                let (other, theirs) = self.relation();
                let on = self.equal(&first, &theirs);
                let both: Vec<Column> = first.into_iter().chain(theirs).collect();
                let mut items = self.items(&both, 0);
                items.truncate(4);
                self.select("select", &items, &format!("{from} left join {other} on {on}{only}"))
            }
        }
    }

    /// Rows that are in no group, or in none of some kind; what groups say may be NULL.
    fn outside_of_groups(&mut self) -> Query {
        let (from, scope) = self.relation();
        let outer = self.key(&scope);
        let (inner, theirs) = self.relation();
        let group = self.key(&theirs);
        let value = self.of_kind(&theirs, outer.kind).unwrap_or_else(|| self.constant(outer.kind));
        let value = match self.rng.below(3) {
            0 => format!("nullif({value}, {})", self.constant(outer.kind)),
            _ => value,
        };
        let extreme = *self.rng.pick(&["min", "max"]);
        let having = match self.rng.chance(40) {
            true => format!(" having count(*) {} {}", self.rng.pick(&[">", "<", "="]), self.rng.between(1, 2)),
            false => String::new(),
        };
        let groups = format!("from {inner} group by {}{having}", group.text);
        let outside = match self.rng.below(4) {
            0 | 1 => format!("{} not in (select {extreme}({value}) {groups})", outer.text),
            2 => {
                let alias = self.alias();
                let found = format!("select {extreme}({value}) as v, count(*) as n {groups}");
                let bound = self.rng.between(0, 2);
                format!(
                    "not exists (select 1 from ({found}) as {alias} where {alias}.v = {} and {alias}.n > {bound})",
                    outer.text
                )
            }
            _ => format!("{} in (select {extreme}({value}) {groups})", outer.text),
        };
        let also = if self.rng.chance(30) { format!(" and {}", self.predicate(&scope, 1)) } else { String::new() };
        let mut items = self.items(&scope, 0);
        items.truncate(3);
        self.select("select", &items, &format!("{from} where {outside}{also}"))
    }

    /// Many aggregates of one group: of the same values with and without conditions.
    fn counted_apart(&mut self) -> Query {
        let (from, scope, _) = self.from(0);
        let (key, value) = (self.key(&scope), self.key(&scope).text);
        let (number, some) = (self.number(&scope), self.predicate(&scope, 0));
        let others = self.predicate(&scope, 0);
        let all = [
            (format!("count(distinct {value})"), Kind::Int),
            (format!("count(distinct {value}) filter (where {some})"), Kind::Int),
            (format!("count(distinct {value}) filter (where {others})"), Kind::Int),
            (format!("sum({number})"), Kind::Decimal),
            (format!("sum({number}) filter (where {some})"), Kind::Decimal),
            (format!("sum(distinct {number}) filter (where {some})"), Kind::Decimal),
            (format!("sum(distinct {number})"), Kind::Decimal),
            (format!("min({number}) filter (where {some})"), Kind::Decimal),
            (format!("max({number})"), Kind::Decimal),
            (format!("avg({number}) filter (where {others})"), Kind::Decimal),
            (format!("count({value}) filter (where not ({some}))"), Kind::Int),
            (format!("bool_and({some}) filter (where {others})"), Kind::Bool),
        ];
        let mut aggregates: Vec<Column> = Vec::new();
        for (text, kind) in all {
            if self.rng.chance(55) || aggregates.is_empty() {
                aggregates.push(Column { text, kind });
            }
        }
        let keys = if self.rng.chance(15) { Vec::new() } else { vec![key] };
        let filter = self.clause(&scope, 1, 20);
        if keys.is_empty() {
            return Query { single: true, ..self.select("select", &aggregates, &format!("{from}{filter}")) };
        }
        self.grouped_by(&keys, aggregates, &from, &filter)
    }

    /// Groups by what a text begins with.
    fn by_prefix(&mut self) -> Query {
        let (from, scope, _) = self.from(0);
        let text = self.of_kind(&scope, Kind::Text).unwrap_or_else(|| format!("cast({} as text)", scope[0].text));
        let otherwise = *self.rng.pick(&["", " else 'other'", " else substr(T, 1, 1)", " else lower(T)", " else T"]);
        let otherwise = otherwise.replace('T', &text);
        let second =
            *self.rng.pick(&["T like 'b%'", "T in ('', 'x')", "substr(T, 1, 1) = 'B'", "T is null", "T > 'x'"]);
        let second = second.replace('T', &text);
        let class = format!("case when {text} like 'a%' then 'A' when {second} then 'B'{otherwise} end");
        let mut keys = vec![Column { text: class, kind: Kind::Text }];
        if self.rng.chance(30) {
            keys.push(self.key(&scope));
        }
        let aggregates = vec![self.aggregate(&scope), self.aggregate(&scope)];
        let filter = self.clause(&scope, 0, 25);
        self.grouped_by(&keys, aggregates, &from, &filter)
    }

    fn period(&mut self, scope: &[Column]) -> Column {
        let unit = *self.rng.pick(&["month", "day", "year", "week", "hour"]);
        let moment = match (self.of_kind(scope, Kind::Timestamp), self.of_kind(scope, Kind::Date)) {
            (Some(moment), _) => moment,
            (None, Some(day)) => format!("cast({day} as timestamp)"),
            (None, None) => "timestamp '2026-02-01 08:30:00'".to_owned(),
        };
        Column { text: format!("date_trunc('{unit}', {moment})"), kind: Kind::Timestamp }
    }

    /// Groups by period.
    fn by_period(&mut self) -> Query {
        let (from, scope, _) = self.from(0);
        let mut keys = vec![self.period(&scope)];
        if self.rng.chance(40) {
            keys.push(self.key(&scope));
        }
        let aggregates = (0..self.rng.between(1, 3)).map(|_| self.aggregate(&scope)).collect();
        let filter = self.clause(&scope, 0, 25);
        let periods = self.grouped_by(&keys, aggregates, &from, &filter);
        if self.rng.chance(60) {
            return periods;
        }
        // And of these the totals.
        let (from, scope) = self.named(&periods);
        let coarse = format!("date_trunc('year', {})", scope[0].text);
        let aggregates = vec![self.aggregate(&scope[1..]), self.aggregate(&scope)];
        self.grouped_by(&[Column { text: coarse, kind: Kind::Timestamp }], aggregates, &from, "")
    }

    /// Each period beside the one before it.
    fn periods_side_by_side(&mut self) -> Query {
        let (from, scope) = self.relation();
        let period = self.period(&scope);
        let aggregate = self.aggregate(&scope);
        let periods = self.grouped_by(&[period], vec![aggregate], &from, "");
        let ((now, ours), (before, theirs)) = (self.named(&periods), self.named(&periods));
        let span = *self.rng.pick(&["1 month", "1 day", "1 year"]);
        let on = format!("{} = {} + interval '{span}'", ours[0].text, theirs[0].text);
        let kind = *self.rng.pick(&["left join", "join"]);
        let items = [ours, theirs[1..].to_vec()].concat();
        self.select("select", &items, &format!("{now} {kind} {before} on {on}"))
    }

    /// Left joins one behind the other, each by a column of any before; some of them to groups.
    fn chain_of_lefts(&mut self) -> Query {
        let (mut from, mut scope) = self.relation();
        for _ in 0..self.rng.between(2, 4) {
            let (item, columns) = match self.rng.chance(35) {
                true => {
                    let kind = self.key(&scope).kind;
                    let totals = self.total_by(kind);
                    self.named(&totals)
                }
                false => self.relation(),
            };
            let on = self.equal(&scope, &columns);
            let more = match self.rng.chance(20) && !self.without.has("residual") {
                true => format!(" and {}", self.predicate(&columns, 0)),
                false => String::new(),
            };
            from = format!("{from} left join {item} on {on}{more}");
            scope.extend(columns);
        }
        let filter = self.clause(&scope, 0, 30);
        let mut items = self.items(&scope, 0);
        items.truncate(4);
        if self.rng.chance(50) {
            return self.select("select", &items, &format!("{from}{filter}"));
        }
        let (one, other) = (self.key(&scope), self.key(&scope));
        let key = match one.kind == other.kind {
            true => Column { text: format!("coalesce({}, {})", one.text, other.text), kind: one.kind },
            false => one,
        };
        let aggregates = vec![self.aggregate(&scope), self.aggregate(&scope)];
        self.grouped_by(&[key], aggregates, &from, &filter)
    }

    /// Rows beside the total of their group, or of all.
    fn shares(&mut self) -> Query {
        let relations = self.relations;
        let name = &self.rng.pick(relations).name;
        let (from, scope) = self.occurrence(name);
        let (below, theirs) = self.occurrence(name);
        let at = scope.iter().position(|column| column.kind == Kind::Int).unwrap_or(0);
        let (key, of_group) = (scope[at].clone(), theirs[at].clone());
        let number = self.number(&theirs);
        let filter = self.clause(&theirs, 0, 25);
        let total = Column { text: format!("sum({number})"), kind: Kind::Decimal };
        let mine = self.number(&scope);
        let is_whole = self.rng.chance(30);
        let totals = match is_whole {
            true => self.select("select", &[total], &format!("{below}{filter}")),
            false => self.grouped_by(&[of_group], vec![total], &below, &filter),
        };
        let (totals, of_total) = self.named(&totals);
        let from = match is_whole {
            true => format!("{from} cross join {totals}"),
            false => format!("{from} join {totals} on {} = {}", key.text, of_total[0].text),
        };
        let share = format!("{mine} / nullif({}, 0)", of_total[usize::from(!is_whole)].text);
        self.select("select", &[key, Column { text: share, kind: Kind::Decimal }], &from)
    }

    /// A relation of this name once more.
    fn occurrence(&mut self, name: &str) -> Item {
        let alias = self.alias();
        let relations = self.relations;
        let relation = relations.iter().find(|relation| relation.name == name).unwrap_or(&relations[0]);
        let columns = relation.columns.iter();
        let columns = columns.map(|(name, t)| Column { text: format!("{alias}.{name}"), kind: super::kind(*t) });
        (format!("{} as {alias}", relation.name), columns.collect())
    }

    /// The same rows twice, and maybe some of them a third time.
    fn twice(&mut self) -> Query {
        let (from, scope) = self.relation();
        let mut items = self.items(&scope, 0);
        items.truncate(2);
        let branch = self.select("select", &items, &from);
        let (first, second) = (self.predicate(&scope, 0), self.predicate(&scope, 0));
        let mut text = format!("{} where {first} union all {} where {first}", branch.text, branch.text);
        if self.rng.chance(60) {
            let all = if self.rng.chance(60) { "union all" } else { "union" };
            text = format!("{text} {all} {} where {second}", branch.text);
        }
        let both = Query { text, columns: branch.columns, single: false };
        if self.rng.chance(50) {
            return both;
        }
        let (from, scope) = self.named(&both);
        let aggregate = self.aggregate(&scope);
        self.grouped_by(&scope[..1], vec![aggregate], &from, "")
    }

    /// How many groups there are of each size.
    fn how_often_how_many(&mut self) -> Query {
        let (from, scope) = self.relation();
        let key = self.key(&scope);
        let size = match self.rng.below(3) {
            0 => format!("count(distinct {})", self.key(&scope).text),
            1 => format!("max({})", self.expression_text(&scope, Kind::Int, 0)),
            _ => "count(*)".to_owned(),
        };
        let sizes = self.grouped_by(&[key], vec![Column { text: size, kind: Kind::Int }], &from, "");
        let (from, scope) = self.named(&sizes);
        let aggregates = vec![
            Column { text: "count(*)".to_owned(), kind: Kind::Int },
            Column { text: format!("min({})", scope[0].text), kind: scope[0].kind },
        ];
        self.grouped_by(&scope[1..], aggregates, &from, "")
    }

    /// A relation with itself.
    fn with_itself(&mut self) -> Query {
        let relations = self.relations;
        let name = &self.rng.pick(relations).name;
        let ((left, ours), (right, theirs)) = (self.occurrence(name), self.occurrence(name));
        let on = self.equal(&ours, &theirs);
        let more = match self.rng.below(3) {
            0 if !self.without.has("residual") => {
                let at = self.rng.below(ours.len());
                let operator = *self.rng.pick(&["<>", "<", "is distinct from"]);
                format!(" and {} {operator} {}", ours[at].text, theirs[at].text)
            }
            _ => String::new(),
        };
        let kind = *self.rng.pick(&["join", "left join", "join"]);
        let from = format!("{left} {kind} {right} on {on}{more}");
        let scope = [ours, theirs].concat();
        let filter = self.clause(&scope, 1, 25);
        if self.rng.chance(50) {
            let mut items = self.items(&scope, 0);
            items.truncate(3);
            return self.select("select", &items, &format!("{from}{filter}"));
        }
        let key = self.key(&scope);
        let aggregate = self.aggregate(&scope);
        self.grouped_by(&[key], vec![aggregate], &from, &filter)
    }

    /// The rows that are the last ones of their group by some column, all that are equally so.
    fn newest_of_each(&mut self) -> Query {
        let relations = self.relations;
        let name = &self.rng.pick(relations).name;
        let ((left, ours), (right, theirs)) = (self.occurrence(name), self.occurrence(name));
        let (key, by) = (self.rng.below(ours.len()), self.rng.below(ours.len()));
        let extreme = *self.rng.pick(&["max", "min"]);
        let newest = Column { text: format!("{extreme}({})", theirs[by].text), kind: theirs[by].kind };
        let groups = self.grouped_by(&[theirs[key].clone()], vec![newest], &right, "");
        let (groups, of_group) = self.named(&groups);
        let kind = *self.rng.pick(&["join", "left join"]);
        let on = format!("{} = {} and {} = {}", ours[key].text, of_group[0].text, ours[by].text, of_group[1].text);
        let scope = [ours, of_group].concat();
        let mut items = self.items(&scope, 0);
        items.truncate(4);
        self.select("select", &items, &format!("{left} {kind} {groups} on {on}"))
    }
}
