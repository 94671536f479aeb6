//! The messages of an event stream, told as they pass: nothing of an event is kept, however long it is.
//!
//! The grammar is that of [`SseDecoder`](shadowcat_codecs::sse::SseDecoder) (WHATWG HTML, "Interpreting an event
//! stream"), which has the data of an event in one piece, and so has to keep it until its end. Here there are only
//! parts. Ids and times to wait are for the client.

use memchr::memchr2;
use shadowcat_codecs::FrameError;

/// A stream, at some place in it.
#[derive(Debug)]
pub(super) struct Watched {
    place: Place,
    /// Bytes of the stream that came.
    len: u64,
    /// Where the line began.
    line_at: u64,
    event: Event,
    max_event_len: usize,
}

/// The event that is being read.
#[derive(Debug, Clone, Copy)]
struct Event {
    /// Length of its data, if there is any.
    data_len: Option<usize>,
    is_message: bool,
    /// Where its first data line began in the stream.
    at: u64,
}

/// Where in a line the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The stream has begun with this many bytes of a byte order mark, and nothing else.
    Mark(usize),
    /// Behind a CR; an LF belongs to it.
    AfterCr,
    /// Within a name that may become one of ours, as many bytes as that into it.
    Name(Name, usize),
    Start,
    /// Behind the colon of a field, where one space is not part of the value.
    Value(Name),
    Data,
    /// So many bytes of `message` have come, and nothing else.
    Type(usize),
    /// A comment, another field, or another type.
    Ignored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Data,
    Event,
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// All of a message.
    Whole(&'a [u8]),
    /// Some of what may become a message.
    Piece(&'a [u8]),
    /// What came was a message of this length.
    End(usize),
    /// What came was none.
    Nothing,
}

impl Name {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Data => b"data",
            Self::Event => b"event",
        }
    }
}

impl Event {
    const NONE: Self = Self { data_len: None, is_message: true, at: 0 };
}

impl Watched {
    pub(super) fn new(max_event_len: usize) -> Self {
        Self { place: Place::Mark(0), len: 0, line_at: 0, event: Event::NONE, max_event_len }
    }

    /// Reads on.
    ///
    /// # Errors
    ///
    /// An event is longer than the limit; what follows is not to be read.
    pub(super) fn push<'a>(&mut self, piece: &'a [u8], mut tell: impl FnMut(Part<'a>)) -> Result<(), FrameError> {
        let mut rest = piece;
        while let Some(&first) = rest.first() {
            let before = rest;
            match self.place {
                Place::Mark(count) => {
                    self.place = match MARK.get(count) {
                        Some(&byte) if byte == first => {
                            rest = tail(rest, 1);
                            if count + 1 < MARK.len() { Place::Mark(count + 1) } else { Place::Start }
                        }
                        // What looked like a mark is the beginning of a line that is no field.
                        _ if count > 0 => Place::Ignored,
                        _ => Place::Start,
                    };
                }
                Place::AfterCr => {
                    self.place = Place::Start;
                    rest = tail(rest, usize::from(first == b'\n'));
                }
                _ => {
                    let is_start = self.place == Place::Start;
                    if is_start {
                        self.line_at = self.len;
                    }
                    let (line, behind) = rest.split_at(memchr2(b'\n', b'\r', rest).unwrap_or(rest.len()));
                    rest = tail(behind, 1);
                    if is_start && behind.starts_with(b"\n\n") && self.read_single(line, &mut tell)? {
                        rest = tail(behind, 2);
                    } else {
                        if is_start && line == PLAIN_TYPE && !behind.is_empty() {
                            // What most servers write before each message.
                            (self.event.is_message, self.place) = (true, Place::Ignored);
                        } else {
                            self.read(line, &mut tell)?;
                        }
                        if let Some(end) = behind.first() {
                            self.end_line(&mut tell)?;
                            self.place = if *end == b'\r' { Place::AfterCr } else { Place::Start };
                        }
                    }
                }
            }
            self.len += (before.len() - rest.len()) as u64;
        }
        Ok(())
    }

    /// The common case: a line that is here as a whole, before a blank one, and the only data of its event. Whether it
    /// is that.
    fn read_single<'a>(&mut self, line: &'a [u8], tell: &mut impl FnMut(Part<'a>)) -> Result<bool, FrameError> {
        let Event { data_len: None, is_message: true, .. } = self.event else { return Ok(false) };
        let Some(value) = line.strip_prefix(b"data:") else { return Ok(false) };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        self.event.at = self.line_at;
        self.grow(value.len())?;
        if !value.is_empty() {
            tell(Part::Whole(value));
        }
        self.event = Event::NONE;
        Ok(true)
    }

    /// Some of a line, or all of it, without its end.
    fn read<'a>(&mut self, mut line: &'a [u8], tell: &mut impl FnMut(Part<'a>)) -> Result<(), FrameError> {
        while let Some(&first) = line.first() {
            let (place, taken) = match self.place {
                Place::Start => match first {
                    b'd' => (Place::Name(Name::Data, 1), 1),
                    b'e' => (Place::Name(Name::Event, 1), 1),
                    _ => (Place::Ignored, 1),
                },
                Place::Name(name, count) => match name.text().get(count) {
                    Some(&byte) if byte == first => (Place::Name(name, count + 1), 1),
                    None if first == b':' => (Place::Value(name), 1),
                    _ => (Place::Ignored, 1),
                },
                Place::Value(name) => {
                    self.begin(name, tell)?;
                    (if name == Name::Data { Place::Data } else { Place::Type(0) }, usize::from(first == b' '))
                }
                Place::Data => {
                    self.grow(line.len())?;
                    tell(Part::Piece(line));
                    return Ok(());
                }
                Place::Type(count) => {
                    let is_so_far = MESSAGE.get(count) == Some(&first);
                    self.event.is_message = is_so_far && count + 1 == MESSAGE.len();
                    (if is_so_far { Place::Type(count + 1) } else { Place::Ignored }, 1)
                }
                Place::Ignored | Place::Mark(_) | Place::AfterCr => return Ok(()),
            };
            self.place = place;
            line = tail(line, taken);
        }
        Ok(())
    }

