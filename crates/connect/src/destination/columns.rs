//! Columns of a table over there, held to the fields that a sync delivers: the same for all databases. Which types there are, what
//! fits, and in which words it is mended is each database's own.

use relation::DataType;

use super::kind::At;
use super::{Field, Problem, Target};

/// What every database tells of a column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct About {
    pub(super) name: String,
    /// Its type as people write it, with its lengths.
    pub(super) shown: String,
    /// Rows cannot do without a value of it.
    pub(super) is_needed: bool,
    /// The server computes its values.
    pub(super) is_computed: bool,
}

/// A table, as its database describes it.
pub(super) trait Table {
    type Column;

    /// Its name with what it is in, quoted: as messages and statements name it.
    fn full_name(&self) -> String;

    fn columns(&self) -> &[Self::Column];

    fn about(column: &Self::Column) -> &About;

    fn quoted(name: &str) -> String;

    /// Whether two names are of one column.
    fn is_same(one: &str, other: &str) -> bool;

    /// Whether a column holds values of a type as they are. Errors: what would become of them, as a sentence.
    fn fits(data_type: DataType, column: &Self::Column) -> Result<(), String>;

    /// The type of a column that is made for values of a type.
    fn made(data_type: DataType) -> String;

    /// How a quoted column becomes one of another type, behind `ALTER TABLE …`.
    fn change(column: &str, made: &str) -> String;

    fn column(&self, name: &str) -> Option<&Self::Column> {
        self.columns().iter().find(|column| Self::is_same(&Self::about(column).name, name))
    }

    /// Fields for which it has no column.
    fn missing<'t>(&self, target: &'t Target) -> Vec<&'t Field> {
        target.mapping.fields().iter().filter(|field| self.column(&field.target).is_none()).collect()
    }

    /// The statement that adds a field's column.
    fn addition(&self, field: &Field) -> String {
        let made = Self::made(field.data_type);
        format!("ALTER TABLE {} ADD COLUMN {} {made}", self.full_name(), Self::quoted(&field.target))
    }

    /// What keeps the values of fields out: columns that lack, that are computed, that would not hold them, and those that would get none.
    fn column_problems(&self, target: &Target) -> Vec<Problem> {
        let fields = target.mapping.fields();
        let mut found: Vec<Problem> = fields.iter().filter_map(|field| self.field_problem(target, field)).collect();
        let is_delivered = |name: &str| fields.iter().any(|field| Self::is_same(&field.target, name));
        let needed = self.columns().iter().map(Self::about).filter(|column| column.is_needed);
        found.extend(needed.filter(|column| !is_delivered(&column.name)).map(|column| {
            let (name, column) = (self.full_name(), Self::quoted(&column.name));
            Problem::new(At::Sync, format!("column {column} of {name} needs a value, and gets none"))
                .hint("Deliver it by `fields`, or give it a default.")
        }));
        found
    }

    fn field_problem(&self, target: &Target, field: &Field) -> Option<Problem> {
        let name = self.full_name();
        let at = match target.mapping.key_fields().any(|key| key == field) {
            true => At::Match(field.target.clone()),
            false => At::Field(field.target.clone()),
        };
        let Some(column) = self.column(&field.target) else {
            let problem = Problem::new(at, format!("{name} has no column {}", Self::quoted(&field.target)));
            return Some(problem.hint(format!("{}; or set `create: true`", self.addition(field))));
        };
        let about = Self::about(column);
        let shown = Self::quoted(&about.name);
        if about.is_computed {
            let message = format!("column {shown} of {name} is computed by the server");
            return Some(Problem::new(at, message).hint("Leave it out of `fields`."));
        }
        let detail = Self::fits(field.data_type, column).err()?;
        let message = format!(
            "column {shown} of {name} is of type {}, and `{}` of type {}",
            about.shown, field.column, field.data_type
        );
        let change = Self::change(&shown, &Self::made(field.data_type));
        let mut hint = format!("Cast it in the model, or change the column: ALTER TABLE {name} {change}");
        if detail.contains("rounded") {
            hint.push_str(&format!("; what came rounded is sent again by `tidemill sync {} --refill`", target.sync));
        }
        Some(Problem::new(at, message).detail(detail).hint(hint))
    }

    /// Leaves out what is mended where columns that lack may be made.
    fn but_for_made(&self, target: &Target, problems: &mut Vec<Problem>) {
        let names: Vec<&str> = self.missing(target).iter().map(|field| field.target.as_str()).collect();
        problems.retain(|problem| match &problem.at {
            At::Field(name) | At::Match(name) => !names.contains(&name.as_str()),
            At::Sync | At::To(_) => true,
        });
    }
}
