//! `cargo run --release --manifest-path benches/peers/Cargo.toml -- --peers`: shadowcat beside its peers, end to end.
//!
//! Whole processes on real pipes and loopback sockets: a mock MCP server, a load generator that checks every answer
//! byte by byte, and between them nothing, a floor, shadowcat, or a peer, in turns in one run. `README.md` says how to
//! read it. It decides nothing: timing never does.

mod answer;
mod client;
mod contestant;
mod http;
mod json;
mod lane;
mod load;
mod machine;
mod message;
mod options;
mod plan;
mod process;
mod record;
mod report;
mod serve;

use std::{io, process::ExitCode};

use options::{Options, Task};

fn main() -> ExitCode {
    let done = match Task::from_args(std::env::args().skip(1)) {
        Ok(Task::Help) => {
            println!("{}", options::HELP);
            Ok(())
        }
        Ok(Task::ServeStdio { cpu }) => process::pin_self(cpu).and_then(|()| serve::stdio::serve()),
        Ok(Task::ServeHttp { cpu }) => process::pin_self(cpu).and_then(|()| serve::http::serve()),
        Ok(Task::Render(merged, folder)) => record::merge(&merged, &folder).and_then(|()| report::render(&folder)),
        Ok(Task::Measure(options)) => measure(&options),
        Err(complaint) => {
            eprintln!("{complaint}; --help says what there is");
            return ExitCode::from(64);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> io::Result<()> {
    process::stop_on_signals()?;
    process::raise_file_limit();
    plan::run(options)?;
    report::render(&options.out)?;
    if options.is_smoke { report::complain(&options.out) } else { Ok(()) }
}
