//! Threads of their own for what readers ask, so that nothing they send stops anybody else.
//!
//! A statement runs as one task from its text to its last batch. There are as many threads as statements may run at a time,
//! twice over, so the system shares the processor out between them, also where a statement does not give way. The other end
//! takes batches as it can: one waits, the statement stands still meanwhile. A small answer that is there at once is handed over
//! whole: waking the other end takes longer than such an answer does.
//!
//! What is left to be found out of a statement is found out when its answer has been handed over, in the same task.
//!
//! Dropping an answer ends its statement ([`Watch`]). One that goes on working all the same counts against those that may be begun:
//! rather than pile up, the next are refused. One that waits for its reader, a row or its time does not work, and is gone at once.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::error::{Error, Result, code};
use crate::session::{Answer, Reads};
use crate::watch::Watch;

/// Batches that wait for a statement's reader.
const BATCHES_WAITING_MAX: usize = 1;
/// Batches of a small answer, and their bytes.
const SMALL_BATCHES_MAX: usize = 16;
const SMALL_BYTES_MAX: usize = 256 << 10;
/// Address space of a thread's stack; memory is only what is used of it. Nested plans are walked by recursion.
const STACK_BYTES: usize = 64 << 20;
/// Threads that read tables for statements, beside those that compute.
const READING_THREADS_MAX: usize = 64;

/// What a statement answers that runs on other threads.
pub struct Answered {
    pub schema: SchemaRef,
    /// What the statement names.
    pub reads: Reads,
    pub batches: BoxStream<'static, Result<RecordBatch>>,
}

/// Threads that run statements.
pub struct Executor {
    /// None while it is being dropped.
    runtime: Option<tokio::runtime::Runtime>,
    /// Statements that were given up and still run.
    stuck: Arc<AtomicUsize>,
    stuck_max: usize,
    /// Statements that have been answered and of which something is still found out.
    learning: Arc<AtomicUsize>,
}

impl Executor {
    /// Threads for `statements` at a time. Errors: the system gives none.
    pub fn new(name: &str, statements: usize) -> Result<Arc<Self>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(statements.saturating_mul(2).max(2))
            .max_blocking_threads(READING_THREADS_MAX)
            .thread_stack_size(STACK_BYTES)
            .thread_name(name)
            .enable_time()
            .build()
            .map_err(|error| Error::new(code::IO, format!("no threads for statements: {error}")))?;
        let stuck_max = statements.div_ceil(2).max(1);
        Ok(Arc::new(Self { runtime: Some(runtime), stuck: Arc::default(), stuck_max, learning: Arc::default() }))
    }

    /// Runs a piece of work there. Dropping the future gives it up.
    pub async fn run<T: Send + 'static>(
        &self,
        watch: &Arc<Watch>,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let task = self.spawn(watch, async move {
            // Who asked may have gone.
            drop(sender.send(work.await));
        })?;
        match receiver.await {
            Ok(done) => {
                // It is over but for its last step, and must not be taken for one that goes on.
                task.finished().await;
                done
            }
            Err(_) => Err(task.failed().await),
        }
    }

    /// Runs a statement there, and hands its batches on as they are taken; then does what it left to be done. Dropping the future or the
    /// stream gives it up.
    pub async fn answer<L: FnOnce() + Send + 'static>(
        &self,
        watch: &Arc<Watch>,
        work: impl Future<Output = Result<(Answer, Option<L>)>> + Send + 'static,
    ) -> Result<Answered> {
        let (head, begun) = oneshot::channel();
        let (batches, taken) = mpsc::channel(BATCHES_WAITING_MAX);
        let (learning, learning_max) = (Arc::clone(&self.learning), self.stuck_max);
        let task = self.spawn(watch, async move {
            let (mut answer, left) = match work.await {
                Ok(done) => done,
                Err(error) => return drop(head.send(Err(error))),
            };
            let (first, is_whole) = at_once(&mut answer.stream);
            let named = (Arc::clone(&answer.schema), Arc::clone(&answer.reads));
            if is_whole {
                drop(answer);
                drop(head.send(Ok((named, first, true))));
                if let Some(left) = left {
                    afterwards(&learning, learning_max, left);
                }
                return;
            }
            if head.send(Ok((named, first, false))).is_err() {
                return;
            }
            if let Some(left) = left {
                left();
            }
            while let Some(batch) = answer.stream.next().await {
                let failed = batch.is_err();
                if batches.send(batch.map_err(Error::from)).await.is_err() || failed {
                    return;
                }
            }
        })?;
        match begun.await {
            Ok(Ok(((schema, reads), first, is_whole))) => {
                let first = futures::stream::iter(first);
                let batches = match is_whole {
                    true => {
                        task.end_quietly();
                        first.boxed()
                    }
                    false => first.chain(rows(taken, task)).boxed(),
                };
                Ok(Answered { schema, reads, batches })
            }
            Ok(Err(error)) => {
                task.finished().await;
                Err(error)
            }
            Err(_) => Err(task.failed().await),
        }
    }

    fn spawn(&self, watch: &Arc<Watch>, work: impl Future<Output = ()> + Send + 'static) -> Result<Task> {
        let stuck = self.stuck.load(Ordering::Relaxed);
        let runtime = self.runtime.as_ref().filter(|_| stuck < self.stuck_max).ok_or_else(|| {
            Error::new(code::TOO_MANY, "too many statements run at once")
                .detail(format!("{stuck} that were ended have not stopped yet."))
                .hint("Try again in a moment.")
        })?;
        let place = Arc::new(Place { state: AtomicU8::new(WAITING), stuck: Arc::clone(&self.stuck) });
        let over = Over { work: Box::pin(work), watch: Arc::clone(watch), left: Left(Arc::clone(&place)) };
        Ok(Task { handle: runtime.spawn(over), watch: Arc::clone(watch), place })
    }
}

