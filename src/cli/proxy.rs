//! `shadowcat proxy`: which link the arguments ask for.
//!
//! | | `-- COMMAND` | `URL` |
//! |---|---|---|
//! | **stdin and stdout** | [`pipe`] | [`dial`] |
//! | **`--listen`** | [`http`] | [`http`] |

mod command;
mod dial;
mod http;
mod pipe;

use std::process::ExitCode;

use shadowcat::transport::http::Client;
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
        (Some(_), _, None) => dial::run(args),
        (None, true, _) => {
            let line =
                "no server: 'shadowcat proxy URL' or 'shadowcat proxy -- COMMAND [ARG…]'; see 'shadowcat proxy --help'";
            Err(Failure::new(USAGE, line))
        }
    }
}

/// What reaches the server at the URL that was asked for.
fn client(args: &ProxyArgs) -> Result<Client, Failure> {
    let config = args.upstream.client_config(args.url.as_deref().unwrap_or_default())?;
    Client::new(config).map_err(|error| Failure::new(USAGE, format!("the server cannot be reached like this: {error}")))
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
