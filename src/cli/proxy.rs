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

use std::{io, process::ExitCode, thread, time::Duration};

use bytesize::ByteSize;
use shadowcat::{
    budget::{Budget, TooSmall},
    resources::Resources,
    telemetry::{Log, metrics::labels::Link},
    transport::{http::Client, listen::Address},
    verify::Verify,
};
use tokio::runtime::{self, Runtime};

use super::{
    advice,
    args::{ProxyArgs, Switch, listen::ListenAddr, log::LogArgs, server::ServerAddr},
    config::Settings,
    exit::{Failure, RUNTIME, USAGE},
};
use scraping::Scraping;

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
        (None, Some(ServerAddr::Url(_))) => dial::run(args),
        (None, Some(ServerAddr::Socket(target))) => socket::run(target, args),
    }
}

/// What reaches the server at the URL that was asked for.
fn client(args: &ProxyArgs, link: Link, resources: &Resources) -> Result<Client, Failure> {
    let Some(ServerAddr::Url(url)) = &args.url else { return Err(Failure::new(USAGE, "no URL of a server")) };
    let mut config = args.upstream.client_config(url)?;
    config.budget = resources.budget.clone();
    config.blocked_of = Some((resources.metrics.clone(), link));
    Client::new(config).map_err(|error| advice::unreachable(&error))
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

/// Runs a session on stdin and stdout to its end, with its log and whoever collects counters, and judges how it ended.
fn run_session<T>(
    log: &LogArgs,
    scraping: Scraping,
    session: impl AsyncFnOnce(&Log) -> Result<T, Failure>,
    judge: impl FnOnce(&T) -> Result<ExitCode, Failure>,
) -> Result<ExitCode, Failure> {
    let format = log.log_format.into();
    let log = Log::start(log.log_level.into(), format);
    let runtime = single_threaded()?;
    let outcome = runtime.block_on(scraping.during(format, session(&log)));
    // A helper thread may still be waiting for a file or a terminal; it ends with the process.
    runtime.shutdown_background();
    log.finish();
    outcome.and_then(|outcome| judge(&outcome)).map_err(|failure| failure.with_format(format))
}

fn broken(what: &str, error: &io::Error) -> Failure {
    Failure::new(RUNTIME, format!("{what}: {error}"))
}

/// One thread, which is all that a client on stdin and stdout can keep busy.
fn single_threaded() -> Result<Runtime, Failure> {
    started(runtime::Builder::new_current_thread().enable_io().enable_time().build())
}

/// A thread for each processor that we may run on. Where that is one, threads would only wake each other.
fn multi_threaded() -> Result<Runtime, Failure> {
    if thread::available_parallelism().is_ok_and(|count| count.get() == 1) {
        return single_threaded();
    }
    started(runtime::Builder::new_multi_thread().enable_io().enable_time().build())
}

fn started(runtime: io::Result<Runtime>) -> Result<Runtime, Failure> {
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
