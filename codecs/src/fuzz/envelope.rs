//! Envelopes: every way to one says the same, serde_json agrees, and replacing an id changes nothing else.

use bytes::Bytes;

use crate::{
    Frame, Limits, Span,
    envelope::{Envelope, EnvelopeParser, Kind, Replacement, Splice, checks, has_escapes, text},
};

/// Any bytes, any limits, any cuts: all ways agree and change nothing.
///
/// ```text
/// depth  id  batch  n  cut × n  frame…
/// ```
///
/// One byte each for the limits (0 stands for the default) and for the number of cuts (modulo 8).
pub fn envelope(input: &[u8]) {
    let Some((&[depth, id, batch, count], rest)) = input.split_first_chunk() else { return };
    let Some((cuts, frame)) = rest.split_at_checked(usize::from(count % 8)) else { return };
    let mut limits = Limits::default();
    if depth > 0 {
        limits = limits.with_max_depth(depth.into());
    }
    if id > 0 {
        limits = limits.with_max_id_len(id.into());
    }
    if batch > 0 {
        limits = limits.with_max_batch_len(batch.into());
    }
    let cuts: Vec<usize> = cuts.iter().map(|&cut| cut.into()).collect();
    let said = checks::every_way_agrees(frame, limits, &cuts);
    let strict = checks::strict(frame, limits);
    assert!(strict.is_err() || strict == said, "strict reads another envelope");
    if let Ok((envelope, _)) = said {
        let name = envelope.name().or_else(|| envelope.method()).unwrap_or_default();
        assert!(has_escapes(name, frame) || text(name, frame).is_some());
    }
}

/// The input is the frame: what is said about it is what serde_json reads.
pub fn scan_vs_serde(frame: &[u8]) {
    let said = checks::every_way_agrees(frame, Limits::default(), &[frame.len() / 3, frame.len() / 2]);
    checks::agrees_with_serde(frame, Limits::default(), &said);
}

/// The input is the frame, behind eight bytes of minted id: all its ids and tokens are replaced, and put
/// back.
pub fn splice(input: &[u8]) {
    let Some((minted, frame)) = input.split_first_chunk() else { return };
    let minted = u64::from_le_bytes(*minted);
    let mut parser = EnvelopeParser::new(Limits::default());
    let Ok(envelope) = parser.parse(frame) else { return };
    if envelope.kind() == Kind::Batch {
        return;
    }
    let mut there = Splice::new(Frame::new(Bytes::from(frame.to_owned())));
    let mut kept = Vec::new();
    for span in tokens(&envelope, frame) {
        if there.replace(span, Replacement::from(minted)).is_ok() {
            kept.push(span.of(frame).to_owned());
        }
    }
    let spliced: Vec<u8> = there.slices().collect::<Vec<_>>().concat();
    assert_eq!(spliced.len(), there.len());
    assert_eq!(there.original()[..], *frame, "the original is not kept");
    let again = parser.parse(&spliced);
    let Ok(again) = again else { unreachable!("a spliced frame is refused: {again:?}") };
    assert_eq!(again.kind(), envelope.kind());
    assert_eq!(others(&again, &spliced), others(&envelope, frame), "another member changed");
    let mut back = Splice::new(Frame::new(Bytes::from(spliced.clone())));
    for (span, original) in tokens(&again, &spliced).into_iter().zip(kept) {
        assert_eq!(span.of(&spliced), minted.to_string().as_bytes());
        let original = Replacement::raw(Bytes::from(original));
        let replaced = original.and_then(|original| back.replace(span, original));
        assert_eq!(replaced, Ok(()));
    }
    assert_eq!(back.slices().collect::<Vec<_>>().concat(), frame, "there and back is not the same");
}

/// Ids and tokens in frame order, as far as there is room for them.
fn tokens(envelope: &Envelope, frame: &[u8]) -> Vec<Span> {
    let all = [envelope.id(), envelope.meta_progress_token(), envelope.progress_token(), envelope.request_id()];
    let mut tokens: Vec<Span> = all.into_iter().flatten().filter(|span| span.of(frame) != b"null").collect();
    tokens.sort_by_key(|span| span.start());
    tokens
}

/// The texts of everything that is no token.
fn others<'a>(envelope: &Envelope, frame: &'a [u8]) -> Vec<Option<&'a [u8]>> {
    let all = [
        envelope.method(),
        envelope.name(),
        envelope.uri(),
        envelope.protocol_version(),
        envelope.subscription_id(),
        envelope.log_level(),
        envelope.traceparent(),
        envelope.result_protocol_version(),
        envelope.result_type(),
        envelope.error_code(),
    ];
    all.into_iter().map(|span| span.map(|span| span.of(frame))).collect()
}
