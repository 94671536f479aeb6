//! Our own cases for every class that public JSON suites test: what we say, pinned beside what
//! serde_json says (`RawValue`, the most lenient of its readings).

use super::{checks, *};
use crate::Limits;

/// Accepted by both of our ways, or by the lenient one only, or by none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Strict,
    Lenient,
    Refused,
}

use Verdict::{Lenient, Refused, Strict};

fn check(name: &str, frame: &[u8], expected: Verdict, serde_accepts: bool) {
    let limits = Limits::default();
    for offset in 0..9 {
        // Every alignment, by white space in front.
        let frame = [&b"         "[..offset], frame].concat();
        let said = checks::every_way_agrees(&frame, limits, &[1, 3, 8, 20, 21, 40]);
        let verdict = match (&said, checks::strict(&frame, limits)) {
            (Ok(_), Ok(_)) => Strict,
            (Ok(_), Err(_)) => Lenient,
            (Err(_), _) => Refused,
        };
        assert_eq!(verdict, expected, "{name}: {said:?}");
        let serde = serde_json::from_slice::<&serde_json::value::RawValue>(&frame).is_ok();
        assert_eq!(serde, serde_accepts, "{name}: serde_json");
        checks::agrees_with_serde(&frame, limits, &said);
    }
}

#[test]
fn scalars_are_read_to_the_letter() {
    for number in
        ["0", "-0", "1", "10", "1.5", "1.50", "-1.5e3", "1E+2", "1e-2", "0e0", "0.0", "123456789012345678901234567890"]
    {
        check(number, number.as_bytes(), Strict, true);
    }
    for number in ["1e400", "-1e400", "0.4e669999999999999"] {
        check(number, number.as_bytes(), Lenient, true);
    }
    for number in [
        "00",
        "-00",
        "0.",
        "1.0.0",
        "1e5.5",
        "1e5e5",
        "1-2",
        "-a",
        "1e+-1",
        "01",
        "-",
        "+1",
        "-01",
        "1.",
        ".5",
        "1e",
        "1e+",
        "1.e1",
        "0x1",
        "1_0",
        "NaN",
        "Infinity",
        "-Infinity",
        "1 2",
        "--1",
        "0e",
        "１",
    ] {
        check(number, number.as_bytes(), Refused, false);
        check(number, format!("{{\"id\":{number}}}").as_bytes(), Refused, false);
    }
    for literal in ["true", "false", "null", "\"\"", " \t\r\n null \n"] {
        check(literal, literal.as_bytes(), Strict, true);
    }
    for literal in [
        "",
        " ",
        "tru",
        "True",
        "nul",
        "nullx",
        "true false",
        "undefined",
        "'a'",
        "\u{feff}1",
        "\u{a0}1",
        "1\0",
        "\x0c1",
        "/**/1",
        "1//",
        "a",
    ] {
        check(literal, literal.as_bytes(), Refused, false);
    }
}

