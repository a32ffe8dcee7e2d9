//! The process's thread pool, and what a caller sees of a long call: progress and cancellation.
//!
//! All parallel work of the crate goes through [`map`]: items in, results out in the order of the
//! items, whatever the number of threads. The pool belongs to one process: after a fork the child
//! makes its own, and the parent's (whose threads do not exist there) is leaked, never dropped.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use rayon::prelude::*;

use crate::error::{Error, Result, with_capacity};

/// A running call as others see it: how far it is, and a way to stop it.
///
/// Share it with another thread by reference; every long call of this crate takes one, and one
/// task serves one call.
///
/// ```
/// let task = picopq::Task::new();
/// task.cancel();
/// let vectors = picopq::Vectors::new(&[0.0; 64], 2)?;
/// let options = picopq::PqOptions { ks: 4, ..picopq::PqOptions::new(1) };
/// assert!(matches!(
///     picopq::Pq::train(vectors, &options, &task),
///     Err(picopq::Error::Cancelled)
/// ));
/// # Ok::<(), picopq::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Task {
    cancelled: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
    losses: Mutex<Vec<f64>>,
}

impl Task {
    /// A task that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the call to stop; it returns [`Error::Cancelled`] at its next check, within
    /// milliseconds.
    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    /// Whether someone asked the call to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    /// Units of work finished and units in all; `(0, 0)` before the call has begun. The unit is
    /// the call's own: rows for encode and decode, k-means steps for training.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        (self.done.load(Relaxed), self.total.load(Relaxed))
    }

    /// Mean squared error after each finished rotation of an OPQ training, as far as it is.
    #[must_use]
    pub fn losses(&self) -> Vec<f64> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn begin(&self, total: u64) {
        self.done.store(0, Relaxed);
        self.total.store(total, Relaxed);
    }

    pub(crate) fn advance(&self, units: u64) {
        self.done.fetch_add(units, Relaxed);
    }

    pub(crate) fn report_loss(&self, loss: f64) {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner).push(loss);
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// The number asked for by [`set_num_threads`]; 0 = not asked.
static REQUESTED: AtomicUsize = AtomicUsize::new(0);
static POOL: ArcSwapOption<ProcessPool> = ArcSwapOption::const_empty();

struct ProcessPool {
    process: u32,
    threads: usize,
    pool: rayon::ThreadPool,
    /// One thread fewer, for work in which the caller takes part: with one more than there is work
    /// for, the system would have to share out processors.
    crew: OnceLock<Option<rayon::ThreadPool>>,
    /// Items that the crew has before it.
    waiting: AtomicUsize,
}

impl ProcessPool {
    /// Whether each thread has a processor to itself.
    fn is_spacious(&self) -> bool {
        self.threads <= available()
    }

    /// Whether no thread of the crew could help.
    fn is_busy(&self) -> bool {
        self.waiting.load(Relaxed) >= self.threads - 1
    }

    /// `None` where they cannot be started.
    fn crew(&self) -> Option<&rayon::ThreadPool> {
        self.crew.get_or_init(|| started(self.threads - 1, "picopq-crew")).as_ref()
    }
}

/// How many processors a process may use, below the id of the process.
static AVAILABLE: AtomicU64 = AtomicU64::new(0);

/// Processors that this process may use. They are counted once, which takes ten microseconds.
fn available() -> usize {
    let (process, known) = (std::process::id(), AVAILABLE.load(Relaxed));
    if (known >> u32::BITS) as u32 == process {
        return known as u32 as usize;
    }
    let count = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    AVAILABLE.store(u64::from(process) << u32::BITS | count as u64, Relaxed);
    count
}

/// More threads than any processor has today.
const MAX_THREADS: usize = 1024;

/// Sets how many threads (at most 1024) later calls use; 0 returns to the default: the positive
/// number in `PICOPQ_NUM_THREADS`, else one for each processor that is available when a process first
/// needs their number, or after this call. Results do not depend on it.
pub fn set_num_threads(threads: usize) {
    if threads == 0 {
        AVAILABLE.store(0, Relaxed);
    }
    REQUESTED.store(threads, Relaxed);
}

