//! Which column of a relation goes where.

use std::collections::BTreeSet;

use relation::{DataType, Layout, Schema, Value};

use super::kind::{At, Problem};
use super::portion::Item;

/// A column of the relation and the target's name for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The target's name.
    pub target: String,
    /// The relation's.
    pub column: String,
    /// Its position in the relation's rows.
    pub at: usize,
    pub data_type: DataType,
    pub nullable: bool,
}

/// What is delivered of a relation, under which names, and what identifies a row: the relation's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    fields: Vec<Field>,
    key: Vec<usize>,
    layout: Layout,
    key_layout: Layout,
}

impl Mapping {
    /// Of a relation of this schema; `matched` and `fields` are pairs of the target's name and the relation's column, as a sync
    /// writes them: `match` and `fields`. Without `matched` the key's columns go under their own names, without `fields` all
    /// others do. Errors: all problems.
    pub fn of(
        schema: &Schema,
        matched: &[(String, String)],
        fields: Option<&[(String, String)]>,
    ) -> Result<Self, Vec<Problem>> {
        let mut found = Vec::new();
        if schema.key.is_empty() {
            let problem = Problem::new(At::Sync, "what is delivered has no key");
            return Err(vec![
                problem
                    .detail("Rows are delivered by what identifies them.")
                    .hint("Group the model by what identifies its rows, or keep the columns of its table's key in it."),
            ]);
        }
        let own: Vec<(String, String)> = schema.key.iter().map(|&at| name_twice(schema, at)).collect();
        let matched = if matched.is_empty() { &own } else { matched };
        let mut made = Vec::new();
        for (target, column) in matched {
            match field(schema, target, column) {
                Some(field) if schema.key.contains(&field.at) => made.push(field),
                Some(_) => found.push(no_key(schema, target, column)),
                None => found.push(no_column(schema, At::Match(target.clone()), column)),
            }
        }
        let lacks = |at: &&usize| !made.iter().any(|field: &Field| field.at == **at);
        let lacking: Vec<&str> = schema.key.iter().filter(lacks).map(|&at| schema.columns[at].name.as_str()).collect();
        if let (false, true) = (lacking.is_empty(), found.is_empty()) {
            let problem = Problem::new(At::Sync, "`match` does not name all columns that identify a row");
            found.push(problem.detail(format!("It lacks: {}.", lacking.join(", "))));
        }
        let keys: BTreeSet<usize> = made.iter().map(|field| field.at).collect();
        let rest: Vec<(String, String)> =
            (0..schema.columns.len()).filter(|at| !keys.contains(at)).map(|at| name_twice(schema, at)).collect();
        for (target, column) in fields.unwrap_or(&rest) {
            match field(schema, target, column) {
                // Named as what it matches by as well.
                Some(field) if made.contains(&field) => {}
                Some(field) => made.push(field),
                None => found.push(no_column(schema, At::Field(target.clone()), column)),
            }
        }
        let mut names = BTreeSet::new();
        for field in &made {
            if !names.insert(field.target.as_str()) {
                let message = format!("two columns go to `{}`", field.target);
                found.push(Problem::new(At::Field(field.target.clone()), message));
            }
        }
        if !found.is_empty() {
            return Err(found);
        }
        let place = |at: &usize| made.iter().position(|field| field.at == *at).unwrap_or_default();
        let key: Vec<usize> = schema.key.iter().map(place).collect();
        let types = schema.key.iter().map(|&at| schema.columns[at].data_type).collect();
        Ok(Self { key, key_layout: Layout::new(types), layout: Layout::new(schema.types()), fields: made })
    }

    /// What is delivered, in the order in which the target gets it: those of the key are among them.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Positions in [`Mapping::fields`] of what identifies a row, in the order of the relation's key.
    pub fn key(&self) -> &[usize] {
        &self.key
    }

    /// The fields of the key, in its order.
    pub fn key_fields(&self) -> impl Iterator<Item = &Field> {
        self.key.iter().map(|&at| &self.fields[at])
    }

    /// Of rows that are to be there: the relation's own.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Of keys that are not to be there: the columns of the relation's key, in its order.
    pub fn key_layout(&self) -> &Layout {
        &self.key_layout
    }

    /// Whether it is of relations with this schema, whatever else has become of them.
    pub fn is_of(&self, schema: &Schema) -> bool {
        let is_there = |field: &Field| {
            let column = schema.columns.get(field.at);
            column.is_some_and(|column| column.name == field.column && column.data_type == field.data_type)
        };
        let key: Vec<usize> = self.key_fields().map(|field| field.at).collect();
        self.layout.types() == schema.types() && self.fields.iter().all(is_there) && key == schema.key
    }

    /// The relation's columns that are delivered.
    pub fn columns(&self) -> Vec<String> {
        self.fields.iter().map(|field| field.column.clone()).collect()
    }

