//! What an envelope costs in allocations, counted, not timed: none per frame once warm, both ways, whole
//! and in chunks, accepted or refused.
//!
//! One test: the counter counts the whole process.

use shadowcat_codecs::{
    Limits, PADDING, PaddedFrame,
    envelope::{EnvelopeParser, EnvelopeScan, Strictness},
};

#[path = "support/counting.rs"]
mod counting;

use counting::allocations;

fn frames() -> Vec<Vec<u8>> {
    let long = "a line of text \\\"quoted\\\" \\n é ".repeat(3000);
    [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":[1,2,{"b":null}]}}}"#
            .to_owned(),
        r#"{"jsonrpc":"2.0","i\u0064":"\u00e9","m\u0065thod":"a\/b","params":{"_meta":{"progressToken":"t"}}}"#
            .to_owned(),
        format!(r#"{{"jsonrpc":"2.0","id":"abc","result":{{"content":[{{"text":"{long}"}}]}}}}"#),
        format!("[{}]", vec![r#"{"jsonrpc":"2.0","id":1,"result":{}}"#; 50].join(",")),
        r#"{"jsonrpc":"2.0","id":1,"id":2}"#.to_owned(),
        r#"{"jsonrpc":"2.0","id":1e400,"result":[1,]"#.to_owned(),
        format!(r#"{{"x":"{long}"#),
    ]
    .map(String::into_bytes)
    .into()
}

/// Allocations of 20 rounds over all frames, after two to warm up.
fn counted(mut read: impl FnMut(&mut [u8], usize)) -> usize {
    let mut padded: Vec<(Vec<u8>, usize)> = frames()
        .into_iter()
        .map(|mut frame| {
            let len = frame.len();
            frame.resize(len + PADDING, b'\n');
            (frame, len)
        })
        .collect();
    let mut before = 0;
    for round in 0..22 {
        if round == 2 {
            before = allocations();
        }
        for (bytes, len) in &mut padded {
            read(bytes, *len);
        }
    }
    allocations() - before
}

#[test]
fn warm_envelopes_allocate_nothing() {
    for (small_len, strictness) in
        [(0, Strictness::Envelope), (usize::MAX, Strictness::Envelope), (0, Strictness::Strict)]
    {
        let new = || EnvelopeParser::new(Limits::default()).with_small_len(small_len).with_strictness(strictness);
        let (mut shared, mut in_place) = (new(), new());
        let allocations = counted(|bytes, len| {
            let _ = shared.parse(&bytes[..len]);
        });
        assert_eq!(allocations, 0, "shared, {small_len}, {strictness:?}");
        let allocations = counted(|bytes, len| {
            let _ = in_place.parse_in_place(PaddedFrame::new(bytes, len).expect("it is padded"));
        });
        assert_eq!(allocations, 0, "in place, {small_len}, {strictness:?}");
    }
    let mut scan = EnvelopeScan::new(Limits::default());
    let allocations = counted(|bytes, len| {
        scan.reset();
        bytes[..len].chunks(7).for_each(|chunk| scan.feed(chunk));
        let _ = scan.finish();
    });
    assert_eq!(allocations, 0, "in chunks");
}
