//! The writing half: frames and events in one of the output forms.
//!
//! Small pieces are gathered, a piece larger than the gathering buffer is written from where it lies; both
//! leave at [`Sink::flush`], which comes after every read.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

use serde::Serialize;
use shadowcat_codecs::{
    FrameBatch, Span,
    line::{LINE_END, LineEnds, LineRuns},
    sse::{Event, EventBatch, EventRef, SseEncoder},
};

use super::{Flow, Framing, JsonCheck, OnInvalid, Options, Output, refusal::Refusals};

/// stdout and how to write there.
#[derive(Debug)]
pub(super) struct Sink {
    out: BufWriter<File>,
    from: Framing,
    to: Output,
    /// What becomes of line ends inside a payload.
    line_ends: Inside,
    on_invalid: OnInvalid,
    /// The last event id that was written: a reader holds it until the next one.
    last_id: Option<Vec<u8>>,
    frames: u64,
    bytes: u64,
}

/// What becomes of a line end inside a payload that the output's framing cannot carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// It is white space of JSON: a space on a line, an LF in an event.
    White,
    /// It becomes a space.
    Space,
    /// The frame is refused.
    Refused,
}

/// One line of the output form `events`.
#[derive(Serialize)]
struct EventLine<'a> {
    event: &'a str,
    data: &'a str,
    id: &'a str,
}

impl Sink {
    pub(super) fn new(options: &Options) -> io::Result<Self> {
        let line_ends = match (options.json, options.line_ends) {
            (JsonCheck::Envelope | JsonCheck::Strict, _) => Inside::White,
            (JsonCheck::Off, LineEnds::Blank | LineEnds::BlankAlways) => Inside::Space,
            (JsonCheck::Off, LineEnds::Refuse) => Inside::Refused,
        };
        Ok(Self {
            out: BufWriter::with_capacity(GATHERED, unbuffered_stdout()?),
            from: options.from,
            to: options.to,
            line_ends,
            on_invalid: options.on_invalid,
            last_id: None,
            frames: 0,
            bytes: 0,
        })
    }

