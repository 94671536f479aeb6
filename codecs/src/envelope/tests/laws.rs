//! Laws over generated frames: JSON with the routing vocabulary anywhere, spelled any way, and the same
//! with a byte flipped.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{checks, *};
use crate::Limits;

fn key() -> impl Strategy<Value = String> {
    let name = select(vec![
        "jsonrpc",
        "id",
        "method",
        "params",
        "result",
        "error",
        "name",
        "uri",
        "requestId",
        "progressToken",
        "_meta",
        "protocolVersion",
        "resultType",
        "code",
        "io.modelcontextprotocol/protocolVersion",
        "traceparent",
        "io.modelcontextprotocol/subscriptionId",
        "io.modelcontextprotocol/logLevel",
        "arguments",
        "Id",
        "",
        "é",
    ]);
    (name, vec(any::<u8>(), 4)).prop_map(|(name, spelling)| quoted(name, &spelling))
}

/// `text` as a JSON string, some characters escaped as `spelling` says.
fn quoted(text: &str, spelling: &[u8]) -> String {
    let mut quoted = String::from("\"");
    for (index, unit) in text.encode_utf16().enumerate() {
        let how = spelling.get(index % 7).copied().unwrap_or(0);
        match char::from_u32(unit.into()) {
            Some('/') if how & 3 == 1 => quoted += "\\/",
            Some(plain) if how < 0xE0 && plain >= ' ' && !['"', '\\'].contains(&plain) => quoted.push(plain),
            _ if how & 1 == 0 => quoted += &format!("\\u{unit:04x}"),
            _ => quoted += &format!("\\u{unit:04X}"),
        }
    }
    quoted + "\""
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(vec!["0", "1", "-1", "1.0", "-0", "1e3", "18446744073709551616", "0.5E-7", "null", "true", "false", "\"\"", "\"2.0\""]).prop_map(str::to_owned),
        1 => select(vec!["1e99", "1E+99", "25e-308", "1e-05", "1e309", "0e999", "0.1e1", "12345678901234567890123456789012345678901", "\"\\ud83d\"", "\"\\ud83d\\n\"", "\"\\uDBFF\\uDFFF\"", "\"abcdefghijklmno\\n\\\"\"", "\"abcdefghijklmn\\\\\\\"\\u00E9p\"", "1e400", "\"\\ud800\"", "\"\\udc00\\ud800\"", "123456789012345678901234567890"]).prop_map(str::to_owned),
        4 => ("[ -~éß\u{2028}😀]{0,40}", vec(any::<u8>(), 7)).prop_map(|(text, spelling)| quoted(&text, &spelling)),
        1 => ("[a-z]{60,140}", vec(any::<u8>(), 3)).prop_map(|(text, spelling)| quoted(&text, &spelling)),
    ]
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(""), 1 => select(vec![" ", "\n", "\t\r", "                 \n  "])]
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            1 => vec((space(), inner.clone(), space()), 0..4).prop_map(|items| {
                let items: Vec<String> = items.into_iter().map(|(before, item, behind)| format!("{before}{item}{behind}")).collect();
                format!("[{}]", items.join(","))
            }),
            3 => object(inner),
        ]
    })
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    vec((space(), key(), space(), value, space()), 0..6).prop_map(|pairs| {
        let pairs: Vec<String> =
            pairs.into_iter().map(|(a, key, b, value, c)| format!("{a}{key}{b}:{c}{value}{a}")).collect();
        format!("{{{}}}", pairs.join(","))
    })
}

/// Mostly objects that could be messages, with their members where they belong.
fn frame() -> impl Strategy<Value = String> {
    let meta = || object(scalar());
    let params = || {
        (object(value()), meta()).prop_map(|(params, meta)| match params.strip_suffix('}') {
            Some("{") => format!("{{\"_meta\":{meta}}}"),
            Some(params) => format!("{params},\"_meta\":{meta}}}"),
            None => params,
        })
    };
    let member = prop_oneof![
        scalar().prop_map(|id| format!("\"id\":{id}")),
        scalar().prop_map(|method| format!("\"method\":{method}")),
        Just("\"method\":\"tools/call\"".to_owned()),
        Just("\"id\":17".to_owned()),
        params().prop_map(|params| format!("\"params\" :{params}")),
        params().prop_map(|result| format!("\"result\": {result}")),
        params().prop_map(|error| format!("\"error\":{error}")),
        Just("\"error\":null".to_owned()),
        (key(), value()).prop_map(|(key, value)| format!("{key}:{value}")),
    ];
    let message = vec(member, 1..6).prop_map(|members| format!("{{{}}}", members.join(",")));
    let message = || message.clone();
    prop_oneof![
        8 => message(),
        1 => value(),
        1 => (vec(message(), 0..5), space()).prop_map(|(messages, space)| format!("{space}[{}]{space}", messages.join(&format!("{space},")))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn envelope_of_any_json_is_the_one_serde_reads(frame in frame(), cuts in vec(any::<usize>(), 0..8)) {
        let said = checks::every_way_agrees(frame.as_bytes(), Limits::default(), &cuts);
        checks::agrees_with_serde(frame.as_bytes(), Limits::default(), &said);
    }

    #[test]
    fn one_flipped_byte_changes_no_law(frame in frame(), at: usize, flip in 1_u8.., cuts in vec(any::<usize>(), 0..8)) {
        let mut frame = frame.into_bytes();
        let at = at % frame.len();
        frame[at] ^= flip;
        let said = checks::every_way_agrees(&frame, Limits::default(), &cuts);
        checks::agrees_with_serde(&frame, Limits::default(), &said);
    }

    #[test]
    fn every_way_keeps_the_same_limits(frame in frame(), depth in 0_u32..7, id in 0_u32..9, batch in 0_u32..4, len in 1_usize..300, cuts in vec(any::<usize>(), 0..8)) {
        let limits = Limits::default().with_max_depth(depth).with_max_id_len(id).with_max_batch_len(batch);
        let limits = limits.with_max_frame_len(len).unwrap();
        let said = checks::every_way_agrees(frame.as_bytes(), limits, &cuts);
        checks::agrees_with_serde(frame.as_bytes(), limits, &said);
        prop_assert_eq!(frame.len() > len, matches!(said, Err(EnvelopeError::TooLarge { .. })));
    }

    #[test]
    fn any_bytes_are_read_the_same_way(bytes in vec(prop_oneof![
        select(b"{}[]\":,\\ 01e-.tfn\n".to_vec()), any::<u8>(), select(b"truefalsnid".to_vec()),
    ], 0..90), cuts in vec(any::<usize>(), 0..8)) {
        let said = checks::every_way_agrees(&bytes, Limits::default(), &cuts);
        checks::agrees_with_serde(&bytes, Limits::default(), &said);
    }

    #[test]
    fn texts_decode_as_serde_decodes_them(text in "[ -~é\u{2028}😀\"\\\\\n]{0,30}", spelling in vec(any::<u8>(), 7)) {
        let frame = format!("{{\"method\":{}}}", quoted(&text, &spelling));
        let method = EnvelopeParser::new(Limits::default()).parse(frame.as_bytes()).unwrap().method().unwrap();
        let decoded = super::text(method, frame.as_bytes());
        prop_assert_eq!(decoded.as_deref(), Some(text.as_str()));
    }
}
