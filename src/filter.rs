//! `shadowcat pipe`: the codecs as a filter, from a file or stdin to stdout.
//!
//! One thread: read what is there, cut it into frames, write what they become, and only then read on, so that
//! each frame leaves the moment it has arrived. Payload bytes are not changed, but for the line ends a framing
//! cannot carry, as the options allow. What is refused is reported on stderr with its offset; memory stays
//! at one frame and one read, whatever comes.

mod frames;
mod refusal;
mod sink;
mod stats;

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    process::ExitCode,
};

use shadowcat_codecs::{Limits, line::LineEnds};

use crate::cli::{Failure, RUNTIME};
use frames::Frames;
use refusal::Refusals;
use sink::Sink;
use stats::Stats;

/// What the filter is to do.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) from: Framing,
    pub(crate) to: Output,
    pub(crate) json: JsonCheck,
    pub(crate) on_invalid: OnInvalid,
    /// What becomes of line ends inside a payload that the output cannot carry, where JSON is not checked.
    pub(crate) line_ends: LineEnds,
    pub(crate) limits: Limits,
    pub(crate) stats: bool,
    pub(crate) file: Option<PathBuf>,
}

/// A framing to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Framing {
    Lines,
    Sse,
}

/// A form to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// One payload a line
    Lines,
    /// Server-Sent Events
    Sse,
    /// One JSON object an event: its type, data and id
    Events,
}

/// How much of a payload's JSON is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum JsonCheck {
    /// Nothing: any bytes pass
    Off,
    /// What a proxy needs to know of a message
    Envelope,
    /// The whole grammar
    Strict,
}

/// What becomes of a frame that fails the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnInvalid {
    /// Report it and go on without it
    Skip,
    /// Report it and write it all the same
    Pass,
    /// Report it and stop
    Stop,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Stop,
}

/// Filters to the end of the input. The code is 1 if anything was refused.
pub(crate) fn run(options: Options) -> Result<ExitCode, Failure> {
    let input = open(&options)?;
    let mut refusals = Refusals::default();
    match filter(input, &options, &mut refusals) {
        Ok(()) => Ok(if refusals.count() == 0 { ExitCode::SUCCESS } else { ExitCode::from(RUNTIME) }),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::new(RUNTIME, error.to_string())),
    }
}

fn filter(mut input: impl Read, options: &Options, refusals: &mut Refusals) -> io::Result<()> {
    let mut frames = Frames::new(options);
    let mut sink = Sink::new(options)?;
    let mut stats = Stats::new(options.stats);
    loop {
        let read = frames.read(&mut input)?;
        let flow = frames.pass_on(&mut sink, refusals)?;
        sink.flush()?;
        stats.add(read, &sink, refusals);
        if read == 0 || flow == Flow::Stop {
            stats.finish(&sink, refusals);
            return Ok(());
        }
    }
}

fn open(options: &Options) -> Result<File, Failure> {
    match &options.file {
        Some(path) => {
            File::open(path).map_err(|error| Failure::new(RUNTIME, format!("cannot read {}: {error}", path.display())))
        }
        None => sink::unbuffered_stdin().map_err(|error| Failure::new(RUNTIME, format!("cannot read stdin: {error}"))),
    }
}