/// The number of threads that the next call uses.
#[must_use]
pub fn num_threads() -> usize {
    let positive = |threads: &usize| *threads > 0;
    Some(REQUESTED.load(Relaxed))
        .filter(positive)
        .or_else(|| std::env::var("PICOPQ_NUM_THREADS").ok()?.trim().parse().ok().filter(positive))
        .unwrap_or_else(available)
        .min(MAX_THREADS)
}

/// This process's pool, made or replaced where needed; `None` where no thread can be started.
fn pool(threads: usize) -> Option<Arc<ProcessPool>> {
    let process = std::process::id();
    if let Some(current) = &*POOL.load()
        && (current.process, current.threads) == (process, threads)
    {
        return Some(Arc::clone(current));
    }
    // A machine that refuses so many may grant fewer.
    let halves = std::iter::successors(Some(threads), |&threads| Some(threads / 2));
    let pool =
        halves.take_while(|&threads| threads > 1).find_map(|threads| started(threads, "picopq"))?;
    let fresh = Arc::new(ProcessPool {
        process,
        threads,
        pool,
        crew: OnceLock::new(),
        waiting: AtomicUsize::new(0),
    });
    if let Some(old) = POOL.swap(Some(Arc::clone(&fresh)))
        && old.process != process
    {
        // Dropping it would signal threads that the fork did not copy.
        std::mem::forget(old);
    }
    Some(fresh)
}

fn started(threads: usize, name: &'static str) -> Option<rayon::ThreadPool> {
    let name = move |index| format!("{name}-{index}");
    rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build().ok()
}

/// A lock of one process: what a thread of the parent held at a fork, which no thread of the child
/// would ever release, is not held there.
pub(crate) struct ProcessLock(ArcSwap<OwnLock>);

/// The lock as one process has it.
pub(crate) struct OwnLock {
    process: u32,
    lock: Mutex<()>,
}

impl ProcessLock {
    /// This process's lock.
    pub(crate) fn mine(&self) -> Arc<OwnLock> {
        let process = std::process::id();
        if self.0.load().process != process {
            let fresh = Arc::new(OwnLock::of(process));
            // Of several threads that find the parent's, the first replaces it.
            self.0.rcu(|lock| Arc::clone(if lock.process == process { lock } else { &fresh }));
        }
        self.0.load_full()
    }
}

impl Default for ProcessLock {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(OwnLock::of(std::process::id())))
    }
}

