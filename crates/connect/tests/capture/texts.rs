//! Laws of reading statements: any bytes are read; comments and white space between words, and the case of keywords, change
//! nothing.

use connect::source::mysql::testing::{understood, understood_event};
use libtest_mimic::{Failed, Trial};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// Statements by their words; names are in quotes, so that everything else may be written in any case.
const STATEMENTS: [&str; 16] = [
    "TRUNCATE TABLE `d` . `t`",
    "DROP TABLE IF EXISTS `a` , `b`",
    "DROP DATABASE `d`",
    "RENAME TABLE `a` TO `b` , `c` TO `a`",
    "ALTER TABLE `t` ADD INDEX `i` ( `a` ) , COMMENT = 'x, y'",
    "ALTER TABLE `t` DROP COLUMN `a`",
    "ALTER TABLE `t` EXCHANGE PARTITION `p` WITH TABLE `d` . `x`",
    "ALTER TABLE `t` ADD CONSTRAINT `c` CHECK ( `a` > 'b' )",
    "ALTER TABLE `t` RENAME TO `u`",
    "CREATE TABLE IF NOT EXISTS `t` ( `a` INT )",
    "CREATE OR REPLACE TABLE `t` LIKE `u`",
    "INSERT INTO `d` . `t` SELECT 1",
    "SET STATEMENT `a` = 1 FOR UPDATE `t` SET `a` = 1",
    "ROLLBACK TO `s`",
    "XA COMMIT 'a' , 'b' , 7",
    "GRANT SELECT ON `t` TO 'x'",
];
const BETWEEN: [&str; 10] =
    [" ", "\n", "\t", "/**/", "/* DROP TABLE x */", " -- x 'y\n", "--\n", "#`\n", "/*!99999 , `z` */", "/*!*/"];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("texts/what_stands_between_words_changes_nothing", between),
        Trial::test("texts/any_bytes_are_read", any_bytes),
    ]
}

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn between() -> Result<(), Failed> {
    let wanted = (0..STATEMENTS.len(), prop::collection::vec((0..BETWEEN.len(), any::<u32>()), 40));
    let run = |(statement, choices): (usize, Vec<(usize, u32)>)| {
        let plain = STATEMENTS[statement];
        let mut text = String::new();
        for (word, &(separator, case)) in plain.split(' ').zip(&choices) {
            let is_quoted = word.starts_with(['`', '\'']) || word.ends_with('\'');
            let letter = |(i, c): (usize, char)| match case >> (i % 32) & 1 {
                1 if !is_quoted => c.to_ascii_lowercase(),
                _ => c,
            };
            text.extend(word.chars().enumerate().map(letter));
            text += if is_quoted && word.starts_with('\'') && !word.ends_with('\'') { " " } else { BETWEEN[separator] };
        }
        for (mariadb, version) in [(false, 80_404), (true, 101_105)] {
            let (read, wanted) = (understood(&text, mariadb, version, ""), understood(plain, mariadb, version, ""));
            if read != wanted || wanted == "unread" {
                return Err(TestCaseError::fail(format!("{text:?}: {read}, not {wanted}")));
            }
        }
        Ok(())
    };
    runner(3_000).run(&wanted, run).map_err(|e| e.to_string().into())
}

fn any_bytes() -> Result<(), Failed> {
    let piece = prop_oneof![
        (0..STATEMENTS.len(), 0..80_usize, 0..80_usize).prop_map(|(i, from, to)| {
            let bytes = STATEMENTS[i].as_bytes();
            bytes[from.min(bytes.len())..to.max(from).min(bytes.len())].to_vec()
        }),
        (0..BETWEEN.len()).prop_map(|i| BETWEEN[i].as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
        prop::sample::select(vec![
            &b"\\"[..],
            b"'",
            b"\"",
            b"`",
            b"/*",
            b"*/",
            b"/*!",
            b"/*M!",
            b"--",
            b"(",
            b";",
            b"\0"
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    let text = prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    let variables = prop::collection::vec(prop_oneof![0_u8..20, any::<u8>()], 0..40);
    let run = |(text, variables, modes): (Vec<u8>, Vec<u8>, u8)| {
        let mut body = vec![0; 8];
        body.push(2);
        body.extend_from_slice(&[0, 0, variables.len().to_le_bytes()[0], 0]);
        body.extend_from_slice(&variables);
        body.extend_from_slice(b"db\0");
        body.extend_from_slice(&text);
        understood_event(&body, modes & 1 == 1, 80_404).map_err(TestCaseError::fail)?;
        // A body that ends anywhere is read, or said to be damaged.
        understood_event(&body[..body.len() * usize::from(modes) / 255], false, 80_404).ok();
        let words = if modes & 2 == 2 { "ansi plain" } else { "" };
        understood(&String::from_utf8_lossy(&text), modes & 1 == 1, 80_404, words);
        Ok(())
    };
    runner(5_000).run(&(text, variables, any::<u8>()), run).map_err(|e| e.to_string().into())
}
