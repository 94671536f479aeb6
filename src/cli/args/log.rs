//! Arguments that say what is logged on stderr, and how; for whatever link.
//!
//! The names of levels and formats are the command's; what they mean is the library's `telemetry`. Nothing here says
//! where the log goes: stdout is the wire, so it is always stderr.

use clap::{Args as ClapArgs, ValueEnum};
use shadowcat::telemetry::LogFormat;

/// How much is logged, and how.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Log")]
pub(crate) struct LogArgs {
    /// What to log on stderr; at debug, one line a message
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub(crate) log_level: LogLevel,

    /// How log lines look
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormatName,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormatName {
    Text,
    Json,
}

impl From<LogLevel> for Option<tracing::Level> {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => None,
            LogLevel::Error => Some(tracing::Level::ERROR),
            LogLevel::Warn => Some(tracing::Level::WARN),
            LogLevel::Info => Some(tracing::Level::INFO),
            LogLevel::Debug => Some(tracing::Level::DEBUG),
            LogLevel::Trace => Some(tracing::Level::TRACE),
        }
    }
}

impl From<LogFormatName> for LogFormat {
    fn from(format: LogFormatName) -> Self {
        match format {
            LogFormatName::Text => Self::Text,
            LogFormatName::Json => Self::Json,
        }
    }
}
