//! The one door between Python and the library: the GIL is released, Ctrl-C and progress are
//! served by the calling thread while the work runs on others.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use picopq::Task;
use pyo3::prelude::*;

use crate::errors::to_python;

/// How often the calling thread looks at signals and progress.
const TICK: Duration = Duration::from_millis(50);
/// Multiply-adds (or look-ups) below which a call is over before a thread would have started.
const SMALL: usize = 1 << 22;

/// The Python functions that hear of a call's progress.
#[derive(Default)]
pub(crate) struct Listeners<'py> {
    progress: Option<Bound<'py, PyAny>>,
    on_step: Option<Bound<'py, PyAny>>,
    told: (u64, u64),
    steps: usize,
}

impl<'py> Listeners<'py> {
    pub(crate) fn new(
        progress: Option<Bound<'py, PyAny>>,
        on_step: Option<Bound<'py, PyAny>>,
    ) -> Self {
        Self { progress, on_step, ..Self::default() }
    }

    /// Tells what is new since the last time.
    fn tell(&mut self, task: &Task) -> PyResult<()> {
        if let Some(on_step) = &self.on_step {
            for loss in task.losses().into_iter().skip(self.steps) {
                on_step.call1((self.steps, loss))?;
                self.steps += 1;
            }
        }
        if let Some(progress) = &self.progress {
            let now = task.progress();
            if now != self.told && now.1 > 0 {
                self.told = now;
                progress.call1(now)?;
            }
        }
        Ok(())
    }
}

/// Runs `work`, about `cost` multiply-adds, without the GIL. Ctrl-C and an exception raised by a
/// listener cancel it and come back unchanged.
pub(crate) fn run<T, W>(
    py: Python<'_>,
    cost: usize,
    mut listeners: Listeners<'_>,
    work: W,
) -> PyResult<T>
where
    T: Send,
    W: FnOnce(&Task) -> picopq::Result<T> + Send,
{
    let task = Task::new();
    let result = if cost < SMALL {
        py.detach(|| work(&task))
    } else {
        watched(py, &task, &mut listeners, work)?
    };
    let value = result.map_err(|error| to_python(py, error))?;
    listeners.tell(&task)?;
    Ok(value)
}

/// Runs `work` on a thread of its own while this one watches.
fn watched<T, W>(
    py: Python<'_>,
    task: &Task,
    listeners: &mut Listeners<'_>,
    work: W,
) -> PyResult<picopq::Result<T>>
where
    T: Send,
    W: FnOnce(&Task) -> picopq::Result<T> + Send,
{
    // Held outside the closure, so that it survives a machine that refuses the thread.
    let work = Mutex::new(Some(work));
    let take = || work.lock().ok().and_then(|mut work| work.take());
    let over = AtomicBool::new(false);
    let watcher = thread::current();
    thread::scope(|scope| {
        let spawned = thread::Builder::new().spawn_scoped(scope, || {
            // Also set when the work panics, or the watcher would wait for ever.
            let _signal = OnDrop(|| {
                over.store(true, Ordering::Release);
                watcher.unpark();
            });
            take().map(|work| work(task))
        });
        let Ok(worker) = spawned else {
            return Ok(py.detach(|| take().map(|work| work(task))));
        };
        let mut verdict = Ok(());
        while !over.load(Ordering::Acquire) {
            py.detach(|| thread::park_timeout(TICK));
            if verdict.is_ok() {
                verdict = py.check_signals().and_then(|()| listeners.tell(task));
                if verdict.is_err() {
                    task.cancel();
                }
            }
        }
        let result = py.detach(|| worker.join());
        verdict?;
        Ok(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
    .map(|result| result.unwrap_or(Err(picopq::Error::Cancelled)))
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