    /// Writes the frames of `batch`, but those in `dropped`.
    pub(super) fn write_lines(
        &mut self,
        batch: &FrameBatch,
        dropped: &[usize],
        refusals: &mut Refusals,
    ) -> io::Result<Flow> {
        self.frames += (batch.len() - dropped.len()) as u64;
        if self.to == Output::Lines {
            for run in LineRuns::new(batch, dropped) {
                self.write(batch.block().get(run.range).unwrap_or_default())?;
                if !run.has_line_end {
                    self.write(LINE_END)?;
                }
            }
            return Ok(Flow::On);
        }
        let mut dropped = dropped.iter().peekable();
        for (index, span) in batch.spans().iter().enumerate() {
            if dropped.next_if_eq(&&index).is_some() {
                continue;
            }
            if self.write_frame(batch, *span, refusals)? == Flow::Stop {
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::On)
    }

    /// Writes the event at `index` of `batch`.
    pub(super) fn write_event(
        &mut self,
        batch: &EventBatch,
        index: usize,
        event: EventRef<'_>,
        refusals: &mut Refusals,
    ) -> io::Result<Flow> {
        match self.to {
            // A line without content is no message.
            Output::Lines if event.data().is_empty() => return Ok(Flow::On),
            Output::Lines => return self.write_as_line(event.data(), event.at(), refusals),
            Output::Events => self.write_as_object(event.event(), event.data(), event.id())?,
            Output::Sse => {
                let is_new_id = event.id().is_some() && event.id() != self.last_id.as_deref();
                let Some(event) = batch.get(index) else { return Ok(Flow::On) };
                self.write_as_event(if is_new_id { event } else { without_id(event)? })?;
            }
        }
        Ok(Flow::On)
    }

    /// Lets everything leave.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Frames written, and bytes.
    pub(super) fn written(&self) -> (u64, u64) {
        (self.frames, self.bytes)
    }

    /// A line on its way to something else.
    fn write_frame(&mut self, batch: &FrameBatch, span: Span, refusals: &mut Refusals) -> io::Result<Flow> {
        let frame = span.of(batch.block());
        if self.to == Output::Events {
            self.write_as_object(b"message", frame, None)?;
            return Ok(Flow::On);
        }
        let bytes = batch.block().slice(span.start()..span.end());
        let carriage_return = frame.iter().position(|&byte| byte == b'\r');
        match (carriage_return, self.line_ends) {
            (None, _) | (_, Inside::White) => self.write_as_event(Event::new(bytes))?,
            (Some(_), Inside::Space) => {
                let blanked: Vec<u8> = frame.iter().map(|&byte| if byte == b'\r' { b' ' } else { byte }).collect();
                self.write_as_event(Event::new(bytes::Bytes::from(blanked)))?;
            }
            (Some(inside), Inside::Refused) => {
                self.frames -= 1;
                return Ok(self.refuse_line_end(batch.at() + span.start() as u64, inside, refusals));
            }
        }
        Ok(Flow::On)
    }

    /// An event's data on its way to a line.
    fn write_as_line(&mut self, data: &[u8], at: u64, refusals: &mut Refusals) -> io::Result<Flow> {
        let line_end = data.iter().position(|&byte| byte == b'\n');
        match (line_end, self.line_ends) {
            (None, _) => self.write(data)?,
            (Some(inside), Inside::Refused) => return Ok(self.refuse_line_end(at, inside, refusals)),
            (Some(_), Inside::White | Inside::Space) => {
                for (index, piece) in data.split(|&byte| byte == b'\n').enumerate() {
                    self.write(if index == 0 { b"" } else { b" " })?;
                    self.write(piece)?;
                }
            }
        }
        self.frames += 1;
        self.write(LINE_END)?;
        Ok(Flow::On)
    }

    fn write_as_event(&mut self, event: Event) -> io::Result<()> {
        if let Some(id) = event.id() {
            self.last_id = Some(id.to_owned());
        }
        if self.from == Framing::Sse {
            self.frames += 1;
        }
        for slice in SseEncoder::new().encode(event).slices() {
            self.write(slice)?;
        }
        Ok(())
    }

    fn write_as_object(&mut self, event: &[u8], data: &[u8], id: Option<&[u8]>) -> io::Result<()> {
        let [event, data, id] = [event, data, id.unwrap_or_default()].map(String::from_utf8_lossy);
        let mut line = serde_json::to_vec(&EventLine { event: &event, data: &data, id: &id })?;
        line.push(b'\n');
        if self.from == Framing::Sse {
            self.frames += 1;
        }
        self.write(&line)
    }

    #[cold]
    fn refuse_line_end(&self, at: u64, inside: usize, refusals: &mut Refusals) -> Flow {
        let to = if self.to == Output::Lines { "a line" } else { "an event" };
        let reason = format_args!("{to} cannot carry the line end at its byte {inside} (see --newlines)");
        refusals.refuse(at, reason);
        if self.on_invalid == OnInvalid::Stop { Flow::Stop } else { Flow::On }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// The same event without its id, which the reader knows already.
fn without_id(event: Event) -> io::Result<Event> {
    let kind = event.event().to_owned();
    let is_plain = kind == b"message";
    let event = Event::new(event.into_data());
    if is_plain { Ok(event) } else { event.with_event(kind).map_err(io::Error::other) }
}

/// stdin without a buffer between it and us.
#[cfg(unix)]
pub(super) fn unbuffered_stdin() -> io::Result<File> {
    use std::os::fd::AsFd as _;
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

#[cfg(unix)]
fn unbuffered_stdout() -> io::Result<File> {
    use std::os::fd::AsFd as _;
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

/// stdin without a buffer between it and us.
#[cfg(windows)]
pub(super) fn unbuffered_stdin() -> io::Result<File> {
    use std::os::windows::io::AsHandle as _;
    Ok(io::stdin().as_handle().try_clone_to_owned()?.into())
}

#[cfg(windows)]
fn unbuffered_stdout() -> io::Result<File> {
    use std::os::windows::io::AsHandle as _;
    Ok(io::stdout().as_handle().try_clone_to_owned()?.into())
}

/// Bytes that are gathered for one write. A slice this large is not copied.
const GATHERED: usize = 32 << 10;
