//! A message of a child as an event of a stream; and with `--verify`, the message in an event held against how it came in.

use bytes::{Bytes, BytesMut};
use shadowcat_codecs::sse::{Event, SseEncoder};

use crate::{
    budget::Charge,
    link::mux::pieces::Pieces,
    telemetry::metrics::{Metrics, labels::CopyReason},
    verify::{Check, Edit, Seen},
};

/// A message as an event. A small one is copied into one piece (a named copy), if there is a charge for it: each piece
/// is a chunk of its own to HTTP/1.1, with a length line and an end.
pub(super) fn as_event(message: Pieces, id: Option<String>, charge: Option<Charge>, metrics: &Metrics) -> Pieces {
    let is_copied = message.len() <= MAX_COPY && charge.is_some();
    if is_copied {
        // With ids spliced in, it is first put together.
        let times = if message.count() > 1 { 2 } else { 1 };
        (0..times).for_each(|_| metrics.copied(CopyReason::Event, message.len()));
    }
    let event = if message.count() > 1 && !is_copied {
        // Ids were spliced in; the data line goes on over several pieces. A message that was one line has no
        // line end but, perhaps, a CR between tokens, which must not end the data line.
        spliced_event(message, id)
    } else {
        let event = match id {
            Some(id) => Event::new(message.into_one()).with_id(id),
            None => Ok(Event::new(message.into_one())),
        };
        let Ok(event) = event else { return Pieces::default() };
        if is_copied {
            let mut copy = BytesMut::new();
            SseEncoder::new().encode_into(&event, &mut copy);
            Pieces::from(copy.freeze())
        } else {
            SseEncoder::new().encode(event).into_pieces().collect()
        }
    };
    match charge {
        Some(charge) => event.charged(charge),
        None => event,
    }
}

/// Holds the message in an event against how it came in. All of it lies behind the first field name; an event of a
/// message with a raw CR between tokens has more of them, which are as one line end.
pub(super) fn pass_event(check: &mut Check, seen: Seen, edits: Vec<Edit>, event: &Pieces) {
    // Joined, as a field name may be cut; only with `--verify`.
    let event = event.clone().into_one();
    let whole = event.strip_suffix(b"\n\n").unwrap_or(&event);
    let from = if whole.starts_with(b"id: ") { memchr::memchr(b'\n', whole).map_or(0, |at| at + 1) } else { 0 };
    let data = whole.get(from..).and_then(|rest| rest.strip_prefix(b"data: ")).unwrap_or_default();
    let lines = memchr::memmem::find_iter(data, b"\ndata: ").chain([data.len()]);
    let (mut pieces, mut behind) = (Vec::new(), 0);
    for end in lines {
        pieces.extend(data.get(behind..end));
        pieces.extend((end < data.len()).then_some(&b" "[..]));
        behind = end + b"\ndata: ".len();
    }
    check.pass(seen, edits, pieces);
}

fn spliced_event(message: Pieces, id: Option<String>) -> Pieces {
    let mut head = BytesMut::new();
    if let Some(id) = id {
        head.extend_from_slice(b"id: ");
        head.extend_from_slice(id.as_bytes());
        head.extend_from_slice(b"\n");
    }
    head.extend_from_slice(b"data: ");
    std::iter::once(head.freeze())
        .chain(message.iter().map(without_cr))
        .chain(std::iter::once(Bytes::from_static(b"\n\n")))
        .collect()
}

/// A raw CR, which JSON has only between tokens, becomes a space (a named copy).
fn without_cr(piece: &Bytes) -> Bytes {
    if !piece.contains(&b'\r') {
        return piece.clone();
    }
    piece.iter().map(|&byte| if byte == b'\r' { b' ' } else { byte }).collect()
}

/// Up to this length a message is copied to leave in one piece.
const MAX_COPY: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use shadowcat_codecs::{
        Frame, Limits,
        envelope::{EnvelopeParser, Replacement, Splice},
    };

    use super::*;
    use crate::{
        budget::Budget,
        telemetry::metrics::{
            Metrics,
            labels::{Link, To},
        },
        verify::Verify,
    };

    /// What the child said, with another id put in, and as it came in.
    fn said(text: &'static str, came_in: &str, verify: Verify) -> Pieces {
        let frame = Frame::new(Bytes::from_static(text.as_bytes()));
        let id = EnvelopeParser::new(Limits::default()).parse(&frame).unwrap().id().unwrap();
        let (whole, mut splice) = (Bytes::from(frame.clone()), Splice::new(frame));
        splice.replace(id, Replacement::raw(Bytes::from_static(b"\"abc\"")).unwrap()).unwrap();
        let mut pieces = Pieces::from(splice);
        pieces.came_as(&whole, verify.blanked(came_in.as_bytes()).unwrap());
        pieces
    }

    /// However an event is put together, the message in it is held against what came in.
    #[test]
    fn altered_byte_of_an_answer_is_found_where_it_enters_a_lane() {
        const TEXT: &str = "{\"id\":17,\r\"result\":{}}";
        let (verify, metrics, place) = (Verify::on().unwrap(), Metrics::default(), (Link::Mux, To::Client));
        let mut check = verify.check(&metrics, place.0, place.1).unwrap();
        for (came_in, mismatches) in [(TEXT, 0), ("{\"id\":17,\r\"resulT\":{}}", 1), ("{\"id\":18,\r\"result\":{}}", 1)]
        {
            let pieces = || said(TEXT, came_in, verify);
            let before = metrics.verify_mismatches.of(place);
            check.pass(pieces().seen().unwrap(), pieces().edits(), pieces().iter().map(|piece| &**piece));
            assert_eq!(metrics.verify_mismatches.of(place) - before, mismatches, "{came_in}, plain");
            for id in [None, Some("e-1".to_owned())] {
                let budget = Budget::new(64 << 20, 1 << 20).unwrap();
                for charge in [None, budget.try_take(100)] {
                    let before = metrics.verify_mismatches.of(place);
                    let event = as_event(pieces(), id.clone(), charge, &metrics);
                    pass_event(&mut check, pieces().seen().unwrap(), pieces().edits(), &event);
                    assert_eq!(metrics.verify_mismatches.of(place) - before, mismatches, "{came_in}, {event:?}");
                }
            }
        }
    }
}
