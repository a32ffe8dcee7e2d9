//! A file for each command: open, call the library, report.

mod convert;
mod decode;
mod demo;
mod encode;
mod eval;
mod info;
mod report;
mod search;
mod train;

use std::io::{self, Write};

use clap::CommandFactory;

use crate::args::{Arguments, Command};
use crate::console::{Console, Failure};

pub(crate) fn run(command: Command, console: &Console) -> Result<(), Failure> {
    match command {
        Command::Train(options) => train::run(&options, console),
        Command::Encode(options) => encode::encode(&options, console),
        Command::Index(options) => encode::index(&options, console),
        Command::Decode(options) => decode::run(&options, console),
        Command::Search(options) => search::run(&options, console),
        Command::Eval(options) => eval::run(&options, console),
        Command::Convert(options) => convert::run(&options, console),
        Command::Info(options) => info::run(&options, console),
        Command::Report(options) => report::run(&options, console),
        Command::Demo => demo::run(console),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "picopq", &mut script);
            print(&script)
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
            print(&page)
        }
    }
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}
