//! Work that recurses over what a project wrote: on a stack that holds it.

/// Address space of a large stack; memory is only what is used of it.
pub const STACK_BYTES: usize = 64 << 20;

/// Does a piece of work on a thread with a large stack, or here, if the system gives none. A panic goes on here.
pub fn deep<T: Send>(work: impl Fn() -> T + Sync) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("plan".to_owned()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, &work).map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => work(),
        }
    })
}
