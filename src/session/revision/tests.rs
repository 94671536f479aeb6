//! The table of rule V13, and what a batch may hold.

use http::HeaderValue;
use shadowcat_codecs::{Limits, envelope::EnvelopeParser};

use super::*;

const MODERN: Class<'static> = Class::Modern { revision: Revision::V2026_07_28 };
const PLAIN: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const WITH_META: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;
const NOTIFICATION: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const RESPONSE: &str = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
const BATCH: &str = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#;

fn headers(version: Option<&str>, session: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(version) = version {
        headers.insert(MCP_PROTOCOL_VERSION, version.parse().unwrap());
    }
    if session {
        headers.insert(MCP_SESSION_ID, HeaderValue::from_static("s"));
    }
    headers
}

fn classified(version: Option<&str>, session: bool, frame: &str) -> Result<Class<'static>, Reason> {
    let headers = headers(version, session);
    let envelope = EnvelopeParser::new(Limits::default()).parse(frame.as_bytes()).unwrap();
    let facts = Facts::of(&headers).unwrap();
    let class = classify(&facts, &envelope, frame.as_bytes())?;
    Ok(match class {
        Class::Modern { revision } => Class::Modern { revision: revision.into_owned() },
        Class::LegacyStart { offered } => Class::LegacyStart { offered: offered.map(Revision::into_owned) },
        Class::LegacyRunning { revision } => Class::LegacyRunning { revision: revision.map(Revision::into_owned) },
        Class::LegacyBare => Class::LegacyBare,
    })
}

