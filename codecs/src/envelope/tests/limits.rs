//! Limits, depth bombs, huge tokens, memory that is given back, and frames that are too long.

use super::{checks, *};
use crate::Limits;

fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(128 << 10).spawn(run).unwrap().join().unwrap();
}

#[test]
fn depth_bombs_end_at_the_limit_on_a_small_stack() {
    on_a_small_stack(|| {
        for (open, inside) in
            [("[", "["), ("{\"a\":", "["), ("{\"params\":", "{\"a\":"), ("{\"params\":{\"_meta\":", "{\"_meta\":")]
        {
            let bomb = open.to_owned() + &inside.repeat(1_000_000);
            let mut scan = EnvelopeScan::new(Limits::default());
            scan.feed(bomb.as_bytes());
            let Err(EnvelopeError::TooDeep { limit: 1024, at }) = scan.finish() else { panic!("{open}") };
            let opened = bomb.as_bytes()[..=at as usize].iter().filter(|&&byte| matches!(byte, b'[' | b'{')).count();
            assert_eq!(opened, 1025, "{open}");
            let mut strict = EnvelopeParser::new(Limits::default()).with_strictness(Strictness::Strict);
            assert_eq!(strict.parse(bomb.as_bytes()), scan.finish());
        }
    });
}

#[test]
fn deepest_allowed_nesting_passes_both_ways() {
    for levels in [1, 2, 3, 4, 63, 64, 65, 1023, 1024, 1025, 1026] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"params\":", "}")] {
            let last = if open == "[" { "" } else { "0" };
            let frame = open.repeat(levels) + last + &close.repeat(levels);
            let said = checks::every_way_agrees(frame.as_bytes(), Limits::default(), &[5, 70, 500]);
            assert_eq!(said.is_ok(), levels <= 1024, "{levels} {open}");
            assert_eq!(checks::strict(frame.as_bytes(), Limits::default()).is_ok(), levels <= 1024, "{levels} {open}");
        }
    }
}

#[test]
fn numbers_of_ten_megabytes_are_bounded_work() {
    let digits = "7".repeat(10 << 20);
    for (frame, expected) in [
        (format!("{{\"result\":{digits},\"id\":1}}"), Ok(Kind::Response)),
        (format!("[[{digits}]]"), Ok(Kind::Batch)),
        (format!("{{\"id\":{digits}}}"), Err(EnvelopeError::IdTooLong { limit: 1024, at: 6 })),
        (format!("{{\"x\":0.{digits}e{digits},\"method\":\"a\"}}"), Ok(Kind::Notification)),
    ] {
        let mut parser = EnvelopeParser::new(Limits::default());
        assert_eq!(parser.parse(frame.as_bytes()).map(|envelope| envelope.kind()), expected);
    }
}

#[test]
fn names_and_uris_of_megabytes_stay_whole() {
    let long = "x\\/é".repeat(300_000);
    let frame = format!("{{\"params\":{{\"uri\":\"{long}\",\"name\":\"{long}\"}},\"method\":\"a\",\"id\":1}}");
    let envelope = EnvelopeParser::new(Limits::default()).parse(frame.as_bytes()).unwrap();
    assert_eq!(envelope.uri().map(|uri| uri.of(frame.as_bytes())), Some(long.as_bytes()));
    assert_eq!(envelope.name().map(|name| name.of(frame.as_bytes())), Some(long.as_bytes()));
    assert_eq!(envelope.id().map(|id| id.of(frame.as_bytes())), Some(&b"1"[..]));
}

#[test]
fn id_of_a_frame_that_is_too_long_is_learnt() {
    let limits = Limits::default().with_max_frame_len(100).unwrap();
    let frame = format!("{{\"method\":\"x\",\"params\":{{\"a\":\"{}\"}},\"id\":\"abc\"}}", "y".repeat(5000));
    let mut scan = EnvelopeScan::new(limits);
    for chunk in frame.as_bytes().chunks(7) {
        scan.feed(chunk);
    }
    assert_eq!(scan.id_so_far(), Some((&b"\"abc\""[..], IdClass::String)));
    assert_eq!(scan.kind_so_far(), Kind::Request);
    assert_eq!(scan.finish(), Err(EnvelopeError::TooLarge { limit: 100 }));
    scan.reset();
    assert_eq!(scan.id_so_far(), None);
    scan.feed(b"{\"id\":");
    scan.feed(&[b'1'; 2000]);
    scan.feed(b"}");
    assert_eq!(scan.id_so_far(), None, "an id over its own limit is not kept");
}

