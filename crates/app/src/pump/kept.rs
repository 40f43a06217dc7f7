//! Answers that are given when the store has for good what they tell of: what is done between two steps is in no record of the
//! log until it is folded.
//!
//! One thread folds for all who wait, again and again over a time in which the disk has no room, since what was done is not
//! undone; whoever looks why there is no answer finds it said. It ends when nobody waits any more. When the pump ends it tells
//! those who do what the last fold has said, and lets go of the store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

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
    waiting: Arc<Mutex<Waiting>>,
    thread: Option<JoinHandle<()>>,
    /// Room is waited for no longer.
    ends: Arc<AtomicBool>,
}

#[derive(Default)]
struct Waiting {
    answers: Vec<Box<dyn Answer>>,
    /// The thread looks once more whether there are any, before it ends.
    is_served: bool,
}

impl Answers {
    /// Has an answer given when the store has what was done by now, or when the pump ends. Errors: there is no thread for it.
    pub(super) fn add(&mut self, answer: Box<dyn Answer>, store: &store::Store) -> std::io::Result<()> {
        let mut waiting = lock(&self.waiting);
        waiting.answers.push(answer);
        if waiting.is_served {
            return Ok(());
        }
        let (answers, store, ends) = (Arc::clone(&self.waiting), store.clone(), Arc::clone(&self.ends));
        let thread = std::thread::Builder::new().name("answer".to_owned()).stack_size(crate::deep::STACK_BYTES);
        self.thread = Some(thread.spawn(move || serve(&answers, &|| store.fold_now(), &ends, ROOM_WAIT))?);
        waiting.is_served = true;
        Ok(())
    }

    /// Has those given that still wait, and waits for that.
    pub(super) fn end(&mut self) {
        self.ends.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("the thread that answers has panicked");
        }
        self.ends.store(false, Ordering::Release);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Folds and answers until nobody waits.
fn serve(waiting: &Mutex<Waiting>, fold: &dyn Fn() -> store::Result<()>, ends: &AtomicBool, pause: Duration) {
    let mut said = String::new();
    loop {
        // What is done while it folds waits for the next fold.
        let asked = {
            let mut waiting = lock(waiting);
            waiting.answers.retain(|answer| !answer.is_unheard());
            if waiting.answers.is_empty() {
                waiting.is_served = false;
                return;
            }
            waiting.answers.len()
        };
        let kept = fold();
        if let Err(error) = &kept
            && !matches!(error, store::Error::Closed)
            && !ends.load(Ordering::Acquire)
        {
            let reason = error.to_string();
            if reason != said {
                let hint = error.hint();
                tracing::warn!(%error, hint, "what was asked for is done, and is answered once the store has it for good");
                said = reason;
            }
            std::thread::park_timeout(pause);
            continue;
        }
        if !said.is_empty() && kept.is_ok() {
            tracing::info!("the store has what was asked for");
            said.clear();
        }
        let answers: Vec<Box<dyn Answer>> = lock(waiting).answers.drain(..asked).collect();
        answers.into_iter().for_each(|answer| answer.tell(kept.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn full() -> store::Error {
        let source = Arc::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
        store::Error::Io { action: "write", path: "tables".into(), source }
    }

    fn asked(waiting: &Mutex<Waiting>, number: u32) -> oneshot::Receiver<Result<u32, String>> {
        let (answer, heard) = oneshot::channel();
        let mut waiting = lock(waiting);
        waiting.is_served = true;
        waiting.answers.push(Box::new(Done { done: Ok(number), answer }));
        heard
    }

    /// Nobody is told while the disk has no room, and all are when it has; who asks meanwhile is told after a fold of its own, and
    /// who has left is waited for no more.
    #[test]
    fn told_when_it_is_folded() {
        let waiting = Mutex::new(Waiting::default());
        let (first, left) = (asked(&waiting, 1), asked(&waiting, 2));
        let (later, folds) = (Cell::new(None), Cell::new(0));
        let (first, left) = (Cell::new(Some(first)), Cell::new(Some(left)));
        let fold = || {
            folds.set(folds.get() + 1);
            match folds.get() {
                1 => {
                    drop(left.take());
                    Err(full())
                }
                2 => {
                    assert_eq!(lock(&waiting).answers.len(), 1, "who has left is waited for");
                    later.set(Some(asked(&waiting, 3)));
                    Ok(())
                }
                _ => {
                    let mut heard = first.take().unwrap();
                    assert_eq!(heard.try_recv().unwrap(), Ok(1));
                    Ok(())
                }
            }
        };
        serve(&waiting, &fold, &AtomicBool::new(false), Duration::ZERO);
        assert_eq!(folds.get(), 3);
        assert_eq!(later.take().unwrap().try_recv().unwrap(), Ok(3));
        assert!(!lock(&waiting).is_served);
    }

    /// When the pump ends, a disk without room is waited for no longer: what it said is told.
    #[test]
    fn told_when_the_pump_ends() {
        let waiting = Mutex::new(Waiting::default());
        let mut heard = asked(&waiting, 1);
        let (ends, folds) = (AtomicBool::new(false), Cell::new(0));
        let fold = || {
            folds.set(folds.get() + 1);
            ends.store(folds.get() == 2, Ordering::Release);
            Err(full())
        };
        serve(&waiting, &fold, &ends, Duration::ZERO);
        assert_eq!(folds.get(), 2);
        assert_eq!(heard.try_recv().unwrap(), Err(full().to_string()));
    }
}