fn running(revision: Option<Revision<'static>>) -> Class<'static> {
    Class::LegacyRunning { revision }
}

#[test]
fn messages_are_classified_one_by_one() {
    let start = |offered: &'static str| Class::LegacyStart { offered: Some(Revision::new(offered)) };
    let future = Class::Modern { revision: Revision::new("2027-01-01") };
    for (version, session, frame, class) in [
        // 1. `_meta`, or the header.
        (None, false, WITH_META, MODERN),
        (Some("2026-07-28"), false, WITH_META, MODERN),
        (Some("2026-07-28"), true, WITH_META, MODERN),
        (Some("2025-06-18"), true, WITH_META, MODERN),
        (Some("2027-01-01"), false, WITH_META, MODERN),
        (None, false, &WITH_META.replace("2026-07-28", "2027-01-01"), future.clone()),
        (None, false, &WITH_META.replace("2026-07-28", "2027\\u002d01-01"), future.clone()),
        (None, false, &WITH_META.replace("2026-07-28", "draft"), Class::Modern { revision: Revision::new("draft") }),
        (
            None,
            false,
            &WITH_META.replace("2026-07-28", "2025-11-25"),
            Class::Modern { revision: Revision::V2025_11_25 },
        ),
        (None, false, &WITH_META.replace("tools/list", "initialize"), MODERN),
        (Some("2026-07-28"), false, NOTIFICATION, MODERN),
        (Some("2027-01-01"), false, NOTIFICATION, future),
        // 2. `initialize`.
        (None, false, INITIALIZE, start("2025-06-18")),
        (Some("2025-06-18"), true, INITIALIZE, start("2025-06-18")),
        (None, false, &INITIALIZE.replace("2025-06-18", "2026-07-28"), start("2026-07-28")),
        (None, false, &INITIALIZE.replace("\"initialize", "\"initi\\u0061lize"), start("2025-06-18")),
        (None, false, r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#, Class::LegacyStart { offered: None }),
        (None, false, r#"{"jsonrpc":"2.0","method":"initialize"}"#, Class::LegacyBare),
        // 3. The session header, or another version header.
        (None, true, PLAIN, running(None)),
        (Some("2025-06-18"), false, PLAIN, running(Some(Revision::V2025_06_18))),
        (Some("2025-11-25"), true, PLAIN, running(Some(Revision::V2025_11_25))),
        (Some("2026-07-27"), false, PLAIN, running(Some(Revision::new("2026-07-27")))),
        (Some("DRAFT-2026-v1"), false, PLAIN, running(Some(Revision::new("DRAFT-2026-v1")))),
        (Some(" 2025-06-18\t"), false, PLAIN, running(Some(Revision::V2025_06_18))),
        (None, true, RESPONSE, running(None)),
        (Some("2025-03-26"), true, BATCH, running(Some(Revision::V2025_03_26))),
        // 4. Nothing.
        (None, false, PLAIN, Class::LegacyBare),
        (None, false, NOTIFICATION, Class::LegacyBare),
        (None, false, RESPONSE, Class::LegacyBare),
        (None, false, BATCH, Class::LegacyBare),
    ] {
        assert_eq!(classified(version, session, frame), Ok(class), "{version:?} {session} {frame}");
    }
}

#[test]
fn modern_headers_around_something_else_are_refused() {
    for (session, frame, code) in [
        (false, PLAIN, -32602),
        (true, PLAIN, -32602),
        (false, INITIALIZE, -32602),
        (false, RESPONSE, -32600),
        (false, r#"{"jsonrpc":"2.0","error":{"code":1,"message":""}}"#, -32600),
        (false, BATCH, -32600),
        (false, "7", -32600),
    ] {
        let reason = classified(Some("2026-07-28"), session, frame).unwrap_err();
        assert_eq!((reason.code(), reason.status().as_u16()), (code, 400), "{frame}");
    }
    let unreadable = WITH_META.replace("2026-07-28", "\\ud800");
    assert_eq!(classified(None, false, &unreadable).unwrap_err().code(), -32600);
}

#[test]
fn version_headers_that_cannot_be_read_are_refused() {
    let mut headers = headers(Some("2025-06-18"), false);
    headers.append(MCP_PROTOCOL_VERSION, HeaderValue::from_static("2025-06-18"));
    assert_eq!(Facts::of(&headers).unwrap_err().header(), MCP_PROTOCOL_VERSION);
    headers.insert(MCP_PROTOCOL_VERSION, HeaderValue::from_bytes(b"2025\xff").unwrap());
    assert_eq!(Facts::of(&headers).unwrap_err().header(), MCP_PROTOCOL_VERSION);
}

#[test]
fn only_dates_have_an_order() {
    for (one, two, order) in [
        ("2024-11-05", "2025-03-26", Some(Ordering::Less)),
        ("2026-07-28", "2026-07-28", Some(Ordering::Equal)),
        ("2027-01-01", "2026-07-28", Some(Ordering::Greater)),
        ("draft", "draft", Some(Ordering::Equal)),
        ("draft", "2026-07-28", None),
        ("9999-99-99", "2026-07-28", None),
        ("2027-00-10", "2026-07-28", None),
        ("2027-01-32", "2026-07-28", None),
        ("2027-1-01", "2026-07-28", None),
        ("2027/01/01", "2026-07-28", None),
        ("2027-01-01x", "2026-07-28", None),
        ("", "2026-07-28", None),
    ] {
        assert_eq!(Revision::new(one).partial_cmp(&Revision::new(two)), order, "{one} {two}");
    }
    for known in KNOWN {
        assert_eq!(Revision::new(known.as_str().to_owned()), known);
        assert_eq!(known.era() == Some(Era::Modern), known == Revision::V2026_07_28);
    }
    assert_eq!(Revision::new("draft").era(), None);
}

#[test]
fn batches_are_of_one_revision_and_of_one_direction() {
    let meta = format!("[{WITH_META}]");
    for (frame, is_allowed) in [
        (BATCH, true),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"n"}]"#, true),
        (r#"[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"error":{"code":1}}]"#, true),
        ("[]", false),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"initialize"}]"#, false),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":1,"method":"initi\u0061lize"}]"#, false),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","id":2,"result":{}}]"#, false),
        (&meta, false),
    ] {
        let mut parser = EnvelopeParser::new(Limits::default());
        parser.parse(frame.as_bytes()).unwrap();
        for revision in KNOWN {
            let checked = check_batch(parser.elements(), frame.as_bytes(), &revision);
            let expected = is_allowed && revision == Revision::V2025_03_26;
            assert_eq!(checked.is_ok(), expected, "{revision} {frame}");
            assert!(checked.err().is_none_or(|reason| reason.code() == -32600));
        }
    }
}

#[test]
fn only_what_is_certainly_not_there_is_missed() {
    let with = |meta: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{{"_meta":{{{meta}}}}}}}"#);
    assert!(lacks_capabilities(with("").as_bytes()));
    assert!(lacks_capabilities(with(r#""io.modelcontextprotocol/clientCapabilitiesX":{}"#).as_bytes()));
    assert!(!lacks_capabilities(with(r#""io.modelcontextprotocol/clientCapabilities":{}"#).as_bytes()));
    assert!(!lacks_capabilities(with(r#""io.modelcontextprotocol\/clientCapabilities":{}"#).as_bytes()));
}
