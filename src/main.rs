//! The command `shadowcat`: what was typed, what it means, and how it ended.

mod allocator;
mod cli;
#[cfg(unix)]
mod demo;
mod filter;

use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::give_back_large_buffers();
    #[cfg(unix)]
    if let Some(code) = shadowcat::supervise::keeper::run_if_keeper() {
        return code;
    }
    cli::run(std::env::args_os()).unwrap_or_else(|failure| failure.report())
}
