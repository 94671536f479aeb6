//! HTTP on either side: a listener that hands exchanges to a link, and a client for one upstream.
//!
//! The only module that names hyper. It knows requests, responses and bodies, and nothing of the messages
//! inside them; what a body says is read in [`crate::link`].

mod blocked;
pub mod body;
pub mod client;
pub mod cors;
pub mod guard;
pub mod server;
pub mod tls;

pub use body::{Body, BodyError};
pub use client::{Client, Incoming, SendError};
pub use server::{Listener, Peer, RequestBody};

/// An exchange's first half, as the listener hands it to a link.
pub type Request = http::Request<RequestBody>;

/// An exchange's second half, as a link hands it to the listener.
pub type Response = http::Response<Body>;
