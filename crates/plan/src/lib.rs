//! SQL and schemas in, a [`Flow`] out, or a refusal with a hint.
//!
//! The way of a model's text, one module per step:
//!
//! 1. [`sql`]: parsed, unnamed columns named as PostgreSQL does, names looked up, views inlined, LATERAL of one row or of the rows
//!    of a value put beside the row ([`lateral`]), types agreed on.
//! 2. `check`: what gives another answer for the same row is refused.
//! 3. `parts`, `existence`, `ties`: FULL JOIN, groupings by several sets, INTERSECT and EXCEPT become unions, EXISTS as a value a count, and every order that decides which rows are
//!    kept is made total. The plan that comes out is [`Planned::logical`]: what a build, an ad-hoc oracle and a
//!    reconciliation run. All of them and the flow start from this one plan.
//! 4. `optimise`: DataFusion's rules that help upkeep: subqueries become joins, filters and projections move down.
//! 5. `lower`: to operators over plain columns, with proven keys; equal parts become one node.
//!
//! Where equality or order of intervals and arrays decides, their keys stand in their place ([`alike`]), as floats of one zero
//! do ([`zero`]).
//!
//! What of SQL means something else in PostgreSQL than in DataFusion is in [`postgres`].
//!
//! Here also live the functions of SQL ([`functions()`]) and how SQL is read ([`settings`]), for all crates alike.

mod accepted;
mod agreement;
mod alike;
mod analysis;
mod catalog;
mod check;
mod copies;
mod decided;
mod definition;
pub mod dependencies;
pub mod dialect;
mod exact;
mod existence;
mod explain;
mod fallible;
pub mod filtered;
mod float_function;
pub mod float_sum;
pub mod flow;
mod foreign;
mod functions;
mod identity;
mod inner;
mod instead;
mod lateral;
mod lower;
mod membership;
mod mended;
mod mistakes;
mod named_documents;
mod naming;
mod one_row;
mod optimise;
mod ordered_set;
mod outer_rows;
mod parts;
mod path_keys;
mod place;
mod postgres;
mod ranks;
mod refusal;
mod rewrites;
mod rounding;
pub mod settings;
pub mod shape;
pub mod sql;
mod subquery_values;
mod suspicions;
mod ties;
mod to_char;
mod total_order;
mod unique;
mod unplanned;
mod unreal;
mod variance;
mod wording;
mod zero;

use datafusion_expr::LogicalPlan;
use relation::Schema;

pub use accepted::{EXTENSIONS, SYNTAX, accepted_names, is_accepted, of_postgresql, refused_function};
pub use agreement::agreed;
pub use analysis::{rules_before_types, rules_of_meaning, rules_of_subqueries};
pub use catalog::{Catalog, TableInfo};
pub use definition::parse_table_definition;
pub use exact::{IntervalSum, average};
pub use explain::explained;
pub use fallible::{may_fail, may_fail_over};
pub use flow::{Aggregate, AggregateFunction, Flow, JoinKind, Node, NodeId, Op, TableName, column_name};
pub use foreign::{
    LACKING, MYSQL_ALONE, MYSQL_FUNCTIONS, MYSQL_TYPES, NOT_KEPT, instead_of_call, instead_of_function,
    instead_of_lacking, instead_of_syntax, instead_of_text,
};
pub use functions::{Functions, functions};
pub use identity::FLOW_VERSION;
pub use instead::{instead_of_types, no_such};
pub use mended::mended;
pub use mistakes::further_mistakes;
pub use naming::{MARK, name_further_parts};
pub use one_row::SEVERAL_ROWS;
pub use place::found as place_of;
pub use postgres::calendar::timestamp_of;
pub use postgres::forms::formed_alone;
pub use postgres::refused::refused_name;
pub use postgres::syntax::{call, function_call, literal_arrays, meant};
pub use postgres::texts::{delimited, quoted_name};
pub use postgres::types::{in_sql, name as sql_type};
pub use postgres::whole_rows::whole_rows;
pub use refusal::{COERCION, IN_A_VIEW, NO_EXCLUDE, Refusal, locate, of_types, place_told};
pub use rewrites::rewrites;
pub use sql::{one_select, unknown_relations};
pub use suspicions::suspicions;
pub use unplanned::refused_clause;
pub use wording::{Reworded, reworded, shows_insides};

/// A model that can be kept.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The query: analysed, orders made total, not optimised. Stored tables are scans named `schema.table`.
    pub logical: LogicalPlan,
    /// The same as operators that can be kept true.
    pub flow: Flow,
    /// The model's columns by the names that the SQL gives them, in our types; with a key where one is proven. A model
    /// of a single row has none, as a bag has none.
    pub schema: Schema,
}

/// Plans a model.
pub fn plan_model(sql: &str, catalog: &dyn Catalog) -> Result<Planned, Refusal> {
    let analysed = sql::analysed(sql, catalog)?;
    check::deterministic(&analysed, sql)?;
    check::two_valued(&analysed, sql)?;
    distinct_names(&analysed, sql)?;
    let logical = ties::broken(existence::counted(parts::united(analysed)?)?)?;
    let mut flow = lower::lower(&optimise::optimised(logical.clone())?, sql)?;
    let output = &mut flow.nodes[flow.output.0].schema;
    for (column, field) in output.columns.iter_mut().zip(logical.schema().fields()) {
        column.name.clone_from(field.name());
    }
    let schema = output.clone();
    Ok(Planned { logical, flow, schema })
}

fn distinct_names(plan: &LogicalPlan, sql: &str) -> Result<(), Refusal> {
    let mut seen = std::collections::BTreeSet::new();
    let mut names = plan.schema().fields().iter().map(|field| field.name().split(MARK).next().unwrap_or_default());
    match names.find(|name| !seen.insert(*name)) {
        None => Ok(()),
        Some(twice) => Err(Refusal::twice(twice, sql)),
    }
}
