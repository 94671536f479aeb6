//! Shadowcat.
