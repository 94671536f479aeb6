//! Envelopes: verdicts and spans by table, and laws over generated frames.

use super::*;
use crate::{Limits, PADDING, PaddedFrame};

#[test]
fn smoke() {
    let frame =
        br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":"a"}}}"#;
    let mut parser = EnvelopeParser::new(Limits::default());
    let whole = parser.parse(frame).unwrap();
    assert_eq!(whole.id().unwrap().of(frame), b"1");
    assert_eq!(whole.meta_progress_token().unwrap().of(frame), b"\"a\"");
    assert_eq!(whole.kind(), Kind::Request);
    let mut scan = EnvelopeScan::new(Limits::default());
    scan.feed(frame);
    assert_eq!(scan.finish(), Ok(whole));
    let mut padded = frame.to_vec();
    padded.resize(frame.len() + PADDING, b'"');
    assert_eq!(parser.parse_in_place(PaddedFrame::new(&mut padded, frame.len()).unwrap()), Ok(whole));
    assert_eq!(&padded[..frame.len()], frame);
}
