//! Arguments of `shadowcat pipe`, and what the filter makes of them.
//!
//! They have nothing in common with those of `proxy`: no file, no environment, no server. Framings and checks are the
//! filter's own types, so that a name on the command line is a variant there.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args as ClapArgs, ValueEnum};
use shadowcat_codecs::line::LineEnds;

use super::frame_limits;
use crate::{
    cli::exit::Failure,
    filter::{Framing, JsonCheck, OnInvalid, Options, Output},
};

/// Arguments of `shadowcat pipe`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example: curl -sN URL | shadowcat pipe --from sse | jq -r .choices[0].delta.content")]
pub(crate) struct PipeArgs {
    /// Framing of the input
    #[arg(long, value_name = "FRAMING", default_value = "lines")]
    from: Framing,

    /// Form of the output
    #[arg(long, value_name = "FORM", default_value = "lines")]
    to: Output,

    /// Check the JSON of each frame
    #[arg(long, value_name = "CHECK", default_value = "off")]
    json: JsonCheck,

    /// What to do with a frame that fails the check
    #[arg(long, value_name = "WHAT", default_value = "skip")]
    on_invalid: OnInvalid,

    /// What to do with a line end inside a payload that the output cannot carry, where JSON is not checked
    #[arg(long, value_name = "WHAT", default_value = "refuse")]
    newlines: Newlines,

    /// Longest frame; longer ones are refused
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    max_frame_len: ByteSize,

    /// Say on stderr how much crossed, and how fast
    #[arg(long)]
    stats: bool,

    /// Read this instead of stdin
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Newlines {
    /// Refuse the frame
    Refuse,
    /// Write a space in its place
    Space,
}

impl PipeArgs {
    pub(crate) fn into_options(self) -> Result<Options, Failure> {
        let Self { from, to, json, on_invalid, newlines, max_frame_len, stats, file } = self;
        let line_ends = match newlines {
            Newlines::Refuse => LineEnds::Refuse,
            Newlines::Space => LineEnds::Blank,
        };
        let limits = frame_limits(max_frame_len)?;
        Ok(Options { from, to, json, on_invalid, line_ends, limits, stats, file })
    }
}
