//! The simple protocol: a text of statements, answered in text.

use pgwire::messages::PgWireBackendMessage as Reply;
use pgwire::messages::response::EmptyQueryResponse;

use super::connection::{Connection, Failure};
use super::session::Transaction;
use super::statement::Opened;
use super::types::description;
use crate::sql::{Statement, command, split};

impl Connection {
    /// Answers a query; its first error ends it.
    pub(super) async fn simple(&mut self, query: &str) -> Result<(), Failure> {
        self.session.portals.remove("");
        self.session.statements.remove("");
        let mut statements = split(query).peekable();
        if statements.peek().is_none() {
            self.send(&Reply::EmptyQueryResponse(EmptyQueryResponse::new()));
        }
        for statement in statements {
            self.begin();
            let result = self.one(&statement).await;
            self.finish(result.is_err());
            match result {
                Ok(()) => {}
                Err(Failure::Statement(error)) => {
                    self.fail(&error, statement.offset);
                    break;
                }
                Err(other) => return Err(other),
            }
        }
        if self.session.transaction == Transaction::None {
            self.session.end();
        }
        self.ready();
        self.flush().await
    }

    async fn one(&mut self, statement: &Statement<'_>) -> Result<(), Failure> {
        let command = command(statement.text)?;
        match self.open(statement.text, &command, &[]).await? {
            Opened::Done(tag) => self.complete(tag),
            Opened::Copy(running, copy) => self.copy_out(running, &copy).await?,
            Opened::Rows(mut running, tag) => {
                self.send(&Reply::RowDescription(description(&running.schema, &[])));
                let (sent, _) = self.rows(&mut running, &[], usize::MAX).await?;
                self.complete(counted(tag, sent));
            }
        }
        Ok(())
    }
}

/// `SELECT 3`; SHOW has no count.
pub(super) fn counted(tag: &str, rows: usize) -> String {
    if tag == "SHOW" { tag.to_owned() } else { format!("{tag} {rows}") }
}
