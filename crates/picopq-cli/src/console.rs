//! The terminal: progress, answers, complaints, Ctrl-C.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use picopq::{Error, Task};
use serde_json::Value;

use crate::args::Global;

/// How often a bar moves.
const BAR: Duration = Duration::from_millis(100);
/// Work that takes less is not worth a line.
const SHORT: f64 = 1.0;
/// How often a line is printed where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

const USAGE: i32 = 2;
const DATA: i32 = 65;
const SYSTEM: i32 = 71;
const INPUT_OUTPUT: i32 = 74;
const INTERRUPT: i32 = 130;

/// Why the program ends early; an empty message is not printed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into() }
    }

    pub(crate) fn data(message: impl Into<String>) -> Self {
        Self { code: DATA, message: message.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (code, advice) = match &error {
            // The one who listened has gone.
            Error::Io { kind: io::ErrorKind::BrokenPipe, .. } => {
                return Self { code: 0, message: String::new() };
            }
            Error::Io { kind: io::ErrorKind::NotFound, .. } => (INPUT_OUTPUT, "check the path"),
            Error::Io { kind: io::ErrorKind::StorageFull, .. } => (INPUT_OUTPUT, "free some space"),
            Error::Io { .. } => (INPUT_OUTPUT, ""),
            Error::Cancelled => {
                return Self { code: INTERRUPT, message: "interrupted".into() };
            }
            Error::OutOfMemory { .. } => (SYSTEM, "give fewer rows at once"),
            Error::OutOfRange { .. } => (USAGE, ""),
            Error::NotDivisible { .. } => (USAGE, "choose -m among the divisors"),
            Error::KernelsUnavailable { .. } => (USAGE, "unset the variable"),
            Error::DimensionMismatch { .. } => (DATA, "give files that belong together"),
            Error::TooFewRows { .. } => (DATA, "lower --ks or give more vectors"),
            Error::NonFinite { .. } | Error::TooLarge { .. } => (DATA, "remove or scale such rows"),
            Error::CodeOutOfRange { .. } => (DATA, "give the model that made the codes"),
            Error::BadField { field, .. } if field.contains("fingerprint") => {
                (DATA, "remove the partial file or leave out --resume")
            }
            Error::Truncated { .. } | Error::Checksum { .. } => (DATA, "get the file anew"),
            _ => (DATA, ""),
        };
        let separator = if advice.is_empty() { "" } else { "; " };
        Self { code, message: format!("{error}{separator}{advice}") }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let (kind, code) = (error.kind(), error.raw_os_error());
        Error::Io { file: "standard output".into(), kind, code }.into()
    }
}

/// One line on standard error.
pub(crate) fn complain(message: &str) {
    // Nobody is left to tell.
    let _ = writeln!(io::stderr(), "picopq: {message}");
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static CURRENT: Mutex<Option<Arc<Task>>> = Mutex::new(None);

fn current(task: Option<Arc<Task>>) {
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = task;
}

/// The first Ctrl-C (or SIGTERM) stops the work in good order, the second at once.
pub(crate) fn catch_interrupts() {
    // Fails only in a process that runs this twice, whose first handler serves on.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Relaxed) {
            std::process::exit(INTERRUPT);
        }
        let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &*current {
            task.cancel();
        }
    });
}

/// What the user wants to see.
pub(crate) struct Console {
    quiet: bool,
    json: bool,
}

impl Console {
    pub(crate) fn new(global: &Global) -> Self {
        Self { quiet: global.quiet, json: global.json }
    }

    /// Runs `work` under a label, shows how far it is in `unit`s, and how long it took.
    pub(crate) fn run<T>(
        &self,
        label: &str,
        unit: &str,
        work: impl FnOnce(&Task) -> picopq::Result<T>,
    ) -> Result<T, Failure> {
        let task = Arc::new(Task::new());
        current(Some(Arc::clone(&task)));
        if INTERRUPTED.load(Relaxed) {
            task.cancel();
        }
        let start = Instant::now();
        let (stop, stopped) = channel::<()>();
        let result = thread::scope(|scope| {
            if !self.quiet {
                let task = &task;
                scope.spawn(move || {
                    let display = Display::new(label, unit, start);
                    while stopped.recv_timeout(display.pause()) == Err(RecvTimeoutError::Timeout) {
                        display.show(task.progress());
                    }
                    display.clear();
                });
            }
            // Dropped also when the work panics, or the scope would wait for ever.
            let _stop = stop;
            work(&task)
        });
        current(None);
        let result = result?;
        let (done, seconds) = (task.progress().0, start.elapsed().as_secs_f64());
        if done > 0 && seconds >= SHORT {
            let rate = done as f64 / seconds;
            self.note(&format!("{label}: {done} {unit} in {seconds:.2} s, {rate:.0} {unit}/s"));
        }
        Ok(result)
    }

    /// A line that is not an answer.
    pub(crate) fn note(&self, message: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{message}");
        }
    }

    /// What was asked for.
    pub(crate) fn answer(&self, human: &str, json: &Value) -> Result<(), Failure> {
        let mut out = io::stdout();
        if self.json {
            writeln!(out, "{json}")?;
        } else {
            writeln!(out, "{human}")?;
        }
        Ok(out.flush()?)
    }

    /// What was done: a note, or JSON, which makes room where standard output has the data.
    pub(crate) fn done(
        &self,
        human: &str,
        json: &Value,
        output: &std::path::Path,
    ) -> Result<(), Failure> {
        if !self.json {
            self.note(human);
            return Ok(());
        }
        if crate::files::is_standard(output) {
            let _ = writeln!(io::stderr(), "{json}");
            return Ok(());
        }
        self.answer(human, json)
    }
}

/// A bar on a terminal, a line now and then elsewhere.
struct Display<'a> {
    label: &'a str,
    unit: &'a str,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl<'a> Display<'a> {
    fn new(label: &'a str, unit: &'a str, start: Instant) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::no_length();
            bar.set_prefix(label.to_string());
            bar
        });
        Self { label, unit, start, bar }
    }

    fn pause(&self) -> Duration {
        if self.bar.is_some() { BAR } else { LINE }
    }

    fn show(&self, (done, total): (u64, u64)) {
        let (label, unit) = (self.label, self.unit);
        let rate = done as f64 / self.start.elapsed().as_secs_f64();
        let left = (rate > 0.0 && total > 0).then(|| (total - done.min(total)) as f64 / rate);
        let Some(bar) = &self.bar else {
            let of = if total > 0 { format!(" of {total}") } else { String::new() };
            let left = left.map_or(String::new(), |left| format!(", {left:.0} s left"));
            let _ = writeln!(io::stderr(), "{label}: {done}{of} {unit}, {rate:.0} {unit}/s{left}");
            return;
        };
        let template = if total > 0 {
            "{prefix} {bar:30} {human_pos}/{human_len} {msg}, {eta} left"
        } else {
            "{prefix} {spinner} {human_pos} {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if total > 0 {
            bar.set_length(total);
        }
        bar.set_message(format!("{unit}, {rate:.0} {unit}/s"));
        bar.set_position(done);
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
