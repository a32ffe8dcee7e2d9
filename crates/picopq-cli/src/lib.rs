//! picopq's command line: what was typed becomes calls of the library, and their results text.
//!
//! ```text
//! args (what was typed) -> files (what it names) -> commands (open, call, report)
//!                                  console (progress, answers, errors, Ctrl-C)
//! ```
//! The computing is the library's. Exit codes: 0, 2 for a wrong command line, 65 for wrong data, 74
//! for failed input or output, 130 for an interrupt. Where the reader of standard output goes away,
//! the program ends quietly with 0.

mod args;
mod commands;
mod console;
mod files;

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;

use args::Arguments;
use console::{Console, Failure};

/// Runs the program with its arguments, the program's name first; returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let code = serve(arguments);
    // A host program does not flush this for us; its failure was met where the writing was.
    let _ = std::io::stdout().flush();
    code
}

fn serve(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe takes no help text.
            let _ = error.print();
            return error.exit_code();
        }
    };
    console::catch_interrupts();
    picopq::set_num_threads(arguments.global.threads);
    let console = Console::new(&arguments.global);
    match commands::run(arguments.command, &console) {
        Ok(()) => 0,
        Err(Failure { code, message }) => {
            if !message.is_empty() {
                console::complain(&message);
            }
            code
        }
    }
}

/// The exit code that arguments have without running: that of a wrong command line or of a help
/// text, which is made. For the fuzz targets.
#[cfg(fuzzing)]
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<i32> {
    let error = Arguments::try_parse_from(arguments).err()?;
    let _ = error.render().ansi().to_string();
    Some(error.exit_code())
}