#[test]
fn strings_are_read_to_the_letter_where_they_route() {
    for text in
        ["a", "\\\"\\\\\\/\\b\\f\\n\\r\\t", "\\u0000", "\\u00e9\\uD83D\\uDE00", "é€😀\u{2028}\u{7f}\u{ffff}", "/"]
    {
        check(text, format!("{{\"method\":\"{text}\"}}").as_bytes(), Strict, true);
        check(text, format!("{{\"x\":[\"{text}\"]}}").as_bytes(), Strict, true);
    }
    for text in ["\\ud800", "\\udc00", "\\ud800\\u0041", "\\udc00\\ud800", "\\ud800\\n"] {
        check(text, format!("{{\"method\":\"{text}\"}}").as_bytes(), Lenient, true);
        check(text, format!("{{\"{text}\":1}}").as_bytes(), Lenient, true);
        check(text, format!("{{\"x\":[\"{text}\"]}}").as_bytes(), Lenient, true);
    }
    for text in ["\\q", "\\u12", "\\u12g4", "\\U0041", "\\x41", "\\'", "\\u", "\\ ", "\\0", "\\é"] {
        check(text, format!("{{\"method\":\"{text}\"}}").as_bytes(), Refused, false);
        check(text, format!("{{\"{text}\":1}}").as_bytes(), Refused, false);
        // Inside what is skipped, only the end of a string matters.
        check(text, format!("{{\"x\":[\"{text}\"]}}").as_bytes(), Lenient, false);
        check(text, format!("{{\"x\":\"{text}\"}}").as_bytes(), Lenient, false);
    }
    for text in ["\n", "\0", "\t", "\u{1f}", "a\r", "\\\n"] {
        for frame in [
            format!("\"{text}\""),
            format!("{{\"method\":\"{text}\"}}"),
            format!("{{\"{text}\":1}}"),
            format!("{{\"x\":[\"{text}\"]}}"),
        ] {
            check(text, frame.as_bytes(), Refused, false);
        }
    }
    for frame in ["\"", "\"\\", "\"\\\"", "\"a", "\"\\u00", "{\"a", "{\"method\":\"a", "[\"a]", "[\"\\\\\\\"]"] {
        check(frame, frame.as_bytes(), Refused, false);
    }
}

#[test]
fn bytes_that_are_no_characters_are_refused_everywhere() {
    let bad: [&[u8]; 13] = [
        b"\xff",
        b"\x80",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xc3",
        b"\xfe",
        b"\xf8\x88\x80\x80\x80",
    ];
    for bytes in bad {
        for (before, behind) in [
            ("\"", "\""),
            ("{\"method\":\"", "\"}"),
            ("{\"", "\":1}"),
            ("{\"x\":[\"aaaaaa", "\"]}"),
            ("", ""),
            ("[", "]"),
            ("{\"x\":\"", "\"}"),
        ] {
            let frame = [before.as_bytes(), bytes, behind.as_bytes()].concat();
            check(&format!("{bytes:?} in {before}"), &frame, Refused, false);
        }
    }
}

#[test]
fn structure_is_exact_where_it_routes_and_balanced_elsewhere() {
    for frame in
        ["{}", "[]", " { } ", "[ ]", "[1]", "[[],{}]", "{\"a\":{}}", "{\"a\":[1,[2,{\"b\":3}]],\"c\":4}", "[null, 1]\n"]
    {
        check(frame, frame.as_bytes(), Strict, true);
    }
    for frame in [
        "{",
        "}",
        "[",
        "]",
        "{]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{\"a\",1}",
        "{a:1}",
        "{1:2}",
        "{null:1}",
        "{\"a\"::1}",
        "{\"a\":1}}",
        "{\"a\":1]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1,,2]",
        "[",
        "[1",
        "[1}",
        "{\"a\":1",
        "{}{}",
        "{} 1",
        "[]]",
        "1,",
        ":",
        ",",
        "{\"params\":{,}}",
        "{\"params\":{\"a\" 1}}",
        "{\"result\":{\"_meta\":{\"a\":1,}}}",
        "{\"error\":{]}",
        "{\"a\":[}",
        "{\"a\":[1}",
    ] {
        check(frame, frame.as_bytes(), Refused, false);
    }
    for frame in [
        "{\"a\":[1,]}",
        "{\"a\":[}}",
        "{\"a\":{]}",
        "{\"a\":{1}}",
        "[[,]]",
        "[{:}]",
        "{\"a\":[nul]}",
        "{\"params\":[01]}",
        "{\"a\":[\u{1}]}",
    ] {
        let expected = if frame == "[{:}]" { Refused } else { Lenient };
        check(frame, frame.as_bytes(), expected, false);
    }
}