impl Drop for Executor {
    /// Statements that still run are not waited for.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Does what a statement left to be done, for which nobody waits: of so many at a time. What is left out is found out of the next one
/// of its form.
fn afterwards(learning: &Arc<AtomicUsize>, learning_max: usize, left: impl FnOnce()) {
    let is_room = |running: usize| (running < learning_max).then_some(running + 1);
    let Ok(_) = learning.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_room) else { return };
    let _learns = Learns(Arc::clone(learning));
    // The statement's own watch has been ended with it.
    Watch::new().over(left);
}

/// The batches of an answer that are there at once, as long as it is small, and whether they are all.
fn at_once(stream: &mut SendableRecordBatchStream) -> (Vec<Result<RecordBatch>>, bool) {
    let (mut batches, mut bytes) = (Vec::new(), 0);
    while bytes <= SMALL_BYTES_MAX && batches.len() < SMALL_BATCHES_MAX {
        match stream.next().now_or_never() {
            Some(Some(Ok(batch))) => {
                bytes += batch.get_array_memory_size();
                batches.push(Ok(batch));
            }
            Some(Some(Err(error))) => {
                batches.push(Err(error.into()));
                return (batches, true);
            }
            Some(None) => return (batches, true),
            None => break,
        }
    }
    (batches, false)
}

/// The batches of a statement; how its task ended is the last of them.
fn rows(taken: mpsc::Receiver<Result<RecordBatch>>, task: Task) -> impl futures::Stream<Item = Result<RecordBatch>> {
    futures::stream::unfold((taken, Some(task)), |(mut taken, mut task)| async move {
        if let Some(batch) = taken.recv().await {
            return Some((batch, (taken, task)));
        }
        task.take()?.finished().await;
        None
    })
}

/// Counted while it is there.
struct Learns(Arc<AtomicUsize>);

