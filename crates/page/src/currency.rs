//! What currencies look like: their signs, and how many digits their amounts have.

/// Codes of ISO 4217 whose amounts have no digits behind the point, three, or four; those of all others have two.
const WITHOUT: [&str; 17] = [
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
    "XPF",
];
const THREE: [&str; 7] = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
const FOUR: [&str; 2] = ["CLF", "UYW"];
/// Digits behind the point of an amount of this currency: its minor unit in ISO 4217.
pub fn digits(code: &str) -> usize {
    match code {
        code if WITHOUT.contains(&code) => 0,
        code if THREE.contains(&code) => 3,
        code if FOUR.contains(&code) => 4,
        _ => 2,
    }
}

/// What stands before an amount.
pub fn sign(code: &str) -> String {
    match code {
        "" => String::new(),
        "CNY" | "JPY" => "¥".to_owned(),
        "EUR" => "€".to_owned(),
        "GBP" => "£".to_owned(),
        "INR" => "₹".to_owned(),
        "KRW" => "₩".to_owned(),
        "USD" => "$".to_owned(),
        code => format!("{code}\u{a0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        assert_eq!(["EUR", "CHF", "JPY", "XPF", "KWD", "CLF"].map(digits), [2, 2, 0, 0, 3, 4]);
    }
}