#[test]
fn duplicates_are_refused_in_any_spelling_and_only_where_they_route() {
    for frame in [
        r#"{"id":1,"id":1}"#,
        r#"{"id":1,"\u0069d":1}"#,
        r#"{"\u0069\u0064":1,"i\u0064":2}"#,
        r#"{"method":"a","params":{},"method":"b"}"#,
        r#"{"params":{"name":1,"n\u0061me":[]}}"#,
        r#"{"params":1,"params":2}"#,
        r#"{"params":{"_meta":{"progressToken":1,"progressToken":2}}}"#,
        r#"{"params":{"_meta":{},"_meta":{}}}"#,
        r#"{"result":{"resultType":"a","resultType":"a"}}"#,
        r#"{"error":{"code":1,"code":1}}"#,
        r#"[{"id":1},{"id":2,"id":3}]"#,
        r#"{"jsonrpc":"2.0","jsonrpc":"2.0"}"#,
        r#"{"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":1,"io.modelcontextprotocol\/subscriptionId":2}}}"#,
    ] {
        let said = checks::every_way_agrees(frame.as_bytes(), Limits::default(), &[7, 9, 11]);
        assert!(matches!(said, Err(EnvelopeError::DuplicateKey { .. })), "{frame}: {said:?}");
    }
    for frame in [
        r#"{"x":1,"x":2}"#,
        r#"{"id":1,"Id":2,"ID":3}"#,
        r#"{"params":{"id":1,"id":2}}"#,
        r#"{"x":{"id":1,"id":2},"id":3}"#,
        r#"[{"id":1},{"id":1}]"#,
        r#"{"params":{"arguments":{"name":1,"name":2},"name":"x"}}"#,
        r#"{"id":1,"\\u0069d":2}"#,
        r#"{"result":{"name":1,"name":2}}"#,
        r#"{"params":{"_meta":{"progressToken":1},"progressToken":2}}"#,
        r#"{"result":{"_meta":{}},"params":{"_meta":{}}}"#,
    ] {
        check(frame, frame.as_bytes(), Strict, true);
    }
    let twice = r#"{"a":[0],"id":1,"id":2}"#;
    let said = checks::every_way_agrees(twice.as_bytes(), Limits::default(), &[]);
    assert_eq!(said, Err(EnvelopeError::DuplicateKey { at: 16 }), "the second key's quote");
}

#[test]
fn kinds_come_from_the_members() {
    let kinds = [
        (r#"{"id":1,"method":"a"}"#, Kind::Request),
        (r#"{"id":"","method":""}"#, Kind::Request),
        (r#"{"id":null,"method":"a"}"#, Kind::Request),
        (r#"{"method":"a"}"#, Kind::Notification),
        (r#"{"id":1,"result":null}"#, Kind::Response),
        (r#"{"id":null,"result":{}}"#, Kind::Response),
        (r#"{"id":1,"error":{}}"#, Kind::Error),
        (r#"{"id":null,"error":{"code":1}}"#, Kind::Error),
        (r#"{"error":"x"}"#, Kind::Error),
        (r#"{"id":1,"result":1,"error":null}"#, Kind::Response),
        (r#"{"id":1,"result":null,"error":{}}"#, Kind::Error),
        (r#"{"id":1,"result":1,"error":1}"#, Kind::Other),
        (r#"{"id":1,"method":"a","result":1}"#, Kind::Other),
        (r#"{"id":1,"method":5}"#, Kind::Other),
        (r#"{"id":{},"method":"a"}"#, Kind::Other),
        (r#"{"id":true,"result":1}"#, Kind::Other),
        (r#"{"result":1}"#, Kind::Other),
        (r#"{"id":1}"#, Kind::Other),
        (r#"{"id":1,"error":null}"#, Kind::Other),
        (r#"{}"#, Kind::Other),
        (r#"{"jsonrpc":"2.0"}"#, Kind::Other),
        ("7", Kind::Other),
        ("[]", Kind::Batch),
        ("[1]", Kind::Batch),
        (r#"{"result":{"id":1,"method":"a"},"id":2}"#, Kind::Response),
        (r#"{"params":{"method":"a","id":1}}"#, Kind::Other),
    ];
    for (frame, kind) in kinds {
        let said = checks::every_way_agrees(frame.as_bytes(), Limits::default(), &[2, 5, 9]);
        assert_eq!(said.map(|(envelope, _)| envelope.kind()), Ok(kind), "{frame}");
    }
}
