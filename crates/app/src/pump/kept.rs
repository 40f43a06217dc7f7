//! Answers that are given when the store has for good what they tell of: what is done between two steps is in no record of the
//! log until it is folded.
//!
//! One task folds for all who wait, again and again over a time in which the disk has no room, since what was done is not
//! undone; whoever looks why there is no answer finds it said. When the pump ends it tells those who still wait what the last
//! fold has said, and lets go of the store.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use super::ROOM_WAIT;

/// An answer that waits.
pub(super) trait Answer: Send {
    /// Whether nobody waits for it.
    fn is_unheard(&self) -> bool;

    /// Gives it: the store has what was done, or why that is not known.
    fn tell(self: Box<Self>, kept: store::Result<()>);
}

/// The answer to one request: what was done.
pub(super) struct Done<T> {
    pub(super) done: Result<T, String>,
    pub(super) answer: oneshot::Sender<Result<T, String>>,
}

impl<T: Send> Answer for Done<T> {
    fn is_unheard(&self) -> bool {
        self.answer.is_closed()
    }

    fn tell(self: Box<Self>, kept: store::Result<()>) {
        let done = self.done.and_then(|it| kept.map(|()| it).map_err(|error| error.to_string()));
        // Whoever asked may have left.
        self.answer.send(done).ok();
    }
}

/// The answers that wait: no more than there are people and sources that wait for one.
#[derive(Default)]
pub(super) struct Answers {
    serving: Option<(mpsc::UnboundedSender<Box<dyn Answer>>, JoinHandle<()>)>,
}

impl Answers {
    /// Has an answer given when the store has what was done by now, or when the pump ends.
    pub(super) fn add(&mut self, answer: Box<dyn Answer>, store: &store::Store, runtime: &Handle) {
        let (waiting, _) = self.serving.get_or_insert_with(|| {
            let (waiting, asked) = mpsc::unbounded_channel();
            let store = store.clone();
            let fold = move || {
                let store = store.clone();
                async move {
                    match spawn_blocking(move || store.fold_now()).await {
                        Ok(kept) => kept,
                        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                        // The runtime is ending.
                        Err(_) => Err(store::Error::Closed),
                    }
                }
            };
            (waiting, runtime.spawn(serve(asked, fold, ROOM_WAIT)))
        });
        // Where the task has ended, nobody is told anything, as of one that panics.
        waiting.send(answer).ok();
    }

    /// Has those given that still wait, and waits for that.
    pub(super) fn end(&mut self, runtime: &Handle) {
        let Some((waiting, task)) = self.serving.take() else { return };
        drop(waiting);
        if runtime.block_on(task).is_err() {
            tracing::error!("the task that answers has panicked");
        }
    }
}

/// Folds and answers until nobody asks any more.
async fn serve<F: Future<Output = store::Result<()>>>(
    mut asked: mpsc::UnboundedReceiver<Box<dyn Answer>>,
    mut fold: impl FnMut() -> F,
    pause: Duration,
) {
    let mut said = String::new();
    while let Some(first) = asked.recv().await {
        let mut answers = vec![first];
        loop {
            while let Ok(another) = asked.try_recv() {
                answers.push(another);
            }
            answers.retain(|answer| !answer.is_unheard());
            if answers.is_empty() {
                break;
            }
            // What is done while it folds waits for the next fold.
            let kept = fold().await;
            if let Err(error) = &kept
                && !matches!(error, store::Error::Closed)
                && !asked.is_closed()
            {
                let reason = error.to_string();
                if reason != said {
                    let hint = error.hint();
                    tracing::warn!(%error, hint, "what was asked for is done, and is answered once the store has it for good");
                    said = reason;
                }
                let until = Instant::now() + pause;
                while let Ok(Some(another)) = timeout_at(until, asked.recv()).await {
                    answers.push(another);
                }
                continue;
            }
            if !said.is_empty() && kept.is_ok() {
                tracing::info!("the store has what was asked for");
                said.clear();
            }
            answers.into_iter().for_each(|answer| answer.tell(kept.clone()));
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;
    use std::sync::Arc;

    use super::*;

    type Asking = mpsc::UnboundedSender<Box<dyn Answer>>;

    fn full() -> store::Error {
        let source = Arc::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
        store::Error::Io { action: "write", path: "tables".into(), source }
    }

    fn asked(waiting: &Asking, done: Arc<u32>) -> oneshot::Receiver<Result<Arc<u32>, String>> {
        let (answer, heard) = oneshot::channel();
        waiting.send(Box::new(Done { done: Ok(done), answer })).unwrap();
        heard
    }

    /// Nobody is told while the disk has no room, and all are when it has; who asks meanwhile is told after a fold of its own, and
    /// who has left is waited for no more.
    #[tokio::test]
    async fn told_when_it_is_folded() {
        let (waiting, asking) = mpsc::unbounded_channel();
        let of_left = Arc::new(2);
        let (first, left) = (asked(&waiting, Arc::new(1)), asked(&waiting, Arc::clone(&of_left)));
        let (later, folds) = (Cell::new(None), Cell::new(0));
        let (first, left) = (Cell::new(Some(first)), Cell::new(Some(left)));
        let waiting = Cell::new(Some(waiting));
        let fold = || {
            folds.set(folds.get() + 1);
            ready(match folds.get() {
                1 => {
                    drop(left.take());
                    Err(full())
                }
                2 => {
                    assert_eq!(Arc::strong_count(&of_left), 1, "who has left is waited for");
                    later.set(waiting.take().map(|waiting| asked(&waiting, Arc::new(3))));
                    Ok(())
                }
                _ => {
                    let mut heard = first.take().unwrap();
                    assert_eq!(heard.try_recv().unwrap(), Ok(Arc::new(1)));
                    Ok(())
                }
            })
        };
        serve(asking, fold, Duration::ZERO).await;
        assert_eq!(folds.get(), 3);
        assert_eq!(later.take().unwrap().try_recv().unwrap(), Ok(Arc::new(3)));
    }

    /// When the pump ends, a disk without room is waited for no longer: what it said is told.
    #[tokio::test]
    async fn told_when_the_pump_ends() {
        let (waiting, asking) = mpsc::unbounded_channel();
        let mut heard = asked(&waiting, Arc::new(1));
        let (waiting, folds) = (Cell::new(Some(waiting)), Cell::new(0));
        let fold = || {
            folds.set(folds.get() + 1);
            if folds.get() == 2 {
                drop(waiting.take());
            }
            ready(Err(full()))
        };
        serve(asking, fold, Duration::ZERO).await;
        assert_eq!(folds.get(), 2);
        assert_eq!(heard.try_recv().unwrap(), Err(full().to_string()));
    }
}
