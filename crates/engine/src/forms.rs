//! What the engine writes into records and facts, held to the store's format: who changes the one has to raise the other.

use crate::{input, load, outbox, states};

/// All that an older Tidemill would have to know, a line each.
fn forms() -> Vec<String> {
    let mut forms = vec![format!("notes {}", input::KINDS.join(" "))];
    forms.extend(outbox::forms());
    forms.push(format!("loads up to {}", load::LAST));
    forms
}

/// Where this fails, raise `store::FORMAT`, say in its table what has come, and write down here what there is. What states mean
/// is not among it: states of another meaning are built anew, whichever Tidemill finds them.
#[test]
fn forms_are_those_of_the_format() {
    let known = [
        "notes park reload altered reject chain swept counted begun beside emptied replaced outbox",
        "told up to 8, verdicts up to 6, flags up to 3",
        "an outbox has 7 numbers, and 20 of how far it is",
        "loads up to 7",
    ];
    assert_eq!((store::FORMAT, forms()), (3, known.map(str::to_owned).to_vec()));
    assert!(!states::MEANING.is_empty());
}
