//! Envelopes: the laws on tables and generated frames.

use super::*;

mod laws;
mod limits;
mod verdicts;
