//! Threads for what runs beside the steps: a model's build.
//!
//! Where cores are few, such work takes them from the steps, and who waits for a commit to become visible waits for a build
//! that nobody is in a hurry for. So it has threads of its own, of a lower priority (setpriority(2), which on Linux is a
//! thread's): a build takes what the steps leave, and all of the machine where they leave it.

use crate::deep::STACK_BYTES;

/// How much lower: a thread that competes with one of the steps gets about a tenth of a core.
const NICE: i32 = 10;

/// Puts the calling thread behind those of the steps. Where the system refuses, it runs as the others do.
pub(crate) fn behind_the_steps() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread beside the steps keeps its priority");
    }
}

/// A runtime whose threads all run behind the steps.
#[derive(Debug)]
pub(crate) struct Beside {
    handle: tokio::runtime::Handle,
    /// There until it is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Beside {
    /// Starts it with as many threads as there are cores. Errors: the system has no more threads.
    pub(crate) fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("build")
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(behind_the_steps)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where to run what.
    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.handle.clone()
    }
}

impl Drop for Beside {
    /// Without waiting, which is not allowed on threads that run tasks: a build has been cancelled before.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
