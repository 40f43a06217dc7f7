//! What a capture has written to a file, reckoned up: messages come at least once, so there is no telling how many lines there are.
//!
//! ```text
//! tally PATH                keys (`data.id`) that are there, those that are missing between, lines that are none, bytes behind the last
//!                           line; and how many keys have each `data.word` in their last message. Waits for the expected answer
//! tally PATH least N        whether N keys are there
//! ```

use std::collections::BTreeMap;
use std::path::Path;

/// See the module's story.
pub(crate) fn tally(path: &Path, arguments: &[String]) -> Result<String, String> {
    // Who writes it may not have begun yet.
    let text = std::fs::read(path).unwrap_or_default();
    let mut last: BTreeMap<i64, String> = BTreeMap::new();
    let mut broken = 0;
    // What is behind the last end of a line is being written, or was left so.
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let rest = lines.pop().unwrap_or_default();
    for line in lines {
        let json: Option<serde_json::Value> = serde_json::from_slice(line).ok();
        let message = json.as_ref().map(|json| &json["data"]);
        match message.and_then(|data| Some((data["id"].as_i64()?, data["word"].as_str()?))) {
            Some((id, word)) => drop(last.insert(id, word.to_owned())),
            None => broken += 1,
        }
    }
    if let [least, many] = arguments
        && least == "least"
    {
        let many: usize = many.parse().map_err(crate::text_of)?;
        return Ok((last.len() >= many).to_string());
    }
    let ends = last.first_key_value().zip(last.last_key_value());
    let between = ends.map_or(0, |((first, _), (last, _))| last - first + 1);
    let missing = usize::try_from(between).map_err(crate::text_of)? - last.len();
    let mut words: BTreeMap<&str, usize> = BTreeMap::new();
    last.values().for_each(|word| *words.entry(word).or_default() += 1);
    let words: Vec<String> = words.into_iter().map(|(word, count)| format!("{word} {count}")).collect();
    Ok(format!("keys {}, missing {missing}, broken {broken}, rest {}\n{}", last.len(), rest.len(), words.join("\n")))
}
