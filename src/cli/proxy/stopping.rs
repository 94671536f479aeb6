//! What all listeners share: saying where they are, and being told to stop.
//!
//! The first SIGTERM or SIGINT drains, the second ends everything at once.

use std::{
    io::{self, Write as _},
    pin::pin,
};

use futures::future::{Either, select};
use shadowcat::telemetry::LogFormat;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Says something whatever is logged: whoever let the system choose a port has to know it.
pub(super) fn announce(line: &str, level: &str, format: LogFormat) {
    let line = match format {
        LogFormat::Json => {
            serde_json::json!({"level": level, "fields": {"message": line}, "target": "shadowcat"}).to_string()
        }
        _ => line.to_owned(),
    };
    // If stderr is gone there is nobody to tell.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The signals that ask us to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) async fn next(&mut self) {
        select(pin!(self.terminate.recv()), pin!(self.interrupt.recv())).await;
    }
}

/// How often we were told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Once,
    Twice,
}

/// Lets `serving` go on until it ends, or is told to stop twice.
pub(super) async fn serve_until_stopped(
    serving: impl Future<Output = ()>,
    drain: &CancellationToken,
    signals: &mut Signals,
) -> Told {
    let serving = pin!(serving);
    let Either::Right(((), serving)) = select(serving, pin!(signals.next())).await else { return Told::Once };
    drain.cancel();
    tracing::info!("told to stop; finishing what runs");
    let Either::Right(_) = select(serving, pin!(signals.next())).await else { return Told::Once };
    tracing::warn!("told to stop again; what still runs is cut off");
    Told::Twice
}