#[test]
fn memory_of_a_large_frame_is_given_back() {
    let large = format!("[{}1]", "1,".repeat(1 << 20));
    let limits = Limits::default().with_max_batch_len(u32::MAX);
    let mut parser = EnvelopeParser::new(limits).with_strictness(Strictness::Strict);
    parser.parse(b"{\"method\":\"a\"}").unwrap();
    assert_eq!(parser.shrinks(), 0);
    let text = format!("{{\"result\":\"{}\",\"id\":1}}", "x".repeat(3 << 20));
    parser.parse(text.as_bytes()).unwrap();
    assert_eq!(parser.shrinks(), 1);
    parser.parse(large.as_bytes()).unwrap();
    assert_eq!(parser.elements().len(), (1 << 20) + 1);
    parser.parse(b"{\"method\":\"a\"}").unwrap();
    assert!(parser.shrinks() >= 2);
    assert!(parser.held() <= MAX_HELD);
}

#[test]
fn every_cut_of_a_frame_says_the_same() {
    let frame = "{\"\\u0069d\" : \"é\\n\\u00e9\" ,\"params\":{\"_meta\":{\"progressToken\":-1.5e+3,\"io.modelcontextprotocol\\/logLevel\":\"x\"},\"n\\u0061me\":\"😀\"},\"result\":[{\"a\":\"\\\\\\\"]\"}],\"x\":null,\"y\":false}";
    let whole = checks::every_way_agrees(frame.as_bytes(), Limits::default(), &[]);
    assert!(whole.is_ok());
    for first in 0..=frame.len() {
        assert_eq!(
            checks::every_way_agrees(&frame.as_bytes()[..first], Limits::default(), &[first / 2]).is_ok(),
            first == frame.len()
        );
        for second in first..=frame.len() {
            let mut scan = EnvelopeScan::new(Limits::default());
            scan.feed(&frame.as_bytes()[..first]);
            scan.feed(&frame.as_bytes()[first..second]);
            scan.feed(&frame.as_bytes()[second..]);
            assert_eq!(scan.finish(), whole.clone().map(|(envelope, _)| envelope), "{first} {second}");
        }
    }
    let mut scan = EnvelopeScan::new(Limits::default());
    frame.as_bytes().chunks(1).for_each(|byte| scan.feed(byte));
    assert_eq!(scan.finish(), whole.map(|(envelope, _)| envelope), "byte by byte");
}

#[test]
fn elements_are_those_of_the_last_frame_whichever_way_it_went() {
    let element = r#"{"id":1,"method":"a"}"#;
    for strictness in [Strictness::Envelope, Strictness::Strict] {
        let mut parser = EnvelopeParser::new(Limits::default()).with_strictness(strictness);
        for (frame, elements) in [
            (format!("[{element},{element}]"), Some(2)),
            (format!(" [{element} , 1]"), Some(2)),
            (format!("[{element},{element},{{\"\\u0069d\":2}}]"), Some(3)),
            (format!("[{element}]"), Some(1)),
            (format!("[{element},{element}"), None),
            (element.to_owned(), Some(0)),
            (format!("[{element}] "), Some(1)),
            ("[]".to_owned(), Some(0)),
        ] {
            let parsed = parser.parse(frame.as_bytes());
            assert_eq!(parsed.is_ok().then(|| parser.elements().len()), elements, "{frame}");
        }
    }
}

#[test]
fn length_at_which_the_way_changes_changes_nothing_else() {
    for len in [65_400, 65_535, 65_536, 65_537, 65_700] {
        for (open, close) in [("{\"result\":{\"a\":[\"", "\",1]},\"id\":1}"), ("[{\"id\":1,\"result\":\"", "\"},{}]")] {
            let frame = format!("{open}{}{close}", "x".repeat(len - open.len() - close.len()));
            let said = checks::every_way_agrees(frame.as_bytes(), Limits::default(), &[100, 65_536]);
            checks::agrees_with_serde(frame.as_bytes(), Limits::default(), &said);
            assert!(said.is_ok());
        }
    }
}