impl Drop for Learns {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// It is on no thread.
const WAITING: u8 = 0;
/// It is on one.
const RUNNING: u8 = 1;
/// It was given up there.
const GIVEN_UP: u8 = 2;
const OVER: u8 = 3;

/// Where a task stands, for the count of those that were given up and still run.
struct Place {
    state: AtomicU8,
    stuck: Arc<AtomicUsize>,
}

impl Place {
    /// Whether it stood in the one state, and stands in the other now.
    fn turns(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Dropped with the task's work.
struct Left(Arc<Place>);

impl Drop for Left {
    fn drop(&mut self) {
        if self.0.state.swap(OVER, Ordering::Relaxed) == GIVEN_UP {
            self.0.stuck.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Who waits for a task. Its drop gives the task up.
struct Task {
    handle: JoinHandle<()>,
    watch: Arc<Watch>,
    place: Arc<Place>,
}

impl Task {
    /// Waits for the end; a panic of the task goes on here.
    async fn finished(mut self) {
        if let Err(error) = (&mut self.handle).await
            && error.is_panic()
        {
            resume_unwind(error.into_panic());
        }
    }

    /// Its work is done and only its thread is still to be let go: it is not given up.
    fn end_quietly(self) {
        self.place.state.store(OVER, Ordering::Relaxed);
    }

    /// Why a task ended without an answer: its panic goes on here, or the threads are being stopped.
    async fn failed(self) -> Error {
        self.finished().await;
        Error::new(code::SHUTDOWN, "terminating statement due to administrator command")
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.watch.end();
        self.handle.abort();
        // Counted before it may be taken off again.
        self.place.stuck.fetch_add(1, Ordering::Relaxed);
        if !self.place.turns(RUNNING, GIVEN_UP) {
            self.place.stuck.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Work that is watched wherever it is polled.
struct Over<F> {
    work: Pin<Box<F>>,
    watch: Arc<Watch>,
    /// After the work, so that it is dropped after it.
    left: Left,
}

impl<F: Future> Future for Over<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let (watch, place) = (Arc::clone(&self.watch), Arc::clone(&self.left.0));
        place.turns(WAITING, RUNNING);
        let polled = watch.over(|| self.work.as_mut().poll(context));
        place.turns(RUNNING, WAITING);
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn waiting() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    /// Work that is polled once and holds its thread until told.
    fn deaf(begun: &Arc<Barrier>, told: &Arc<Barrier>) -> impl Future<Output = Result<()>> + Send + 'static {
        let (begun, told) = (Arc::clone(begun), Arc::clone(told));
        async move {
            begun.wait();
            told.wait();
            Ok(())
        }
    }

    #[test]
    fn what_does_not_stop_is_counted_until_it_does() {
        let executor = Executor::new("test", 1).unwrap();
        let (begun, told) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let watch = Watch::new();
        waiting().block_on(async {
            let mut work = Box::pin(executor.run(&watch, deaf(&begun, &told)));
            assert!(futures::poll!(&mut work).is_pending());
            begun.wait();
            drop(work);
            assert!(watch.look().is_err());
            let refused = executor.run(&Watch::new(), async { Ok(1) }).await;
            assert_eq!(refused.unwrap_err().code, code::TOO_MANY);
            told.wait();
            while executor.stuck.load(Ordering::Relaxed) > 0 {
                std::thread::yield_now();
            }
            assert_eq!(executor.run(&Watch::new(), async { Ok(2) }).await, Ok(2));
        });
    }

    #[test]
    fn what_waits_is_gone_when_it_is_given_up() {
        let executor = Executor::new("test", 1).unwrap();
        let begun = Arc::new(Barrier::new(2));
        waiting().block_on(async {
            for _ in 0..100 {
                let here = Arc::clone(&begun);
                let (_told, tells) = oneshot::channel::<()>();
                let work = async move {
                    here.wait();
                    tells.await.map_err(|_| Error::internal("nobody tells"))
                };
                let task = executor.spawn(&Watch::new(), async move { drop::<Result<()>>(work.await) }).unwrap();
                begun.wait();
                // From there it is on its way to waiting.
                while task.place.state.load(Ordering::Relaxed) != WAITING {
                    std::thread::yield_now();
                }
                drop(task);
                assert_eq!(executor.stuck.load(Ordering::Relaxed), 0);
            }
        });
    }

    #[test]
    fn a_panic_is_that_of_who_asked() {
        let executor = Executor::new("test", 1).unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            waiting().block_on(executor.run::<()>(&Watch::new(), async { panic!("by the test") }))
        }));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"by the test"));
        assert_eq!(executor.stuck.load(Ordering::Relaxed), 0);
    }
}
