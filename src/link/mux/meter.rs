//! What one child's task counts of what crosses.

use std::time::{Duration, Instant};

use shadowcat_codecs::envelope::Kind;

use crate::{
    session::shared::Dropped,
    telemetry::metrics::{
        Flow, Metrics,
        labels::{Link, To},
    },
};

/// The counts of one child's task.
#[derive(Debug)]
pub(super) struct Meter {
    to_server: Flow,
    to_client: Flow,
    /// When the first of those arrived that the child was not written yet.
    arrived: Option<Instant>,
}

impl Meter {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let flow = |to| Flow::new(metrics, Link::Mux, to);
        Self { to_server: flow(To::Server), to_client: flow(To::Client), arrived: None }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        self.to_server.metrics()
    }

    /// A client's message, whole since `arrived`, is on its way to the child.
    pub(super) fn posted(&mut self, kind: Kind, len: usize, arrived: Instant) {
        self.to_server.message(kind.into(), len);
        self.arrived.get_or_insert(arrived);
    }

    /// The child was written everything that was posted.
    pub(super) fn written(&mut self, now: Instant) {
        if let Some(arrived) = self.arrived.take() {
            self.to_server.count(now.saturating_duration_since(arrived));
        }
    }

    /// The child said something that goes to somebody.
    pub(super) fn heard(&mut self, kind: Kind, len: usize) {
        self.to_client.message(kind.into(), len);
    }

    /// The child said what is no message.
    pub(super) fn noise(&self) {
        self.to_client.noise();
    }

    /// The child said what goes to nobody.
    pub(super) fn dropped(&self, dropped: Dropped) {
        if dropped == Dropped::Late {
            self.metrics().late_answers.add((Link::Mux,), 1);
        }
    }

    /// A child's answer came this long after its request was posted.
    pub(super) fn answered(&mut self, after: Duration) {
        self.to_client.answered(after);
    }

    /// What was heard at `heard` was given to the connections it is for.
    pub(super) fn delivered(&mut self, heard: Instant, now: Instant) {
        if !self.to_client.is_empty() {
            self.to_client.count(now.saturating_duration_since(heard));
        }
    }
}