    fn end_line<'a>(&mut self, tell: &mut impl FnMut(Part<'a>)) -> Result<(), FrameError> {
        match self.place {
            Place::Start => {
                let event = std::mem::replace(&mut self.event, Event::NONE);
                match event.data_len {
                    Some(len) if len > 0 && event.is_message => tell(Part::End(len)),
                    Some(_) => tell(Part::Nothing),
                    None => {}
                }
            }
            // A field without a colon has an empty value.
            Place::Value(name) => self.begin(name, tell)?,
            Place::Name(name, count) if count == name.text().len() => self.begin(name, tell)?,
            _ => {}
        }
        Ok(())
    }

    /// A field's value begins.
    fn begin<'a>(&mut self, name: Name, tell: &mut impl FnMut(Part<'a>)) -> Result<(), FrameError> {
        if name == Name::Event {
            // The last type counts; an empty one is none.
            self.event.is_message = true;
        } else if self.event.data_len.is_some() {
            self.grow(1)?;
            tell(Part::Piece(b"\n"));
        } else {
            (self.event.data_len, self.event.at) = (Some(0), self.line_at);
        }
        Ok(())
    }

    fn grow(&mut self, more: usize) -> Result<(), FrameError> {
        let len = self.event.data_len.unwrap_or(0).saturating_add(more);
        if len > self.max_event_len {
            return Err(FrameError::MessageTooLarge { limit: self.max_event_len, at: self.event.at });
        }
        self.event.data_len = Some(len);
        Ok(())
    }
}

fn tail(bytes: &[u8], from: usize) -> &[u8] {
    bytes.get(from..).unwrap_or_default()
}

const MARK: &[u8] = b"\xEF\xBB\xBF";
const MESSAGE: &[u8] = b"message";
const PLAIN_TYPE: &[u8] = b"event: message";

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use shadowcat_codecs::{
        Limits,
        sse::{EventTable, SseDecoder},
    };

    use super::*;

    /// What is told of a stream that comes in these pieces, put together.
    fn told(stream: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let (mut watched, mut messages, mut open) = (Watched::new(1 << 20), Vec::new(), Vec::new());
        let mut from = 0;
        for to in cuts.iter().copied().chain([stream.len()]) {
            let to = to.clamp(from, stream.len());
            let read = watched.push(&stream[from..to], |part| match part {
                Part::Whole(message) => messages.push(message.to_owned()),
                Part::Piece(part) => open.extend_from_slice(part),
                Part::End(len) => {
                    assert_eq!(len, open.len());
                    messages.push(std::mem::take(&mut open));
                }
                Part::Nothing => open.clear(),
            });
            assert_eq!(read, Ok(()));
            from = to;
        }
        messages
    }

    fn decoded(stream: &[u8]) -> Vec<Vec<u8>> {
        let (mut decoder, mut table, mut messages) =
            (SseDecoder::new(Limits::default()), EventTable::new(), Vec::new());
        let mut stream: Bytes = stream.iter().copied().collect();
        while let Some(batch) = decoder.push(&mut stream, &mut table).unwrap() {
            let wanted = batch.iter().filter(|event| event.event() == b"message" && !event.data().is_empty());
            messages.extend(wanted.map(|event| event.data().to_owned()));
            table.recycle(batch);
        }
        messages
    }

    #[test]
    fn limit_is_of_an_event_and_holds_within_it() {
        let line = |len: usize| format!("data: {}\n", "x".repeat(len));
        for (stream, is_good) in [
            (line(8) + "\n" + &line(8) + "\n", true),
            (line(9), false),
            (line(4) + &line(3), true),
            (line(4) + &line(4), false),
            ("event: x\n".to_owned() + &line(9), false),
            (format!(": {}\n", "x".repeat(99)), true),
        ] {
            for step in [1, 3, 99] {
                let mut watched = Watched::new(8);
                let read = stream.as_bytes().chunks(step).try_for_each(|piece| watched.push(piece, |_| {}));
                assert_eq!(read.is_ok(), is_good, "{stream:?} in steps of {step}");
            }
        }
    }

    proptest! {
        #[test]
        fn tells_what_a_decoder_says_however_it_is_cut(
            words in prop::collection::vec(prop::sample::select(WORDS), 0..24),
            cuts in prop::collection::vec(0_usize..200, 0..6),
        ) {
            let stream = words.concat();
            let mut cuts = cuts;
            cuts.sort_unstable();
            let single: Vec<usize> = (0..stream.len()).collect();
            let expected = decoded(&stream);
            prop_assert_eq!(&told(&stream, &[]), &expected);
            prop_assert_eq!(&told(&stream, &cuts), &expected);
            prop_assert_eq!(told(&stream, &single), expected);
        }
    }

    const WORDS: &[&[u8]] = &[
        b"data",
        b"data:",
        b"data: ",
        b"event",
        b"event:",
        b"event: message",
        b"event: messages",
        b"event: mess",
        b"id: 1",
        b"retry: 1",
        b":",
        b": x",
        b" ",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b"\r\n\r\n",
        b"x",
        b"{}",
        b"d",
        b"\xEF\xBB\xBF",
        b"\xEF\xBB",
        b"data: {}\n\n",
        b"event: message\ndata: {}\n\n",
        b"dat",
        b"message",
    ];
}
