//! Where two sides meet: the only place that knows both the transports and the session.
//!
//! | | upstream is a byte stream | upstream is HTTP |
//! |---|---|---|
//! | **downstream is a byte stream** | [`pipe`] | dial (to come) |
//! | **downstream is HTTP** | mux (to come) | [`relay`] |
//!
//! A link is where backpressure lives: it reads from one side only when the other has room. There is no
//! unbounded queue, no task per message, no detached task.

pub mod endpoint;
mod intake;
pub mod mux;
mod outbox;
pub mod pipe;
mod refused;
pub mod relay;
#[cfg(unix)]
pub mod stdio;
