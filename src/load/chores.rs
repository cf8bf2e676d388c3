//! Work that must not delay the loop, on a second thread.
//!
//! Owns that thread. Chores are closures that run one after the other, in the order in which they
//! were handed over: compressing histograms, and reading `/proc`. Both take up to milliseconds, and
//! in the loop they would count as latency of the server. The thread has the lowest priority, so
//! that the loop goes first on a core that they share. Only the generator has such a thread, never
//! the server.

use std::sync::OnceLock;
use std::sync::mpsc::{self, SendError, Sender};
use std::thread;

type Chore = Box<dyn FnOnce() + Send>;

/// The thread; `None` if the system refused to start it.
static THREAD: OnceLock<Option<Sender<Chore>>> = OnceLock::new();

/// Starts the thread, so that the first chore of a run does not have to.
pub(super) fn start() {
    THREAD.get_or_init(spawn);
}

/// Hands over a chore. Without a thread it runs here and now.
pub(super) fn later(chore: impl FnOnce() + Send + 'static) {
    let chore: Chore = Box::new(chore);
    let refused = match THREAD.get_or_init(spawn) {
        Some(thread) => thread.send(chore).err().map(|SendError(chore)| chore),
        None => Some(chore),
    };
    if let Some(chore) = refused {
        chore();
    }
}

fn spawn() -> Option<Sender<Chore>> {
    let (sender, chores) = mpsc::channel::<Chore>();
    let work = move || {
        lower_priority();
        chores.into_iter().for_each(|chore| chore());
    };
    let spawned = thread::Builder::new().name("chores".to_owned()).spawn(work);
    spawned.ok().map(|_| sender)
}

/// Gives the calling thread the lowest priority. Only on Linux a thread has one of its own.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        const LOWEST: i32 = 19;
        // Lowering is always allowed. If it failed nevertheless, the chores would only compete.
        let _ = rustix::process::setpriority_process(None, LOWEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chores_run_in_order_on_another_thread() {
        let (sender, done) = mpsc::channel();
        for number in 0..10 {
            let sender = sender.clone();
            later(move || sender.send((number, thread::current().id())).unwrap());
        }
        let done: Vec<_> = done.iter().take(10).collect();
        assert!(done.iter().map(|(number, _)| *number).eq(0..10));
        assert!(done.iter().all(|(_, thread)| *thread != thread::current().id()));
    }
}
