//! `shadowcat proxy`: which link the arguments ask for.
//!
//! | | `-- COMMAND` | `URL` | `unix:` or `tcp:` |
//! |---|---|---|---|
//! | **stdin and stdout** | [`pipe`] | [`dial`] | [`socket`] |
//! | **`--listen ADDR`** | [`http`] | [`http`] | refused |
//! | **`--listen unix:`, `tcp:`** | [`lines`] | [`lines`] | [`lines`] |

mod command;
mod dial;
mod http;
mod lines;
mod pipe;
mod scraping;
mod socket;
mod stopping;

use std::{process::ExitCode, time::Duration};

use bytesize::ByteSize;
use shadowcat::{
    budget::{Budget, TooSmall},
    resources::Resources,
    transport::{http::Client, listen::Address},
    verify::Verify,
};
use tokio::runtime::{self, Runtime};

use super::{
    args::{ProxyArgs, Switch, listen::ListenAddr, server::ServerAddr},
    config::Settings,
    exit::{Failure, RUNTIME, USAGE},
};

/// Runs the link to its end.
pub(crate) fn run(settings: Settings) -> Result<ExitCode, Failure> {
    if !settings.servers.is_empty() {
        return http::run(settings);
    }
    let args = &settings.whole.args;
    let has_command = !args.command.is_empty();
    match (&args.listen.listen, &args.url) {
        (_, None) if !has_command => {
            let line =
                "no server: 'shadowcat proxy URL' or 'shadowcat proxy -- COMMAND [ARG…]'; see 'shadowcat proxy --help'";
            Err(Failure::new(USAGE, line))
        }
        (Some(ListenAddr::Tcp(address)), _) => lines::run(Address::Tcp(*address), settings.whole.args),
        (Some(ListenAddr::Unix(path)), _) => lines::run(Address::Unix(path.clone()), settings.whole.args),
        (Some(_), _) => http::run(settings),
        (None, None) => pipe::run(settings.whole.args),
        (None, Some(ServerAddr::Url(_))) => dial::run(settings.whole.args),
        (None, Some(ServerAddr::Socket(target))) => socket::run(target.clone(), args),
    }
}

/// What reaches the server at the URL that was asked for.
fn client(args: &ProxyArgs, budget: &Budget) -> Result<Client, Failure> {
    let Some(ServerAddr::Url(url)) = &args.url else { return Err(Failure::new(USAGE, "no URL of a server")) };
    let mut config = args.upstream.client_config(url)?;
    config.budget = budget.clone();
    Client::new(config).map_err(|error| Failure::new(USAGE, format!("the server cannot be reached like this: {error}")))
}

/// What the sessions of this process share. To be called once.
fn resources(args: &ProxyArgs) -> Result<Resources, Failure> {
    let total = usize::try_from(args.memory_budget.as_u64()).unwrap_or(usize::MAX);
    let max_frame_len = args.limits()?.max_frame_len();
    let budget = Budget::new(total, max_frame_len).map_err(|TooSmall { least, .. }| {
        let (budget, longest, least) = (args.memory_budget, args.max_frame_len, ByteSize::b(least as u64));
        let line = format!(
            "--memory-budget {budget} is too little for --max-frame-len {longest}: with what sessions need beside one \
             such message, at least {least}"
        );
        Failure::new(USAGE, line)
    })?;
    let mut resources = Resources::default();
    resources.budget = budget.with_wait(args.memory_timeout);
    if args.pool == Switch::On {
        resources.budget = resources.budget.with_pools();
    }
    if args.verify {
        let failed = |error| Failure::new(RUNTIME, format!("the operating system gives no random bytes: {error}"));
        resources.verify = Verify::on().map_err(failed)?;
    }
    Ok(resources)
}

/// How long connecting to a server's socket may take.
fn connect_timeout(args: &ProxyArgs) -> Duration {
    args.upstream.reach.connect_timeout.unwrap_or(CONNECT_TIMEOUT)
}

/// As [`Client`] has it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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

/// When a server ended, if it was too early.
fn too_early(orphans: usize) -> String {
    match orphans {
        0 => "before the client was done".to_owned(),
        1 => "with 1 request unanswered".to_owned(),
        orphans => format!("with {orphans} requests unanswered"),
    }
}
