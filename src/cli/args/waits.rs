//! Arguments that say how long who is waited for. What they are for is said in their help; `scope` refuses the rest.

use std::time::Duration;

use clap::{ArgAction, Args as ClapArgs};
use shadowcat::{
    link::waits::{SlowConsumer, Waits},
    session::ResponseTimeouts,
};

use super::parse_duration;

/// How long who is waited for. By default tools and humans may take hours.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Time")]
pub(crate) struct WaitArgs {
    /// How long the server may take to answer a request; progress, and over HTTP keep-alive, begin it anew [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) response_timeout: Option<Duration>,

    /// The same for one method, such as tools/call=10m, or tools/call=off; may be repeated
    #[arg(long, value_name = "METHOD=DURATION", value_parser = parse_method, action = ArgAction::Append)]
    pub(crate) response_timeout_for: Vec<(Box<str>, Option<Duration>)>,

    /// Where HTTP clients are in front of a command: how long an event stream may be silent before it gets a comment,
    /// so that nobody on the way cuts it [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive)]
    pub(crate) keep_alive: Option<Duration>,

    /// What becomes of a client that reads nothing of what is there for it: pause, to have its server wait, or
    /// disconnect:DURATION. Over HTTP, pause needs --child per-client, and lasts no longer than --write-timeout
    /// [default: pause on stdin and stdout, disconnect:1m for clients that connect]
    #[arg(long, value_name = "WHAT", value_parser = parse_slow_consumer)]
    pub(crate) slow_consumer: Option<SlowConsumer>,

    /// Where the server is a command or a socket: how long it may say nothing while a request waits, before the session
    /// ends, and with it the server [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) stdio_read_timeout: Option<Duration>,

    /// There too: how long it may read nothing of what is there for it, and say nothing [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) stdio_write_timeout: Option<Duration>,

    /// Where the server is a URL: how long a stream that is asked for with GET may take to begin [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) sse_connect_timeout: Option<Duration>,

    /// There too: how long an event stream may bring nothing at all, comments included, before it is broken off, and
    /// resumed where the client speaks lines [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) sse_read_timeout: Option<Duration>,
}

impl WaitArgs {
    /// How long answers may take.
    pub(crate) fn response(&self) -> ResponseTimeouts {
        ResponseTimeouts::new(self.response_timeout, self.response_timeout_for.iter().cloned())
    }

    /// What was typed, and `default` for the rest.
    pub(crate) fn or(&self, default: Waits) -> Waits {
        let mut waits = default;
        waits.response = self.response();
        waits.server_read = self.stdio_read_timeout.or(waits.server_read);
        waits.server_write = self.stdio_write_timeout.or(waits.server_write);
        waits.sse_connect = self.sse_connect_timeout.or(waits.sse_connect);
        waits.sse_read = self.sse_read_timeout.or(waits.sse_read);
        waits.slow_consumer = self.slow_consumer.unwrap_or(waits.slow_consumer);
        waits
    }
}

fn parse_method(typed: &str) -> Result<(Box<str>, Option<Duration>), String> {
    let wanted = || "want METHOD=DURATION, such as tools/call=10m, or METHOD=off".to_owned();
    let (method, limit) = typed.split_once('=').ok_or_else(wanted)?;
    if method.is_empty() {
        return Err(wanted());
    }
    let limit = match limit {
        "off" => None,
        limit => Some(parse_duration(limit).map_err(|error| error.to_string())?),
    };
    Ok((method.into(), limit))
}

/// Without a pause there would be nothing but comments.
fn parse_positive(typed: &str) -> Result<Duration, String> {
    let duration = parse_duration(typed).map_err(|error| error.to_string())?;
    if duration < Duration::from_millis(10) { Err("want at least 10ms".to_owned()) } else { Ok(duration) }
}

fn parse_slow_consumer(typed: &str) -> Result<SlowConsumer, String> {
    match typed.split_once(':') {
        None if typed == "pause" => Ok(SlowConsumer::Pause),
        Some(("disconnect", limit)) => {
            // A bare number is seconds.
            let limit = limit.parse().map(Duration::from_secs).or_else(|_| parse_duration(limit));
            limit.map(SlowConsumer::Disconnect).map_err(|error| error.to_string())
        }
        _ => Err("want pause, or disconnect:DURATION, such as disconnect:60s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_typed_with_its_limit_or_none() {
        assert_eq!(parse_method("tools/call=10m"), Ok(("tools/call".into(), Some(Duration::from_secs(600)))));
        assert_eq!(parse_method("tools/call=off"), Ok(("tools/call".into(), None)));
        for wrong in ["tools/call", "=1s", "tools/call=soon", ""] {
            assert!(parse_method(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_slow_client_is_waited_for_or_cut_off() {
        assert_eq!(parse_slow_consumer("pause"), Ok(SlowConsumer::Pause));
        for (typed, limit) in [("disconnect:60", 60), ("disconnect:60s", 60), ("disconnect:2m", 120)] {
            assert_eq!(parse_slow_consumer(typed), Ok(SlowConsumer::Disconnect(Duration::from_secs(limit))));
        }
        for wrong in ["", "disconnect", "disconnect:", "disconnect:soon", "pause:1s", "wait"] {
            assert!(parse_slow_consumer(wrong).is_err(), "{wrong}");
        }
    }
}
