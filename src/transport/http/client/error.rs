//! Why a request has no answer, as whoever asked and the log are told: where to, what happened, and all causes.

use std::{error::Error as StdError, fmt, time::Duration};

use http::Uri;
use hyper_util::client::legacy;

use super::connect::{NoRoom, TooSlow};

/// Why there is no answer. The upstream is to blame, or what is between us and it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No connection came about; nothing was sent.
    #[error("cannot connect to {}: {}", Named(url), Chain(&**source))]
    Connect {
        /// Where to.
        url: Uri,
        /// What the system or the TLS library says.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// There is no room for another connection; nothing was sent.
    #[error("no room for a connection to {}: {source}", Named(url))]
    NoRoom {
        /// Where to.
        url: Uri,
        /// The numbers.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// It took longer than it may.
    #[error("{} {} within {} ms", Named(url), waited.what(), after.as_millis())]
    Timeout {
        /// Where to.
        url: Uri,
        /// For what.
        waited: Waited,
        /// The limit.
        after: Duration,
    },
    /// The exchange broke off before the answer's headers; the request may have been taken.
    #[error("{} broke off before it answered: {}", Named(url), Chain(&**source))]
    Broken {
        /// Where to.
        url: Uri,
        /// What happened.
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// What took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to wait for")]
pub enum Waited {
    /// A connection, name look-up and TLS included. Nothing was sent.
    Connection,
    /// The answer's headers. The request may have been taken.
    Answer,
}

impl SendError {
    /// Where the request was to go, without credentials and query.
    #[must_use]
    pub fn destination(&self) -> String {
        let (Self::Connect { url, .. }
        | Self::NoRoom { url, .. }
        | Self::Timeout { url, .. }
        | Self::Broken { url, .. }) = self;
        Named(url).to_string()
    }

    /// What went wrong, without saying where.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::Connect { source, .. } => format!("cannot connect: {}", Chain(&**source)),
            Self::NoRoom { source, .. } => source.to_string(),
            Self::Timeout { waited, .. } => waited.what().to_owned(),
            Self::Broken { source, .. } => format!("broke off before it answered: {}", Chain(&**source)),
        }
    }
}

impl Waited {
    /// What did not happen.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Connection => "could not be connected to",
            Self::Answer => "did not answer",
        }
    }
}

/// Why no connection came about.
pub(super) fn unconnected(url: Uri, source: Box<dyn StdError + Send + Sync>) -> SendError {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&*source);
    while let Some(error) = cause {
        if let Some(TooSlow(after)) = error.downcast_ref() {
            return SendError::Timeout { url, waited: Waited::Connection, after: *after };
        }
        if error.is::<NoRoom>() {
            let source = error.to_string().into();
            return SendError::NoRoom { url, source };
        }
        cause = error.source();
    }
    SendError::Connect { url, source }
}

/// A URL for a log or an error: a query may hold what is secret.
struct Named<'a>(&'a Uri);

/// An error with its causes. What only says that there is a cause is left out.
struct Chain<'a>(&'a (dyn StdError + 'static));

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host().unwrap_or_default();
        write!(f, "{}://{host}", self.0.scheme_str().unwrap_or_default())?;
        if let Some(port) = self.0.port_u16() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut error = self.0;
        if let (Some(cause), true) = (error.source(), error.is::<legacy::Error>()) {
            error = cause;
        }
        write!(f, "{error}")?;
        let mut said = error.to_string();
        while let Some(cause) = error.source() {
            let what = cause.to_string();
            if !said.contains(&what) {
                write!(f, ": {what}")?;
                said = what;
            }
            error = cause;
        }
        Ok(())
    }
}
