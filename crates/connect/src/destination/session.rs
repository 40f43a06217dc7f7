//! A destination that delivers over sessions: each takes the marker over, and ends with whatever goes wrong.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::{Begun, Destination, Down, Outcome, Portion, Seal};

/// How long a portion may take. Locks of others are waited for in this time.
pub(super) const PORTION_PATIENCE: Duration = Duration::from_secs(300);
/// How long it may take to look at what is there.
pub(super) const LOOK_PATIENCE: Duration = Duration::from_secs(60);

/// Where one sync's rows go, and how sessions with it are opened and used.
#[async_trait]
pub(super) trait Route: Send + Sync {
    /// A connection that has taken the sync over.
    type Session: Send;

    /// See [`Destination::begin`].
    async fn begin(&self, rows: u64) -> Result<(Self::Session, Begun), Down>;

    /// How long that may take: whoever delivered before may hold what is taken over as long as a portion of theirs takes.
    fn begin_patience(&self) -> Duration {
        PORTION_PATIENCE
    }

    /// See [`Destination::deliver`]. A session that has failed, or was left in the middle of it, is not used again.
    async fn deliver(
        &self,
        session: &mut Self::Session,
        portion: &Portion,
        seal: &Seal<'_>,
    ) -> Result<Vec<Outcome>, Down>;

    /// See [`Destination::look`].
    async fn look(&self, _: &mut Self::Session) -> Result<(), Down> {
        Ok(())
    }

    /// The table that rows go to, or its marker, as what is wrong says; where that is no table, none.
    fn table(&self, _: &Down) -> Option<String> {
        None
    }

    /// Says goodbye.
    async fn close(&self, _: Self::Session) {}
}

/// A destination with its session, if there is one.
pub(super) struct Sessions<R: Route> {
    /// The server, as messages name it.
    address: String,
    route: R,
    session: Option<R::Session>,
}

impl<R: Route + 'static> Sessions<R> {
    /// Without a session yet.
    pub(super) fn of(address: String, route: R) -> Box<dyn Destination> {
        Box::new(Self { address, route, session: None })
    }

    /// It comes back only when all went well: whatever else happens ends the connection, and its transaction with it.
    fn take(&mut self) -> Result<R::Session, Down> {
        self.session.take().ok_or_else(|| Down::passing("the delivery has not begun", "A connection was lost."))
    }

    /// With the table's name where a hint wants it.
    fn named(&self, down: Down) -> Down {
        match self.route.table(&down) {
            Some(table) => down.about_table(&table),
            None => down,
        }
    }

    fn silent(&self, patience: Duration) -> Down {
        let seconds = patience.as_secs();
        Down::passing(format!("no sign of life of {} for {seconds} s", self.address), "")
    }
}

#[async_trait]
impl<R: Route + 'static> Destination for Sessions<R> {
    async fn begin(&mut self, rows: u64) -> Result<Begun, Down> {
        self.session = None;
        let patience = self.route.begin_patience();
        let begun = timeout(patience, self.route.begin(rows)).await.map_err(|_| self.silent(patience))?;
        let (session, begun) = begun.map_err(|down| self.named(down))?;
        self.session = Some(session);
        Ok(begun)
    }

    async fn deliver(&mut self, portion: &Arc<Portion>, seal: &Seal<'_>) -> Result<Vec<Outcome>, Down> {
        let mut session = self.take()?;
        let work = self.route.deliver(&mut session, portion, seal);
        let worked = timeout(PORTION_PATIENCE, work).await.map_err(|_| self.silent(PORTION_PATIENCE))?;
        let outcomes = worked.map_err(|down| self.named(down))?;
        self.session = Some(session);
        Ok(outcomes)
    }

    async fn look(&mut self) -> Result<(), Down> {
        let mut session = self.take()?;
        let work = self.route.look(&mut session);
        let looked = timeout(LOOK_PATIENCE, work).await.map_err(|_| self.silent(LOOK_PATIENCE))?;
        looked.map_err(|down| self.named(down))?;
        self.session = Some(session);
        Ok(())
    }

    async fn close(self: Box<Self>) {
        if let Some(session) = self.session {
            self.route.close(session).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Sessions are numbers; the first portion of each is taken, and the second one is not.
    struct Fragile {
        begun: AtomicUsize,
    }

    #[async_trait]
    impl Route for Fragile {
        type Session = (usize, usize);

        async fn begin(&self, _: u64) -> Result<((usize, usize), Begun), Down> {
            Ok(((self.begun.fetch_add(1, Ordering::SeqCst), 0), Begun::default()))
        }

        async fn deliver(&self, session: &mut (usize, usize), _: &Portion, _: &Seal<'_>) -> Result<Vec<Outcome>, Down> {
            session.1 += 1;
            if session.1 > 1 { Err(Down::passing(format!("{session:?}"), "")) } else { Ok(Vec::new()) }
        }
    }

    /// Lets in, and says nothing more.
    struct Silent;

    #[async_trait]
    impl Route for Silent {
        type Session = ();

        async fn begin(&self, _: u64) -> Result<((), Begun), Down> {
            std::future::pending().await
        }

        fn begin_patience(&self) -> Duration {
            Duration::ZERO
        }

        async fn deliver(&self, (): &mut (), _: &Portion, _: &Seal<'_>) -> Result<Vec<Outcome>, Down> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn who_lets_in_and_is_silent_is_not_waited_for_without_an_end() {
        let mut sessions = Sessions::of("there".to_owned(), Silent);
        let said = sessions.begin(0).await.map_err(|down| down.failure.message);
        assert_eq!(said.map(drop), Err("no sign of life of there for 0 s".to_owned()));
    }

    #[tokio::test]
    async fn a_session_that_has_failed_is_not_used_again() {
        let mut sessions = Sessions::of("there".to_owned(), Fragile { begun: AtomicUsize::new(0) });
        let (portion, seal) = (Arc::new(Portion::new(1)), |_: &[Outcome]| Vec::new());
        let said = |done: Result<Vec<Outcome>, Down>| done.map_err(|down| down.failure.message);
        assert_eq!(said(sessions.deliver(&portion, &seal).await), Err("the delivery has not begun".to_owned()));
        for session in 0..2 {
            sessions.begin(0).await.expect("a session");
            sessions.look().await.expect("nothing is wrong");
            assert_eq!(said(sessions.deliver(&portion, &seal).await), Ok(Vec::new()));
            let failed = said(sessions.deliver(&portion, &seal).await);
            assert_eq!(failed, Err(format!("({session}, 2)")));
            assert_eq!(said(sessions.deliver(&portion, &seal).await), Err("the delivery has not begun".to_owned()));
            assert!(sessions.look().await.is_err());
        }
        sessions.close().await;
    }
}
