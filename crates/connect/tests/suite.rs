//! The one test binary of `connect`: case files by folder, each folder with its own driver.

mod capture;
mod decode;
mod destination;
mod kafka;
mod maxwell;
mod registry;

use std::path::Path;

use testkit::{Block, Driver};

fn main() {
    testkit::run_with(env!("CARGO_MANIFEST_DIR"), "tests/cases", AnyDriver::of, trials());
}

fn trials() -> Vec<libtest_mimic::Trial> {
    let mut trials = capture::runner::trials();
    trials.extend(capture::histories::trials());
    trials.extend(capture::server::trials());
    trials.extend(capture::continuity::trials());
    trials.extend(destination::trials());
    trials.extend(maxwell::trials());
    trials.extend(kafka::server::trials());
    trials
}

/// A case's driver, chosen by the folder it lies in.
enum AnyDriver {
    Capture(Box<capture::CaptureDriver>),
    Decode(Box<decode::DecodeDriver>),
    Destination(Box<destination::DestinationDriver>),
    Maxwell(Box<maxwell::MaxwellDriver>),
    Kafka(Box<kafka::KafkaDriver>),
    /// No driver knows the folder.
    Unknown(String),
}

impl AnyDriver {
    fn of(case: &Path) -> Self {
        let folder = case.parent().and_then(Path::file_name).unwrap_or_default();
        match folder.to_str() {
            Some("decode") => Self::Decode(Box::new(decode::DecodeDriver::new(case))),
            Some("capture" | "continuity" | "login" | "position" | "secret" | "statement") => {
                Self::Capture(Box::default())
            }
            Some("maxwell") => Self::Maxwell(Box::default()),
            Some("destination") => Self::Destination(Box::default()),
            Some("kafka") => Self::Kafka(Box::default()),
            _ => Self::Unknown(folder.display().to_string()),
        }
    }
}

impl Driver for AnyDriver {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        match self {
            Self::Capture(driver) => driver.block(block),
            Self::Decode(driver) => driver.block(block),
            Self::Destination(driver) => driver.block(block),
            Self::Maxwell(driver) => driver.block(block),
            Self::Kafka(driver) => driver.block(block),
            Self::Unknown(folder) => Err(format!("no driver for cases in \"{folder}\"")),
        }
    }
}
