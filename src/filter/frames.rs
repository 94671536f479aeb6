//! The reading half: bytes to frames, checked.

use std::io::{self, Read};

use bytes::BytesMut;
use shadowcat_codecs::{
    FrameError, FrameTable, PADDING,
    envelope::{EnvelopeParser, Strictness},
    line::LineDecoder,
    sse::{EventTable, SseDecoder},
};

use super::{
    Flow, Framing, JsonCheck, OnInvalid, Options,
    refusal::{Refusals, Verdict},
    sink::Sink,
};

/// A buffer, the decoder of one framing over it, and the check of what it finds.
#[derive(Debug)]
pub(super) struct Frames {
    buf: BytesMut,
    ended: bool,
    decoder: Decoder,
    check: Check,
    /// Which frames of the current batch are refused, ascending; room that is reused.
    dropped: Vec<usize>,
}

#[derive(Debug)]
enum Decoder {
    Lines(LineDecoder, FrameTable),
    Sse(Box<SseDecoder>, EventTable),
}

#[derive(Debug)]
struct Check {
    /// `None` if JSON is not checked.
    parser: Option<Box<EnvelopeParser>>,
    on_invalid: OnInvalid,
}

/// One batch passed on, and whether to go on; `None` when more has to be read first. Outside of it, what the
/// output says.
type Passed = Result<Option<Flow>, FrameError>;

impl Frames {
    pub(super) fn new(options: &Options) -> Self {
        let decoder = match options.from {
            Framing::Lines => Decoder::Lines(LineDecoder::new(options.limits), FrameTable::new()),
            Framing::Sse => Decoder::Sse(Box::new(SseDecoder::new(options.limits)), EventTable::new()),
        };
        let strictness = match options.json {
            JsonCheck::Off => None,
            JsonCheck::Envelope => Some(Strictness::Envelope),
            JsonCheck::Strict => Some(Strictness::Strict),
        };
        let parser = strictness.map(|it| Box::new(EnvelopeParser::new(options.limits).with_strictness(it)));
        let check = Check { parser, on_invalid: options.on_invalid };
        Self { buf: BytesMut::new(), ended: false, decoder, check, dropped: Vec::new() }
    }

    /// Reads once; 0 bytes are the end of the input.
    pub(super) fn read(&mut self, input: &mut impl Read) -> io::Result<usize> {
        let filled = self.buf.len();
        self.buf.reserve(READ_SIZE + PADDING);
        // Zeroing the room first is the price of safe code here; it is small next to the call.
        self.buf.resize(filled + READ_SIZE, 0);
        let read = loop {
            match input.read(self.buf.get_mut(filled..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done,
            }
        };
        self.buf.truncate(filled + read.as_ref().copied().unwrap_or(0));
        self.ended = matches!(read, Ok(0));
        read
    }

    /// Passes on every frame that is whole.
    pub(super) fn pass_on(&mut self, sink: &mut Sink, refusals: &mut Refusals) -> io::Result<Flow> {
        loop {
            let passed = match &mut self.decoder {
                Decoder::Lines(..) => self.pass_lines(sink, refusals),
                Decoder::Sse(..) => self.pass_events(sink, refusals),
            };
            match passed? {
                Ok(Some(Flow::On)) => {}
                Ok(Some(Flow::Stop)) => return Ok(Flow::Stop),
                Ok(None) => return Ok(Flow::On),
                Err(FrameError::MessageTooLarge { limit, at }) => {
                    refusals.refuse(at, format_args!("longer than the limit of {limit} bytes"));
                    if self.check.on_invalid == OnInvalid::Stop {
                        return Ok(Flow::Stop);
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    fn pass_lines(&mut self, sink: &mut Sink, refusals: &mut Refusals) -> io::Result<Passed> {
        let Self { buf, ended, decoder: Decoder::Lines(decoder, table), check, dropped } = self else {
            return Ok(Ok(None));
        };
        let opened = if *ended { decoder.finish(buf, table) } else { decoder.decode(buf, table) };
        let mut open = match opened.transpose() {
            Some(Ok(open)) => open,
            Some(Err(error)) => return Ok(Err(error)),
            None => return Ok(Ok(None)),
        };
        dropped.clear();
        let mut flow = Flow::On;
        if let Some(parser) = &mut check.parser {
            for index in 0..open.len() {
                let at = open.at() + open.span(index).map_or(0, |span| span.start() as u64);
                let parsed = open.padded(index).map(|padded| parser.parse_in_place(padded));
                let Some(Err(error)) = parsed else { continue };
                match refusals.judge(check.on_invalid, at, error) {
                    Verdict::Keep => {}
                    Verdict::Skip => dropped.push(index),
                    Verdict::Stop => {
                        dropped.extend(index..open.len());
                        flow = Flow::Stop;
                        break;
                    }
                }
            }
        }
        let batch = open.freeze();
        if sink.write_lines(&batch, dropped, refusals)? == Flow::Stop {
            flow = Flow::Stop;
        }
        table.recycle(batch);
        Ok(Ok(Some(flow)))
    }

    fn pass_events(&mut self, sink: &mut Sink, refusals: &mut Refusals) -> io::Result<Passed> {
        let Self { buf, ended, decoder: Decoder::Sse(decoder, table), check, .. } = self else {
            return Ok(Ok(None));
        };
        let decoded = if *ended { decoder.finish(buf, table) } else { decoder.decode(buf, table) };
        let batch = match decoded {
            Ok(Some(batch)) => batch,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error)),
        };
        let mut flow = Flow::On;
        for (index, event) in batch.iter().enumerate() {
            // An event without data carries no JSON, and no line.
            let parser = check.parser.as_mut().filter(|_| !event.data().is_empty());
            let verdict = match parser.map(|parser| parser.parse(event.data())) {
                Some(Err(error)) => refusals.judge(check.on_invalid, event.at(), error),
                _ => Verdict::Keep,
            };
            flow = match verdict {
                Verdict::Keep => sink.write_event(&batch, index, event, refusals)?,
                Verdict::Skip => Flow::On,
                Verdict::Stop => Flow::Stop,
            };
            if flow == Flow::Stop {
                break;
            }
        }
        table.recycle(batch);
        Ok(Ok(Some(flow)))
    }
}

/// How much is read at once: what a pipe holds.
const READ_SIZE: usize = 64 << 10;
