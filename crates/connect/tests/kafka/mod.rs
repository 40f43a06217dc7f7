//! Cases of Kafka: messages in, rows out; lanes of tables over topics; positions.
//!
//! ```text
//! table IDENTIFIER [DATABASE]     a table of a topic, as it is declared: lines of the body are `meta KEY JSON` or `column NAME TYPE`;
//!                                 answers with its columns, or with what is wrong
//! message [OFFSET]                the lines of the body are key and value of a message each, with ` => ` between; a part that is `-` is
//!                                 not there, and `\xHH` is a byte. Answers with what becomes of rows, a line each
//! schema ID                       a schema of a registry's, which the lines of the body are; those before the last one are what it refers
//!                                 to. Without a body there is none of the number
//! columns                         the columns of the schema in the body, which a table has that declares none
//! resumed                         lanes that are gone on with, of the position in the body
//! lanes                           plays the lines of the body, and answers with the lanes as they are then:
//!     topic NAME P=LOW..HIGH …    what there is of a topic; `gone`: nothing
//!     begin NAME TABLE [latest] P=LOW..HIGH …   a table's load begins
//!     message NAME P OFFSET TEXT  a message comes; who takes it stands in the answer
//!     pass NAME P OFFSET          the client has passed what is no message
//!     doubt                       the connection was lost
//!     tear NAME                   what reads the topic could not read something of it;  mend: it is read anew
//!     settle                      loads that are done are, and lanes that are alike become one
//!     position                    the position stands in the answer
//! reached                         lines of the body are two positions each, with ` => ` between
//! ```

pub(crate) mod server;

use connect::source::kafka::testing::{Play, Table, columns_of, reached};
use testkit::{Block, Driver};

/// Runs one case.
#[derive(Default)]
pub(crate) struct KafkaDriver {
    table: Option<Table>,
    play: Play,
}

impl Driver for KafkaDriver {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        self.answer(block).map(|answer| answer.trim_end().to_owned())
    }
}

impl KafkaDriver {
    fn answer(&mut self, block: &Block) -> Result<String, String> {
        let arguments: Vec<&str> = block.arguments.iter().map(String::as_str).collect();
        match block.directive.as_str() {
            "table" => Ok(self.table(&arguments, &block.body)),
            "message" => {
                let first: i64 = arguments.first().map_or(Ok(0), |text| text.parse()).map_err(|_| "OFFSET")?;
                let table = self.table.as_mut().ok_or("no table")?;
                let mut out = String::new();
                for (line, offset) in block.body.lines().zip(first..) {
                    let (key, value) = line.split_once(" => ").ok_or("KEY => VALUE")?;
                    out += &table.told(offset, part(key).as_deref(), part(value).as_deref());
                }
                Ok(out)
            }
            "schema" => {
                let id = arguments.first().and_then(|id| id.parse().ok()).ok_or("ID")?;
                let mut texts: Vec<String> = block.body.lines().map(str::to_owned).collect();
                let text = texts.pop();
                Ok(self.table.as_mut().ok_or("no table")?.found(id, text.as_deref(), &texts))
            }
            "columns" => Ok(columns_of(&block.body).unwrap_or_else(|error| error)),
            "resumed" => {
                self.play = Play::resumed(block.body.trim())?;
                Ok(self.play.shown())
            }
            "lanes" => self.lanes(&block.body),
            "reached" => {
                let answer = |line: &str| match line.split_once(" => ").map(|(one, other)| reached(one, other)) {
                    Some(Ok(answer)) => format!("{answer}\n"),
                    Some(Err(error)) => format!("error: {error}\n"),
                    None => "POSITION => POSITION\n".to_owned(),
                };
                Ok(block.body.lines().map(answer).collect())
            }
            other => Err(format!("unknown directive {other}")),
        }
    }

    fn table(&mut self, arguments: &[&str], body: &str) -> String {
        let (mut meta, mut columns) = (Vec::new(), Vec::new());
        for line in body.lines() {
            match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
                ["meta", key, value] => meta.push((key, value)),
                ["column", name] => columns.push((name, "")),
                ["column", name, data_type] => columns.push((name, data_type)),
                _ => return format!("`{line}` is neither `meta KEY JSON` nor `column NAME TYPE`\n"),
            }
        }
        let (identifier, database) = (arguments.first().unwrap_or(&"t"), arguments.get(1).unwrap_or(&""));
        match Table::declared(identifier, database, &meta, &columns) {
            Ok(table) => {
                let column = |column: &relation::Column| {
                    let nullable = if column.nullable { "" } else { " not null" };
                    format!("{} {}{nullable}", column.name, column.data_type)
                };
                let columns: Vec<String> = table.columns().iter().map(column).collect();
                self.table = Some(table);
                columns.join(", ")
            }
            Err(wrong) => wrong,
        }
    }

    fn lanes(&mut self, body: &str) -> Result<String, String> {
        let mut out = String::new();
        for line in body.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["topic", name, "gone"] => self.play.look(name, None),
                ["topic", name, ..] => self.play.look(name, Some(&ends(&words[2..])?)),
                ["begin", name, table, "latest", ..] => {
                    self.play.begin(name, number(table)?, &ends(&words[4..])?, true)
                }
                ["begin", name, table, ..] => self.play.begin(name, number(table)?, &ends(&words[3..])?, false),
                ["message", name, partition, offset, text] => {
                    let taken = self.play.message(name, number(partition)?, number(offset)?, text);
                    out += &format!("{name}-{partition}@{offset}: {taken}\n");
                }
                ["pass", name, partition, offset] => self.play.pass(name, number(partition)?, number(offset)?),
                ["doubt"] => self.play.doubt(),
                ["tear", name] => self.play.tear(name),
                ["mend"] => self.play.mend(),
                ["settle"] => self.play.settle(),
                ["position"] => out += &format!("{}\n", self.play.position()),
                _ => return Err(format!("unknown line `{line}`")),
            }
        }
        Ok(out + &self.play.shown())
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

/// `0=5..9` as a partition and its ends.
fn ends(words: &[&str]) -> Result<Vec<(i32, i64, i64)>, String> {
    let of = |word: &&str| {
        let (partition, ends) = word.split_once('=').ok_or("P=LOW..HIGH")?;
        let (low, high) = ends.split_once("..").ok_or("P=LOW..HIGH")?;
        Ok((number(partition)?, number(low)?, number(high)?))
    };
    words.iter().map(of).collect()
}

/// Bytes of a part of a message; none where it is not there.
fn part(text: &str) -> Option<Vec<u8>> {
    if text == "-" {
        return None;
    }
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        match behind.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = behind;
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}
