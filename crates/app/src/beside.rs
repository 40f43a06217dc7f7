//! Threads that do one thing and nothing else.
//!
//! *Beside the steps* runs what nobody is in a hurry for: a model's build, the store's merges and most of its folds. Where cores
//! are few, such work takes them from the steps and from readers, and who waits for a commit to become visible waits for a
//! build. So its threads have a lower priority (setpriority(2), which on Linux is a thread's): it takes what the others leave,
//! and all of the machine where they leave it.
//!
//! *The protocols* run on threads of their own, on which sources do not decode and nothing is computed that takes long: a row by
//! its key is answered on them, in microseconds, if nothing stands before it.

use crate::deep::STACK_BYTES;

/// How much lower: a thread that competes with one of the steps gets about a tenth of a core.
const NICE: i32 = 10;

/// Puts the calling thread behind those of the steps. Where the system refuses, it runs as the others do.
pub(crate) fn behind_the_steps() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread beside the steps keeps its priority");
    }
}

/// A runtime with as many threads as there are cores.
#[derive(Debug)]
pub(crate) struct Threads {
    handle: tokio::runtime::Handle,
    /// There until it is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Threads {
    /// Threads that all run behind the steps. Errors: the system has no more threads.
    pub(crate) fn beside() -> std::io::Result<Self> {
        Self::new("build", behind_the_steps)
    }

    /// Threads of the protocols. Errors: the system has no more threads.
    pub(crate) fn of_protocols() -> std::io::Result<Self> {
        Self::new("protocol", || {})
    }

    fn new(name: &str, first: fn()) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name(name)
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(first)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where to run what.
    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.handle.clone()
    }
}

impl Drop for Threads {
    /// Without waiting, which is not allowed on threads that run tasks: what ran there has been ended before.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
