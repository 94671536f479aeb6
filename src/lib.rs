//! Any MCP client in front of any MCP server, over any transport, forwarding the exact bytes.
//!
//! A stream of JSON messages arrives framed by newlines; it is cut into frames, each is parsed in place just
//! far enough to know what it is, and the same bytes leave. Nothing is re-serialized. The pure half, which
//! knows bytes and nothing of sockets, is the crate [`shadowcat_codecs`]; here the bytes move.
//!
//! | module | is for | knows nothing of |
//! |---|---|---|
//! | [`session`] | what is remembered and decided | sockets, tasks, the clock |
//! | [`transport`] | stdio, pipes, memory | messages |
//! | [`supervise`] | children: start, shutdown ladder, the keeper | what they say |
//! | [`link`] | where two sides meet | |
//! | [`telemetry`] | the log on stderr, the counters | payloads |
//! | [`budget`], [`resources`] | what a process has once | |
//!
//! # The path of a byte
//!
//! 1. A read fills a `BytesMut` block, with 64 bytes of slack behind it. The one copy that cannot be avoided.
//! 2. `LineDecoder` finds every newline of the read, from where it stopped last time, and fills a table of
//!    (start, end) pairs over the still open block.
//! 3. The envelope of each frame is parsed on that block: spans, no allocation, no byte changed.
//! 4. The block is frozen. The session has noted the ids and decided: forward, reply, drop.
//! 5. Neighbouring frames that go on unchanged leave as one slice in one write.
//!
//! # Use as a library
//!
//! A program that starts children through [`supervise::keeper`] must call
//! [`supervise::keeper::run_if_keeper`] first thing in `main`.

pub mod budget;
pub mod clock;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod link;
pub mod resources;
pub mod session;
pub mod supervise;
pub mod telemetry;
pub mod transport;
pub mod verify;

/// The pages of `docs/` whose code runs with the tests.
pub mod _documentation {
    #[doc = include_str!("../docs/LIBRARY.md")]
    pub mod library {}
    #[doc = include_str!("../README.md")]
    pub mod readme {}
}