impl OwnLock {
    fn of(process: u32) -> Self {
        Self { process, lock: Mutex::new(()) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `work` on every item, results in the order of the items. One item, one thread, or a machine
/// that refuses threads: on the caller's thread. The task is checked before each item; the first
/// error stops the rest.
pub(crate) fn map<I, T, W>(task: &Task, items: Vec<I>, work: W) -> Result<Vec<T>>
where
    I: Send,
    T: Send,
    W: Fn(I) -> Result<T> + Sync,
{
    let one = |item| {
        task.check()?;
        work(item)
    };
    // Each item may be taken by another thread: a run of them that stayed with one would end late.
    let spread = |items: Vec<I>| items.into_par_iter().with_max_len(1).map(&one).collect();
    let threads = if items.len() > 1 { num_threads() } else { 1 };
    if threads > 1 && rayon::current_thread_index().is_some() {
        return spread(items);
    }
    let Some(mine) = Some(threads).filter(|&threads| threads > 1).and_then(pool) else {
        return items.into_iter().map(one).collect();
    };
    let works = WORKS.get();
    match if works || items.len() <= threads { mine.crew() } else { None } {
        Some(_) if works && mine.is_busy() => items.into_iter().map(one).collect(),
        Some(crew) if works => crew.install(|| spread(items)),
        Some(crew) => each_its_own(crew, &mine, items, one),
        None => mine.pool.install(|| spread(items)),
    }
}

thread_local! {
    /// Whether this thread, which is none of the crew, works on its own item.
    static WORKS: Cell<bool> = const { Cell::new(false) };
}

/// Restores what [`WORKS`] was, whatever happens meanwhile.
struct Worked(bool);

impl Drop for Worked {
    fn drop(&mut self) {
        WORKS.set(self.0);
    }
}

/// Counts an item as done, whatever happens to it.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// How long a thread stays awake for what is likely to come at once: falling asleep and waking takes
/// tens of microseconds, which short searches feel.
const PATIENCE: Duration = Duration::from_micros(100);

/// Numbers the calls of [`each_its_own`].
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Keeps a thread awake for a while. Where nobody else wants its processor it spins, as a thread that
/// yields is switched out dozens of times in a search.
fn wait_while(spacious: bool, waiting: impl Fn() -> bool) {
    let started = Instant::now();
    while waiting() && started.elapsed() < PATIENCE {
        if spacious { std::hint::spin_loop() } else { std::thread::yield_now() }
    }
}

/// An item for each thread, the first of them on the caller's, which then does not wait for
/// another to wake up.
fn each_its_own<I: Send, T: Send>(
    crew: &rayon::ThreadPool,
    mine: &ProcessPool,
    items: Vec<I>,
    one: impl Fn(I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut results = with_capacity(items.len(), "the results")?;
    results.resize_with(items.len(), || None);
    let call = CALLS.fetch_add(1, Relaxed) + 1;
    let (one, left) = (&one, &AtomicUsize::new(items.len() - 1));
    let spacious = mine.is_spacious();
    mine.waiting.fetch_add(items.len() - 1, Relaxed);
    crew.in_place_scope(|scope| {
        let mut pairs = items.into_iter().zip(&mut results);
        let first = pairs.next();
        for (item, result) in pairs {
            scope.spawn(move |_| {
                let _done = Done(&mine.waiting);
                *result = Some(one(item));
                // Before the caller sees that nothing is left: it would fall asleep meanwhile.
                rayon::spawn(move || wait_while(spacious, || CALLS.load(Relaxed) == call));
                left.fetch_sub(1, Relaxed);
            });
        }
        if let Some((item, result)) = first {
            let _worked = Worked(WORKS.replace(true));
            *result = Some(one(item));
        }
        // Items are of one length: the others end soon.
        wait_while(spacious, || left.load(Relaxed) > 0);
    });
    results.into_iter().flatten().collect()
}

/// `len` zeros, in steps between which a cancelled task ends: new memory takes its time.
pub(crate) fn zeroed(len: usize, what: &'static str, task: &Task) -> Result<Vec<f32>> {
    const STEP: usize = 1 << 22;
    let mut zeros = with_capacity(len, what)?;
    while zeros.len() < len {
        task.check()?;
        zeros.resize(len.min(zeros.len() + STEP), 0.0);
    }
    Ok(zeros)
}

/// How often an abandonable call looks whether it is cancelled.
const TICK: Duration = Duration::from_millis(10);

/// Runs one indivisible piece of work so that a cancelled task does not wait for its end: on a
/// thread of its own, which is left to finish by itself.
pub(crate) fn abandonable<T, W>(task: &Task, work: W) -> Result<T>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    let (sender, receiver) = mpsc::sync_channel(1);
    let work = Arc::new(Mutex::new(Some(work)));
    let take = |work: &Mutex<Option<W>>| work.lock().ok().and_then(|mut work| work.take());
    let theirs = Arc::clone(&work);
    let spawned = std::thread::Builder::new().name("picopq-linalg".into()).spawn(move || {
        if let Some(work) = take(&theirs) {
            // A receiver that is gone has been cancelled.
            let _ = sender.send(work());
        }
    });
    if spawned.is_err()
        && let Some(work) = take(&work)
    {
        return Ok(work());
    }
    loop {
        task.check()?;
        match receiver.recv_timeout(TICK) {
            Ok(value) => return Ok(value),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the work panicked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_call_returns_at_once() {
        let task = Task::new();
        assert_eq!(abandonable(&task, || 7), Ok(7));
        let (release, wait) = mpsc::channel::<()>();
        task.cancel();
        assert_eq!(abandonable(&task, move || wait.recv().is_ok()), Err(Error::Cancelled));
        drop(release);
    }

    #[test]
    fn results_stand_in_the_order_of_the_items() {
        let squares = map(&Task::new(), (0..1000_u64).collect(), |i| Ok(i * i)).unwrap();
        assert!(squares.iter().enumerate().all(|(i, &square)| square == (i * i) as u64));
    }

    #[test]
    fn a_cancelled_task_does_no_work() {
        let task = Task::new();
        task.cancel();
        let result: Result<Vec<()>> = map(&task, vec![0; 10], |_| panic!("worked"));
        assert_eq!(result, Err(Error::Cancelled));
    }
}
