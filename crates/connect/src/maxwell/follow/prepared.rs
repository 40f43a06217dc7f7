//! Transactions across servers (XA): their rows wait in a file from PREPARE to COMMIT or ROLLBACK, over restarts.

use std::io;
use std::path::PathBuf;

use super::super::transaction::Rows;
use super::{Ended, Follower, disk, unread};
use crate::source::mysql::log::{Hearing, WireError, Xid, event};

/// The longest name of a prepared transaction by which its file is called.
const NAME_MAX: usize = 200;

impl Follower {
    /// Where the rows of a prepared transaction are kept.
    pub(super) fn prepared(&self, xid: &Xid) -> PathBuf {
        let mut name = xid.to_string().replace('/', "-");
        if name.len() > NAME_MAX {
            // No file may be called so.
            name = relation::key::hash128(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        }
        self.settings.folder.join(format!("prepared-{name}"))
    }

    pub(super) fn xa_commit(&mut self, xid: &Xid) -> Result<(), WireError> {
        let path = self.prepared(xid);
        let folder = &self.settings.folder;
        let blocks = match Rows::kept(&path) {
            Ok(blocks) => blocks,
            // It has changed nothing that is output, or was prepared before we began.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unread(&error, folder, Some(&path))),
        };
        let count = blocks.count();
        self.ended = Some(Ended { blocks, kept: Some(path.clone()), xid: None, index: 0, count });
        self.leaves(path);
        Ok(())
    }

    /// A file of a prepared transaction may go when all that has come out is safe.
    pub(super) fn leaves(&mut self, path: PathBuf) {
        self.leaving.insert(path.clone());
        self.settled.push(path);
    }

    pub(super) fn xa_prepare(&mut self, body: &[u8]) -> Result<Hearing, WireError> {
        let (is_whole, xid) = event::xa_prepare(body)?;
        if is_whole {
            return self.commit(None).map(|()| Hearing::Taken);
        }
        let path = self.prepared(&xid);
        self.leaving.retain(|path| path.exists());
        if self.leaving.contains(&path) {
            // One of this name has ended, and its rows are not safe yet: its file would be written over, and then taken away.
            return Ok(Hearing::Asks);
        }
        if self.rows.is_empty() {
            // Of another one with this name, which was ended while its file could not be taken away.
            return match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(&error, &self.settings.folder)),
                _ => Ok(Hearing::Taken),
            };
        }
        self.rows.keep(&path).map_err(|error| disk(&error, &self.settings.folder))?;
        Ok(Hearing::Taken)
    }
}
