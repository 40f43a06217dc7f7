//! The functions of SQL, one registry for everybody: models, ad-hoc queries, the engine's expressions, the oracle.
//!
//! They are DataFusion's, with these exceptions: `sum` and `avg` over floats are ours ([`crate::exact`]), because
//! DataFusion's depend on the order of the rows and cannot take a row back, and so is `avg` over decimals, which is rounded
//! and not cut; variances of numerics are numerics ([`crate::variance`]), aggregates of ordered sets are exact
//! ([`crate::ordered_set`]); `to_char` ([`crate::to_char`]) has PostgreSQL's templates, and what means something else in PostgreSQL is in
//! [`crate::postgres`]. Ranks are bigint ([`crate::ranks`]).

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion_expr::planner::ExprPlanner;
use datafusion_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};

use crate::{exact, ordered_set, postgres, ranks, settings, to_char, variance};

/// All functions, by name and by alias, in lower case.
#[derive(Debug)]
pub struct Functions {
    pub scalar: BTreeMap<String, Arc<ScalarUDF>>,
    pub higher_order: BTreeMap<String, Arc<HigherOrderUDF>>,
    pub aggregate: BTreeMap<String, Arc<AggregateUDF>>,
    pub window: BTreeMap<String, Arc<WindowUDF>>,
    /// What turns SQL syntax (`extract`, `position`, `count(*)`, …) into calls of them.
    pub planners: Vec<Arc<dyn ExprPlanner>>,
}

/// The registry.
pub fn functions() -> &'static Functions {
    static FUNCTIONS: LazyLock<Functions> = LazyLock::new(Functions::new);
    &FUNCTIONS
}

impl Functions {
    fn new() -> Self {
        let scalar = datafusion_functions::all_default_functions()
            .into_iter()
            .chain(datafusion_functions_nested::all_default_nested_functions());
        // The day and the time of it are of the zone that is set.
        let config = settings::config();
        let scalar = scalar.map(|function| match function.inner().with_updated_config(&config) {
            Some(of_zone) => Arc::new(of_zone),
            None => function,
        });
        // Last, so that it takes the name.
        let scalar = scalar.chain([to_char::function(), postgres::moment::function()]).chain(postgres::functions());
        let higher_order = datafusion_functions_nested::all_default_higher_order_functions();
        let aggregate =
            datafusion_functions_aggregate::all_default_aggregate_functions().into_iter().map(exact::replace);
        let aggregate = aggregate.map(variance::replace).chain(ordered_set::functions());
        let window = datafusion_functions_window::all_default_window_functions().into_iter().map(ranks::replace);
        Self {
            scalar: by_name(scalar, |f| (f.name().to_owned(), f.aliases().to_vec())),
            higher_order: by_name(higher_order, |f| (f.name().to_owned(), f.aliases().to_vec())),
            aggregate: by_name(aggregate, |f| (f.name().to_owned(), f.aliases().to_vec())),
            window: by_name(window, |f| (f.name().to_owned(), f.aliases().to_vec())),
            planners: planners(),
        }
    }
}

fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![
        Arc::new(postgres::operators::Operators),
        Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
        Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
        Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
        Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
        Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
        Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
        Arc::new(datafusion_functions_window::planner::WindowFunctionPlanner),
    ]
}

fn by_name<F>(
    functions: impl IntoIterator<Item = Arc<F>>,
    names: fn(&F) -> (String, Vec<String>),
) -> BTreeMap<String, Arc<F>> {
    let mut out = BTreeMap::new();
    for function in functions {
        let (name, aliases) = names(&function);
        for alias in aliases {
            out.insert(alias.to_lowercase(), Arc::clone(&function));
        }
        out.insert(name.to_lowercase(), function);
    }
    out
}
