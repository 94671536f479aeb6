//! Where two sides meet: the only place that knows both the transports and the session.
//!
//! | | upstream is a byte stream | upstream is HTTP |
//! |---|---|---|
//! | **downstream is a byte stream** | [`pipe`] | [`dial`] |
//! | **downstream is HTTP** | [`mux`] | [`relay`] |
//!
//! Around [`pipe`]: [`stdio`] for a server that is a child, [`socket`] for one that listens; [`lines`] runs a session
//! of any kind for each client that connects.
//!
//! A link is where backpressure lives: it reads from one side only when the other has room. There is no
//! unbounded queue, no task per message, no detached task.

#[cfg(unix)]
pub mod dial;
pub mod endpoint;
mod intake;
#[cfg(unix)]
pub mod lines;
pub mod mux;
mod nursery;
mod outbox;
pub mod pipe;
mod refused;
pub mod relay;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
pub mod socket;
#[cfg(unix)]
pub mod stdio;
