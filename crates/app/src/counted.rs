//! Numbers with the nouns that they are of, as people read them.

use std::fmt::Display;

/// `1 model`, `2 models`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    match number == N::from(1_u8) {
        true => format!("1 {noun}"),
        false => format!("{number} {noun}s"),
    }
}

/// The word that goes with a number: `1 model waits`, `2 models wait`.
pub(crate) fn of_number<'a, N: PartialEq + From<u8>>(number: N, one: &'a str, more: &'a str) -> &'a str {
    if number == N::from(1_u8) { one } else { more }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_no_things() {
        assert_eq!([0, 1, 2].map(|number| counted(number, "model")), ["0 models", "1 model", "2 models"]);
        assert_eq!([0_u64, 1, 2].map(|number| of_number(number, "waits", "wait")), ["wait", "waits", "wait"]);
    }
}