    /// Where the value of key column `i` is in an item: a layout, a row and a position.
    pub(crate) fn key_place<'a>(&'a self, item: Item<'a>, i: usize) -> (&'a Layout, &'a [u8], usize) {
        match item {
            Item::Upsert(row) => (&self.layout, row, self.fields[self.key[i]].at),
            Item::Delete(row) => (&self.key_layout, row, i),
        }
    }

    /// The name of the first key column that is NULL in an item.
    pub(crate) fn null_key(&self, item: Item<'_>) -> Option<&str> {
        let is_null = |i: &usize| {
            let (layout, row, at) = self.key_place(item, *i);
            layout.is_null(row, at)
        };
        (0..self.key.len()).find(is_null).map(|i| self.fields[self.key[i]].column.as_str())
    }

    /// The values of an item's key, for messages and cases.
    pub fn key_values(&self, item: Item<'_>) -> Vec<Value> {
        let value = |i: usize| {
            let (layout, row, at) = self.key_place(item, i);
            layout.value(row, at)
        };
        (0..self.key.len()).map(value).collect()
    }
}

fn name_twice(schema: &Schema, at: usize) -> (String, String) {
    let name = &schema.columns[at].name;
    (name.clone(), name.clone())
}

fn field(schema: &Schema, target: &str, column: &str) -> Option<Field> {
    let at = schema.position(column)?;
    let found = &schema.columns[at];
    Some(Field {
        target: target.to_owned(),
        column: column.to_owned(),
        at,
        data_type: found.data_type,
        nullable: found.nullable,
    })
}

fn no_column(schema: &Schema, at: At, column: &str) -> Problem {
    let names: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
    Problem::new(at, format!("there is no column `{column}`")).hint(format!("There are: {}.", names.join(", ")))
}

fn no_key(schema: &Schema, target: &str, column: &str) -> Problem {
    let key: Vec<&str> = schema.key.iter().map(|&at| schema.columns[at].name.as_str()).collect();
    Problem::new(At::Match(target.to_owned()), format!("`{column}` does not identify a row"))
        .detail(format!("Rows are told apart by: {}.", key.join(", ")))
        .hint(format!("Match by these, and deliver `{column}` as one of `fields`."))
}

#[cfg(test)]
mod tests {
    use relation::Column;

    use super::*;

    fn schema() -> Schema {
        let column = |name: &str, data_type| Column::new(name, data_type);
        let columns = vec![
            column("name", DataType::Text),
            column("shop", DataType::Int32),
            column("id", DataType::Int64),
            column("total", DataType::Decimal { precision: 10, scale: 2 }),
        ];
        Schema::new(columns, vec![2, 1])
    }

    fn pairs(texts: &[(&str, &str)]) -> Vec<(String, String)> {
        texts.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    fn names(mapping: &Mapping) -> Vec<String> {
        mapping.fields().iter().map(|field| format!("{}<{}", field.target, field.column)).collect()
    }

    #[test]
    fn without_words_all_columns_go_under_their_own_names() {
        let mapping = Mapping::of(&schema(), &[], None).expect("a mapping");
        assert_eq!(names(&mapping), ["id<id", "shop<shop", "name<name", "total<total"]);
        assert_eq!(mapping.key(), [0, 1]);
        let matched = pairs(&[("Shop", "shop"), ("Id", "id")]);
        let mapping =
            Mapping::of(&schema(), &matched, Some(&pairs(&[("N", "name"), ("Id", "id")]))).expect("a mapping");
        assert_eq!(names(&mapping), ["Shop<shop", "Id<id", "N<name"]);
        // In the order of the relation's key.
        assert_eq!(mapping.key(), [1, 0]);
    }

    #[test]
    fn every_mistake_is_told() {
        let told = |matched: &[(&str, &str)], fields: Option<&[(&str, &str)]>| -> Vec<String> {
            let fields = fields.map(pairs);
            let problems = Mapping::of(&schema(), &pairs(matched), fields.as_deref()).expect_err("problems");
            problems.into_iter().map(|problem| format!("{:?}: {}", problem.at, problem.message)).collect()
        };
        assert_eq!(told(&[("id", "id")], None), ["Sync: `match` does not name all columns that identify a row"]);
        assert_eq!(
            told(&[("id", "idd"), ("n", "name")], Some(&[("a", "nam"), ("b", "total"), ("b", "name")])),
            [
                "Match(\"id\"): there is no column `idd`",
                "Match(\"n\"): `name` does not identify a row",
                "Field(\"a\"): there is no column `nam`",
                "Field(\"b\"): two columns go to `b`"
            ]
        );
        let bag = Schema { key: Vec::new(), ..schema() };
        let problems = Mapping::of(&bag, &[], None).expect_err("problems");
        assert_eq!(problems[0].message, "what is delivered has no key");
    }

    #[test]
    fn it_is_of_relations_with_the_same_columns_and_key() {
        let mapping = Mapping::of(&schema(), &[], Some(&pairs(&[("N", "name")]))).expect("a mapping");
        assert_eq!(mapping.columns(), ["id", "shop", "name"]);
        assert!(mapping.is_of(&schema()));
        let mut renamed = schema();
        renamed.columns[3].name = "sum".to_owned();
        assert!(mapping.is_of(&renamed), "it is not delivered");
        renamed.columns[0].name = "title".to_owned();
        assert!(!mapping.is_of(&renamed));
        assert!(!mapping.is_of(&Schema { key: vec![1, 2], ..schema() }));
        let mut longer = schema();
        longer.columns.push(Column::new("more", DataType::Int16));
        assert!(!mapping.is_of(&longer), "its rows are others");
    }
}
