//! Batches, which only MCP 2025-03-26 has: what one may hold, its elements as frames, and answers collected
//! into one.
//!
//! An element's bytes are never touched; brackets and commas are ours.

use bytes::{BufMut, Bytes, BytesMut};
use shadowcat_codecs::envelope::{BatchElement, Envelope, Kind};

use super::spelling::method_is;

/// What the elements of a batch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Notifications, and at least one request.
    Requests,
    /// Notifications only.
    Notifications,
    /// Answers only.
    Answers,
}

/// What a client's batch is, or why it may not be sent.
///
/// Rule F8 (MCP 2025-03-26, Transports and Lifecycle): an array of requests and notifications or one of
/// answers; never empty; `initialize` is never inside one.
pub(super) fn sort(frame: &[u8], elements: &[BatchElement]) -> Result<Sort, &'static str> {
    let (mut requests, mut notifications, mut answers) = (0_usize, 0_usize, 0_usize);
    for envelope in elements.iter().map(BatchElement::envelope) {
        match envelope.kind() {
            Kind::Request if method_is(frame, envelope, "initialize") => {
                return Err("initialize cannot be part of a batch");
            }
            Kind::Request => requests += 1,
            Kind::Notification => notifications += 1,
            Kind::Response | Kind::Error => answers += 1,
            Kind::Batch | Kind::Other => return Err("an element of the batch is no JSON-RPC message"),
        }
    }
    match (requests, notifications, answers) {
        (0, 0, 0) => Err("the batch is empty"),
        (0, 0, _) => Ok(Sort::Answers),
        (0, _, 0) => Ok(Sort::Notifications),
        (_, _, 0) => Ok(Sort::Requests),
        _ => Err("a batch holds requests and notifications or answers, not both"),
    }
}

/// The elements' own frames with their envelopes, whose spans stay relative to the batch. Nothing is copied.
pub(super) fn split<'a>(
    batch: &'a Bytes,
    elements: &'a [BatchElement],
) -> impl Iterator<Item = (Bytes, &'a Envelope)> + 'a {
    elements.iter().map(|element| (element_frame(batch, element), element.envelope()))
}

/// The bytes of one element of `batch`, shared.
#[must_use]
pub fn element_frame(batch: &Bytes, element: &BatchElement) -> Bytes {
    let span = element.span();
    // A span of another, longer frame stands for nothing, as everywhere.
    if span.end() > batch.len() { Bytes::new() } else { batch.slice(span.start()..span.end()) }
}

/// One array of `messages`: the slices to write in order, theirs and our brackets and commas.
pub fn collected(messages: &[Bytes]) -> impl Iterator<Item = &[u8]> {
    let separated = messages.iter().enumerate().flat_map(|(index, message)| {
        let before: &[u8] = if index == 0 { b"[" } else { b"," };
        [before, message]
    });
    let rest: &[u8] = if messages.is_empty() { b"[]" } else { b"]" };
    separated.chain([rest])
}

/// [`collected`], in one buffer: a copy, for a reply that needs its length first.
#[must_use]
pub fn collect_copy(messages: &[Bytes]) -> Bytes {
    let mut body = BytesMut::with_capacity(collected(messages).map(<[u8]>::len).sum());
    collected(messages).for_each(|slice| body.put_slice(slice));
    body.freeze()
}

#[cfg(test)]
mod tests {
    use shadowcat_codecs::{Limits, envelope::EnvelopeParser};

    use super::*;

    fn parsed(batch: &str) -> Vec<BatchElement> {
        let mut parser = EnvelopeParser::new(Limits::default());
        assert_eq!(parser.parse(batch.as_bytes()).unwrap().kind(), Kind::Batch);
        Vec::from(parser.elements())
    }

    /// Rule F8.
    #[test]
    fn batches_are_of_one_sort() {
        let sorted = |batch: &str| sort(batch.as_bytes(), &parsed(batch));
        let (request, note) = (r#"{"jsonrpc":"2.0","id":1,"method":"a"}"#, r#"{"jsonrpc":"2.0","method":"n"}"#);
        let (answer, error) =
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#);
        assert_eq!(sorted(&format!("[{note},{request}]")), Ok(Sort::Requests));
        assert_eq!(sorted(&format!("[{note}]")), Ok(Sort::Notifications));
        assert_eq!(sorted(&format!("[{answer}, {error}]")), Ok(Sort::Answers));
        for refused in [
            "[]".to_owned(),
            format!("[{request},{answer}]"),
            format!("[{error},{note}]"),
            format!("[{request},1]"),
            format!("[[{request}]]"),
            r#"[{"jsonrpc":"2.0","id":1,"method":"initi\u0061lize"}]"#.to_owned(),
        ] {
            assert!(sorted(&refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn elements_split_and_collected_keep_their_bytes() {
        let batch = Bytes::from_static(br#" [ {"jsonrpc":"2.0","id":1.0,"result":{"a": [1,2]}} , {"id":"x","error":{"code":1,"message":"],["}} ] "#);
        let elements = parsed(std::str::from_utf8(&batch).unwrap());
        let frames: Vec<Bytes> = split(&batch, &elements).map(|(frame, _)| frame).collect();
        assert_eq!(
            frames,
            [
                &br#"{"jsonrpc":"2.0","id":1.0,"result":{"a": [1,2]}}"#[..],
                br#"{"id":"x","error":{"code":1,"message":"],["}}"#
            ]
        );
        assert!(batch.as_ptr_range().contains(&frames[0].as_ptr()), "shared, not copied");
        assert_eq!(
            collect_copy(&frames),
            r#"[{"jsonrpc":"2.0","id":1.0,"result":{"a": [1,2]}},{"id":"x","error":{"code":1,"message":"],["}}]"#
        );
        assert_eq!(collect_copy(&frames[..1])[..], [b"[", &frames[0][..], b"]"].concat());
        assert_eq!(collect_copy(&[]), "[]");
    }
}
