//! Syncs: columns, keys and types of what they follow, and what their destinations want, without reaching for anybody.

use std::collections::BTreeMap;

use project::Diagnostic;

use super::Unchecked;
use crate::delivery::check;
use crate::known::Known;
use crate::setup::Setup;
use crate::warehouse::Contents;

/// What is wrong with syncs over what can be kept of the project's models.
pub(super) fn findings(
    setup: &Setup,
    known: &Known,
    contents: &Contents,
    unchecked: &mut Vec<Unchecked>,
) -> Vec<Diagnostic> {
    // Nobody is asked who delivers already: of two to one target it is the first.
    check::findings(setup, known, contents, &BTreeMap::new(), |sync, reason| {
        unchecked.push(Unchecked { what: format!("sync {}", sync.name()), reason });
    })
}
