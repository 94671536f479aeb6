//! Adapters to `tokio_util::codec`.
