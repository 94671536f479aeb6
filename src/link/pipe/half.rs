//! One side of a [`Pipe`](super::Pipe).

use std::io;

use shadowcat_codecs::Limits;

use super::{Event, message_log::MessageLog};
use crate::{
    budget::{Allowance, Budget, Toward},
    link::{counting::count_error, intake::Intake, outbox::Outbox, refused::Oversized, waits::Stall},
    session::{Reply, StreamKey},
    telemetry::metrics::Metrics,
    transport::{Reader, Writer},
};

/// One side: what comes from there, and what goes there.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) key: StreamKey,
    pub(super) intake: Intake,
    pub(super) outbox: Outbox,
    pub(super) told_ended: bool,
    pub(super) told_gone: bool,
    /// Whether nothing is read from this side until it has read our replies.
    pub(super) is_held: bool,
    pub(super) oversized: Oversized,
    pub(super) log: MessageLog,
    /// How what goes there is taken.
    pub(super) stall: Stall,
}

/// What one look at a direction achieved.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moved {
    /// Nothing: it waits for a side.
    No,
    /// Something; it may be able to go on.
    On,
    /// Something, and this has to be told.
    For(Event),
}

impl Half {
    pub(super) fn new(
        key: StreamKey,
        (reader, writer): (Reader, Writer),
        limits: Limits,
        allowance: &Allowance,
    ) -> Self {
        let toward = if key == StreamKey::UPSTREAM { Toward::Client } else { Toward::Server };
        Self {
            key,
            intake: Intake::new(reader, limits, allowance, toward),
            outbox: Outbox::new(writer),
            told_ended: false,
            told_gone: false,
            is_held: false,
            oversized: Oversized::default(),
            log: MessageLog::default(),
            stall: Stall::default(),
        }
    }

    /// This side takes nothing any more. That its reader has gone is no failure.
    pub(super) fn lost(&mut self, error: &io::Error) -> Moved {
        if error.kind() != io::ErrorKind::BrokenPipe {
            tracing::warn!(to = %self.key, %error, "writing failed; taken as the reader's departure");
        }
        self.outbox.close();
        let told = std::mem::replace(&mut self.told_gone, true);
        if told { Moved::No } else { Moved::For(Event::Gone(self.key)) }
    }
}

/// Queues `reply`, which is about a message of `of`.
#[cold]
pub(super) fn push_reply(
    (outbox, budget): (&mut Outbox, &Budget),
    reply: &Reply,
    metrics: Option<&Metrics>,
    of: StreamKey,
) {
    if let Some(metrics) = metrics {
        count_error(metrics, reply.reason(), of);
    }
    outbox.push_line(budget.written(|message| reply.write(message)));
}
