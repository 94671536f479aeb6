//! `shadowcat proxy`: which link the arguments ask for.
//!
//! | | `-- COMMAND` | `URL` |
//! |---|---|---|
//! | **stdin and stdout** | [`pipe`] | dial |
//! | **`--listen`** | [`http`] | [`http`] |

mod command;
mod http;
mod pipe;

use std::process::ExitCode;

use tokio::runtime::{self, Runtime};

use super::{
    args::ProxyArgs,
    exit::{Failure, RUNTIME, USAGE},
};

/// Runs the link to its end.
pub(crate) fn run(args: ProxyArgs) -> Result<ExitCode, Failure> {
    match (&args.url, args.command.is_empty(), &args.listen.listen) {
        (Some(_), _, Some(_)) | (None, false, Some(_)) => http::run(args),
        (None, false, None) => pipe::run(args),
        (Some(_), _, None) => {
            let line = "a client on stdin in front of an HTTP server is not supported yet; add --listen ADDR";
            Err(Failure::new(USAGE, line))
        }
        (None, true, _) => {
            let line =
                "no server: 'shadowcat proxy URL' or 'shadowcat proxy -- COMMAND [ARG…]'; see 'shadowcat proxy --help'";
            Err(Failure::new(USAGE, line))
        }
    }
}

/// One thread, which is all that a client on stdin and stdout can keep busy.
fn single_threaded() -> Result<Runtime, Failure> {
    started(runtime::Builder::new_current_thread().enable_io().enable_time().build())
}

/// A thread for each processor.
fn multi_threaded() -> Result<Runtime, Failure> {
    started(runtime::Builder::new_multi_thread().enable_io().enable_time().build())
}

fn started(runtime: std::io::Result<Runtime>) -> Result<Runtime, Failure> {
    runtime.map_err(|error| Failure::new(RUNTIME, format!("cannot start: {error}")))
}
