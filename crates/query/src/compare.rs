//! Whether two answers are the same rows, however they are ordered, and which rows are not in both.
//!
//! The two are read in turns and cancel each other out as they come, so that what is held is what has not met its like
//! yet. A hash of 128 bits stands for a row; its bytes are held with it as long as there is room, to be shown. Where
//! too many rows wait for their like (two large answers in different orders), only the sum of the hashes goes on: it
//! still tells whether the answers are equal, no longer where they differ.

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt as _;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use relation::columns::RowEncoder;
use relation::key::hash128;
use relation::{DataType, Layout};

use crate::error::{Error, Result, code};

/// Bytes of rows that are held to be shown.
const HELD_BYTES_MAX: usize = 256 << 20;

/// Rows that wait for their like: about 300 MB without their bytes.
const UNMET_MAX: usize = 4_000_000;

/// What differs between two answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    pub equal: bool,
    pub rows_left: u64,
    pub rows_right: u64,
    /// Rows that are in the left answer more often, as text; the first few.
    pub only_left: Vec<String>,
    pub only_right: Vec<String>,
    /// There were too many rows on the way to say which differ.
    pub unknown_rows: bool,
}

/// Compares two answers of the same columns as multisets; shows at most `shown` rows of each side.
pub async fn compare(
    left: SendableRecordBatchStream,
    right: SendableRecordBatchStream,
    shown: usize,
) -> Result<Difference> {
    let types = types(&left.schema())?;
    let width = right.schema().fields().len();
    if types.len() != width {
        let message = format!("one answer has {} columns, the other {width}", types.len());
        return Err(Error::new(code::DATATYPE_MISMATCH, message));
    }
    let mut unmet = Unmet { layout: Layout::new(types), rows: HashMap::new(), bytes: 0, sum: 0, given_up: false };
    let mut difference = Difference::default();
    let (mut left, mut right) = (left.fuse(), right.fuse());
    loop {
        let (from_left, from_right) = (left.next().await, right.next().await);
        if from_left.is_none() && from_right.is_none() {
            break;
        }
        if let Some(batch) = from_left.transpose()? {
            difference.rows_left += batch.num_rows() as u64;
            unmet.add(&batch, 1)?;
        }
        if let Some(batch) = from_right.transpose()? {
            difference.rows_right += batch.num_rows() as u64;
            unmet.add(&batch, -1)?;
        }
    }
    difference.equal = unmet.sum == 0 && difference.rows_left == difference.rows_right && unmet.rows.is_empty();
    difference.unknown_rows = unmet.given_up && !difference.equal;
    difference.only_left = unmet.shown(shown, 1);
    difference.only_right = unmet.shown(shown, -1);
    Ok(difference)
}

fn types(schema: &SchemaRef) -> Result<Vec<DataType>> {
    let types = schema.fields().iter().map(|field| DataType::from_arrow(field.data_type()));
    Ok(types.collect::<relation::Result<_>>()?)
}

/// Rows of one side that the other has not had yet.
struct Unmet {
    layout: Layout,
    rows: HashMap<[u8; 16], Row>,
    bytes: usize,
    /// Hashes of the left rows less those of the right.
    sum: u128,
    given_up: bool,
}

struct Row {
    /// How many more the left side has had.
    surplus: i64,
    bytes: Option<Box<[u8]>>,
}

impl Unmet {
    fn add(&mut self, batch: &RecordBatch, side: i64) -> Result<()> {
        let arrays = batch.columns().iter().zip(self.layout.types()).map(|(array, data_type)| {
            cast(array, &data_type.to_arrow()).map_err(|error| Error::new(code::DATATYPE_MISMATCH, error.to_string()))
        });
        let encoder = RowEncoder::new(self.layout.clone(), arrays.collect::<Result<_>>()?);
        let mut row = Vec::new();
        for i in 0..batch.num_rows() {
            row.clear();
            encoder.push(i, &mut row)?;
            self.count(&row, side);
        }
        Ok(())
    }

    fn count(&mut self, row: &[u8], side: i64) {
        let hash = hash128(row);
        let number = u128::from_be_bytes(hash);
        self.sum = if side > 0 { self.sum.wrapping_add(number) } else { self.sum.wrapping_sub(number) };
        if self.given_up {
            return;
        }
        if self.rows.len() >= UNMET_MAX {
            self.given_up = true;
            self.rows = HashMap::new();
            return;
        }
        match self.rows.entry(hash) {
            Entry::Occupied(mut known) => {
                known.get_mut().surplus += side;
                if known.get().surplus == 0 {
                    self.bytes -= known.remove().bytes.map_or(0, |bytes| bytes.len());
                }
            }
            Entry::Vacant(free) => {
                let held = self.bytes + row.len() <= HELD_BYTES_MAX;
                let bytes = held.then(|| Box::from(row));
                self.bytes += if held { row.len() } else { 0 };
                free.insert(Row { surplus: side, bytes });
            }
        }
    }

    /// Rows with a surplus of this sign, in the order of their text.
    fn shown(&self, most: usize, sign: i64) -> Vec<String> {
        let surplus = self.rows.values().filter(|row| row.surplus.signum() == sign);
        let texts = surplus.filter_map(|row| row.bytes.as_ref().map(|bytes| self.text(bytes, row.surplus.abs())));
        let mut texts: Vec<String> = texts.collect();
        texts.sort_unstable();
        texts.truncate(most);
        texts
    }

    fn text(&self, row: &[u8], times: i64) -> String {
        let values: Vec<String> = self.layout.values(row).iter().map(ToString::to_string).collect();
        let times = if times == 1 { String::new() } else { format!(" ({times} times)") };
        format!("{}{times}", values.join(" | "))
    }
}
