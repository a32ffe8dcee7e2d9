//! The program `picopq`.

fn main() {
    std::process::exit(picopq_cli::run(std::env::args_os()));
}
