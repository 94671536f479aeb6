//! What links count: the session's words in those of the counters, which know nothing of sessions.

use crate::{
    session::{Reason, StreamKey},
    telemetry::metrics::{
        Metrics,
        labels::{Blame, ErrorReason, TimeoutOf},
    },
    transport::http::{SendError, client::Waited},
};

/// Counts an error that we give somebody for `reason`. `of` is whose message it is about: it is to blame, unless the
/// reason says who is.
#[cold]
pub(super) fn count_error(metrics: &Metrics, reason: &Reason, of: StreamKey) {
    let about = if of == StreamKey::UPSTREAM { Blame::Upstream } else { Blame::Downstream };
    metrics.errors.add((blame(reason).unwrap_or(about), reason.into()), 1);
}

/// Counts what was waited for in vain, if that is why a server over HTTP gave no answer.
#[cold]
pub(super) fn count_unsent(metrics: &Metrics, error: &SendError) {
    if let SendError::Timeout { waited, .. } = error {
        let what = if *waited == Waited::Answer { TimeoutOf::Response } else { TimeoutOf::Connect };
        metrics.timeouts.add((what,), 1);
    }
}

/// Who is to blame, where the reason alone tells.
fn blame(reason: &Reason) -> Option<Blame> {
    Some(match reason {
        Reason::AnswerRefused { .. }
        | Reason::AnswerTooLarge { .. }
        | Reason::InvalidJson { .. }
        | Reason::InvalidRequest { .. }
        | Reason::IdTooLong { .. }
        | Reason::MessageTooLarge { .. }
        | Reason::Refused { .. } => return None,
        Reason::UnsupportedEncoding { .. }
        | Reason::UnsupportedMedia { .. }
        | Reason::Forbidden { .. }
        | Reason::HeaderMismatch(_)
        | Reason::MethodNotFound { .. }
        | Reason::MethodNotAllowed { .. }
        | Reason::MissingMeta { .. }
        | Reason::NoListener { .. }
        | Reason::NotAcceptable { .. }
        | Reason::SessionNotFound
        | Reason::SessionRequired
        | Reason::TooManyStreams { .. }
        | Reason::Unauthorized
        | Reason::UnsupportedVersion { .. } => Blame::Downstream,
        Reason::InvalidTool { .. }
        | Reason::ServerExited { .. }
        | Reason::RestartFailed { .. }
        | Reason::ServerUnreachable { .. }
        | Reason::StartTimeout { .. }
        | Reason::StreamEnded
        | Reason::Timeout(_)
        | Reason::UpstreamStatus { .. } => Blame::Upstream,
        Reason::HoldFull { .. }
        | Reason::Overloaded { .. }
        | Reason::SessionEnded
        | Reason::TooManyPending { .. }
        | Reason::TooManySessions { .. } => Blame::Us,
    })
}

impl From<&Reason> for ErrorReason {
    fn from(reason: &Reason) -> Self {
        match reason {
            Reason::UnsupportedEncoding { .. } => Self::UnsupportedEncoding,
            Reason::UnsupportedMedia { .. } => Self::UnsupportedMedia,
            Reason::Forbidden { .. } => Self::Forbidden,
            Reason::HeaderMismatch(_) => Self::HeaderMismatch,
            Reason::InvalidJson { .. } => Self::InvalidJson,
            Reason::InvalidTool { .. } => Self::InvalidTool,
            Reason::InvalidRequest { .. } => Self::InvalidRequest,
            Reason::MessageTooLarge { .. } | Reason::AnswerTooLarge { .. } => Self::MessageTooLarge,
            Reason::MethodNotFound { .. } => Self::MethodNotFound,
            Reason::MethodNotAllowed { .. } => Self::MethodNotAllowed,
            Reason::MissingMeta { .. } => Self::MissingMeta,
            Reason::NotAcceptable { .. } => Self::NotAcceptable,
            Reason::Overloaded { .. } => Self::Overloaded,
            Reason::Refused { .. } | Reason::AnswerRefused { .. } => Self::Refused,
            Reason::IdTooLong { .. } => Self::IdTooLong,
            Reason::ServerExited { .. } => Self::ServerExited,
            Reason::RestartFailed { .. } => Self::RestartFailed,
            Reason::ServerUnreachable { .. } => Self::ServerUnreachable,
            Reason::SessionNotFound => Self::SessionNotFound,
            Reason::SessionRequired => Self::SessionRequired,
            Reason::StreamEnded => Self::StreamEnded,
            Reason::StartTimeout { .. } | Reason::Timeout(_) => Self::Timeout,
            Reason::TooManyPending { .. } => Self::TooManyPending,
            Reason::TooManySessions { .. } => Self::TooManySessions,
            Reason::Unauthorized => Self::Unauthorized,
            Reason::UpstreamStatus { .. } => Self::UpstreamStatus,
            Reason::UnsupportedVersion { .. } => Self::UnsupportedVersion,
            Reason::SessionEnded => Self::SessionEnded,
            Reason::TooManyStreams { .. } => Self::TooManyStreams,
            Reason::NoListener { .. } => Self::NoListener,
            Reason::HoldFull { .. } => Self::HoldFull,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::{session::Reply, telemetry::metrics::labels::Label as _};

    #[test]
    fn reasons_are_called_as_in_the_errors_themselves() {
        for reason in [
            Reason::StreamEnded,
            Reason::SessionNotFound,
            Reason::TooManyPending { limit: 1 },
            Reason::MessageTooLarge { limit: 1, at: 2, declared: None },
            Reason::AnswerTooLarge { limit: 1, at: 2, declared: None },
            Reason::AnswerRefused { what: String::new() },
            Reason::ServerExited { exit_code: None, signal: Some(9), stderr: Vec::new() },
            Reason::StartTimeout { what: "child start", after_ms: 1, stderr: Vec::new() },
            Reason::MethodNotAllowed { allowed: "GET" },
        ] {
            let mut message = BytesMut::new();
            Reply::without_id(reason.clone()).write(&mut message);
            let shown = format!("\"reason\":\"{}\"", ErrorReason::from(&reason).value());
            assert!(String::from_utf8_lossy(&message).contains(&shown), "{reason:?}: {shown}");
        }
    }

    #[test]
    fn whose_message_it_is_decides_only_where_the_reason_does_not() {
        let metrics = Metrics::default();
        count_error(&metrics, &Reason::MessageTooLarge { limit: 1, at: 0, declared: None }, StreamKey::UPSTREAM);
        count_error(&metrics, &Reason::MessageTooLarge { limit: 1, at: 0, declared: None }, StreamKey::DOWNSTREAM);
        count_error(&metrics, &Reason::StreamEnded, StreamKey::DOWNSTREAM);
        assert_eq!(metrics.errors.of((Blame::Upstream, ErrorReason::MessageTooLarge)), 1);
        assert_eq!(metrics.errors.of((Blame::Downstream, ErrorReason::MessageTooLarge)), 1);
        assert_eq!(metrics.errors.of((Blame::Upstream, ErrorReason::StreamEnded)), 1);
    }
}
