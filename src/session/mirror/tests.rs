//! Sentinels, headers written, headers checked. The first tables hold the conformance cases of SEP-2243 as
//! its final text stands in the specification.

use proptest::prelude::*;
use serde_json::{Value, json};
use shadowcat_codecs::{Limits, envelope::EnvelopeParser};

use super::*;

/// (text, header value): how values are written. All are read back.
const WRITTEN: [(&str, &str); 34] = [
    ("us-west1", "us-west1"),
    (" us-west1", "=?base64?IHVzLXdlc3Qx?="),
    ("us-west1 ", "=?base64?dXMtd2VzdDEg?="),
    (" us-west1 ", "=?base64?IHVzLXdlc3QxIA==?="),
    ("us west 1", "us west 1"),
    ("日本語", "=?base64?5pel5pys6Kqe?="),
    ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
    (" padded ", "=?base64?IHBhZGRlZCA=?="),
    ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
    ("line1\r\nline2", "=?base64?bGluZTENCmxpbmUy?="),
    ("\tindented", "=?base64?CWluZGVudGVk?="),
    ("", ""),
    ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
    ("=?base64?SGVsbG8=?=", "=?base64?PT9iYXNlNjQ/U0dWc2JHOD0/PQ==?="),
    ("my-tool-name", "my-tool-name"),
    ("my_tool_name", "my_tool_name"),
    ("file:///path/to/file%20name.txt", "file:///path/to/file%20name.txt"),
    ("https://example.com/resource?id=123", "https://example.com/resource?id=123"),
    ("a\tb", "a\tb"),
    (" ", "=?base64?IA==?="),
    ("\t", "=?base64?CQ==?="),
    ("a\0b", "=?base64?YQBi?="),
    ("a\u{7f}b", "=?base64?YX9i?="),
    ("a\u{1b}[0m", "=?base64?YRtbMG0=?="),
    ("é", "=?base64?w6k=?="),
    ("\u{a0}x", "=?base64?wqB4?="),
    ("🦀", "=?base64?8J+mgA==?="),
    ("=?base64?", "=?base64?"),
    ("=?base64?abc", "=?base64?abc"),
    ("?=", "?="),
    ("=?base64?=", "=?base64?PT9iYXNlNjQ/PQ==?="),
    ("=?base64??=", "=?base64?PT9iYXNlNjQ/Pz0=?="),
    ("=?BASE64?SGVsbG8=?=", "=?BASE64?SGVsbG8=?="),
    ("!~\"#,;=", "!~\"#,;="),
];

/// (header value, text it stands for, if any): how values of others are read.
const READ: [(&[u8], Option<&str>); 32] = [
    (b"=?base64?SGVsbG8=?=", Some("Hello")),
    (b"=?base64?SGVsbG8?=", None),
    (b"=?base64?SGVs!!!bG8=?=", None),
    (b"SGVsbG8=", Some("SGVsbG8=")),
    (b"=?base64?SGVsbG8=", Some("=?base64?SGVsbG8=")),
    // The specification's text (exact lower case) overrides the SEP's table.
    (b"=?BASE64?SGVsbG8=?=", Some("=?BASE64?SGVsbG8=?=")),
    (b"=?Base64?SGVsbG8=?=", Some("=?Base64?SGVsbG8=?=")),
    (b"  foo ", Some("foo")),
    (b"\tfoo\t", Some("foo")),
    (b" =?base64?SGVsbG8=?= ", Some("Hello")),
    (b"=?base64??=", Some("")),
    (b"=?base64?=", Some("=?base64?=")),
    (b"=?base64?IA==?=", Some(" ")),
    (b"=?base64?dXMtd2VzdDE=?=", Some("us-west1")),
    (b"=?base64?/+8=?=", None),
    (b"=?base64?//4=?=", None),
    (b"=?base64?SGVsbG9=?=", None),
    (b"=?base64?SGVsbG8==?=", None),
    (b"=?base64?SGVs bG8=?=", None),
    (b"=?base64? SGVsbG8=?=", None),
    (b"=?base64?_-8=?=", None),
    (b"=?base64?7w==?=", None),
    (b"=?base64?SGVsbG8=?= x", Some("=?base64?SGVsbG8=?= x")),
    (b"x=?base64?SGVsbG8=?=", Some("x=?base64?SGVsbG8=?=")),
    (b"=?utf-8?B?SGVsbG8=?=", Some("=?utf-8?B?SGVsbG8=?=")),
    (b"=?base64?a?=?=", None),
    (b"?=", Some("?=")),
    (b"", Some("")),
    (b"   ", Some("")),
    (b"caf\xc3\xa9", None),
    (b"caf\xe9", None),
    (b"a b", Some("a b")),
];

#[test]
fn values_are_written_plain_or_as_sentinel() {
    for (text, value) in WRITTEN {
        let encoded = sentinel::encode(text);
        assert_eq!(encoded.as_bytes(), value.as_bytes(), "{text:?}");
        assert_eq!(sentinel::decode(&encoded).as_deref(), Ok(text), "{text:?}");
    }
}

#[test]
fn values_of_others_are_read_to_the_letter() {
    for (value, text) in READ {
        let header = HeaderValue::from_bytes(value).unwrap();
        let shown = String::from_utf8_lossy(value);
        assert_eq!(sentinel::decode(&header).ok().as_deref(), text, "{shown:?}");
    }
}

const VERSION: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;

fn envelope(frame: &str) -> Envelope {
    EnvelopeParser::new(Limits::default()).parse(frame.as_bytes()).unwrap()
}

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{VERSION}}}}}"#)
}

/// A server's tool `t` with a parameter of each type.
fn tools() -> Tools {
    let mut tools = Tools::new();
    let schema = json!({"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "flag": {"type": "boolean", "x-mcp-header": "Flag"},
    }});
    let list = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "t", "inputSchema": schema}]}});
    assert_eq!(tools.learn(list.to_string().as_bytes()).with_params, 1);
    tools
}

fn call(arguments: &str) -> String {
    request("tools/call", &format!(r#""name":"t","arguments":{arguments},"#))
}

/// A header as it came.
type Header<'a> = (&'a str, &'a [u8]);

/// "name: value", a line for each header.
fn written(frame: &str, tools: Option<&Tools>) -> String {
    let headers = headers_for(frame.as_bytes(), &envelope(frame), tools);
    let lines = headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
    lines.collect()
}

fn map(headers: &[Header<'_>]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
    map
}

/// The header at fault, if there is one.
fn checked(headers: &[Header<'_>], frame: &str, tools: Option<&Tools>) -> Option<String> {
    let checked = check(&map(headers), frame.as_bytes(), &envelope(frame), tools);
    checked.err().map(|mismatch| mismatch.header().to_string())
}

#[test]
fn headers_say_what_the_body_says() {
    const V: &str = "mcp-protocol-version: 2026-07-28\n";
    for (frame, expected) in [
        (request("tools/list", ""), format!("{V}mcp-method: tools/list\n")),
        (
            request("tools/call", r#""name":"get_weather","#),
            format!("{V}mcp-method: tools/call\nmcp-name: get_weather\n"),
        ),
        (request("tools\\/call", r#""name":"\u0061","#), format!("{V}mcp-method: tools/call\nmcp-name: a\n")),
        (
            request("prompts/get", r#""name":"日本語","#),
            format!("{V}mcp-method: prompts/get\nmcp-name: =?base64?5pel5pys6Kqe?=\n"),
        ),
        (
            request("resources/read", r#""uri":"file:///a b","name":"x","#),
            format!("{V}mcp-method: resources/read\nmcp-name: file:///a b\n"),
        ),
        (request("tasks/get", r#""taskId":"7\u0038","#), format!("{V}mcp-method: tasks/get\nmcp-name: 78\n")),
        (request("tasks/update", r#""taskId":"t","#), format!("{V}mcp-method: tasks/update\nmcp-name: t\n")),
        (request("tasks/cancel", r#""taskId":"","#), format!("{V}mcp-method: tasks/cancel\nmcp-name: \n")),
        // What is not there, or no text, or there twice, is not guessed.
        (request("tasks/list", r#""taskId":"t","#), format!("{V}mcp-method: tasks/list\n")),
        (request("tasks/get", r#""taskId":7,"#), format!("{V}mcp-method: tasks/get\n")),
        (request("tasks/get", r#""taskId":"a","taskId":"b","#), format!("{V}mcp-method: tasks/get\n")),
        (request("tools/call", r#""name":7,"#), format!("{V}mcp-method: tools/call\n")),
        (request("tools/call", r#""name":"\ud800","#), format!("{V}mcp-method: tools/call\n")),
        (request("méthode", ""), V.to_owned()),
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.into(), "mcp-method: ping\n".into()),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"name":"n"}}"#.into(),
            "mcp-method: notifications/x\n".into(),
        ),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#.into(), String::new()),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#.into(), String::new()),
    ] {
        assert_eq!(written(&frame, None), expected, "{frame}");
    }
}

#[test]
fn parameters_are_written_by_type() {
    let tools = tools();
    for (arguments, expected) in [
        (r#"{"region":"us-west1","count":42,"flag":true}"#, "count: 42|flag: true|region: us-west1"),
        (r#"{"region":" x","count":42.0,"flag":false}"#, "count: 42|flag: false|region: =?base64?IHg=?="),
        (r#"{"region":"","count":-7}"#, "count: -7|region: "),
        (r#"{"count":4.2e1}"#, "count: 42"),
        (r#"{"count":9007199254740991}"#, "count: 9007199254740991"),
        (r#"{"count":9007199254740993}"#, "count: 9007199254740993"),
        (r#"{"count":3.14159}"#, "count: 3.14159"),
        (r#"{"region":null,"count":null}"#, ""),
        (r#"{"region":"=?base64?x?="}"#, "region: =?base64?PT9iYXNlNjQ/eD89?="),
        (r#"{"region":["a"],"flag":{}}"#, ""),
        ("{}", ""),
        (r#"{"region":"a","region":"b"}"#, ""),
    ] {
        let frame = call(arguments);
        let written = written(&frame, Some(&tools));
        let params: Vec<_> = written.lines().filter_map(|line| line.strip_prefix(MCP_PARAM_PREFIX)).collect();
        assert_eq!(params.join("|"), expected, "{arguments}");
    }
    assert!(!written(&call(r#"{"region":"x"}"#), None).contains(MCP_PARAM_PREFIX), "unknown tool");
}

#[test]
fn headers_of_others_are_checked_against_the_body() {
    const V: Header<'_> = ("mcp-protocol-version", b"2026-07-28");
    const CALL: Header<'_> = ("Mcp-Method", b"tools/call");
    let foo = request("tools/call", r#""name":"foo","#);
    let read = request("resources/read", r#""uri":"a","#);
    let task = request("tasks/get", r#""taskId":"日","#);
    let cases: [(&[Header<'_>], &str, Option<&str>); 31] = [
        (&[V, CALL, ("mcp-name", b"foo")], &foo, None),
        (&[V, ("MCP-METHOD", b"tools/call"), ("MCP-NAME", b"foo")], &foo, None),
        (&[V, CALL, ("mcp-name", b"  foo ")], &foo, None),
        (&[V, CALL, ("mcp-name", b"=?base64?Zm9v?=")], &foo, None),
        (&[V, CALL, ("mcp-name", b"=?BASE64?Zm9v?=")], &foo, Some("mcp-name")),
        (&[V, CALL, ("mcp-name", b"=?base64?Zm9?=")], &foo, Some("mcp-name")),
        (&[V, CALL, ("mcp-name", b"=?base64?Zm9v")], &foo, Some("mcp-name")),
        (&[V, CALL, ("mcp-name", b"Zm9v")], &foo, Some("mcp-name")),
        (&[V, CALL, ("mcp-name", b"bar")], &foo, Some("mcp-name")),
        (&[V, CALL, ("mcp-name", b"Foo")], &foo, Some("mcp-name")),
        (&[V, CALL, ("mcp-name", b"")], &foo, Some("mcp-name")),
        (&[V, CALL, ("mcp-name", b"fo\xc3\xb6")], &foo, Some("mcp-name")),
        (&[V, CALL, ("mcp-name", b"foo"), ("mcp-name", b"foo")], &foo, Some("mcp-name")),
        (&[V, CALL], &foo, Some("mcp-name")),
        (&[V, ("mcp-method", b"TOOLS/CALL"), ("mcp-name", b"foo")], &foo, Some("mcp-method")),
        (&[V, ("mcp-method", b"prompts/get"), ("mcp-name", b"foo")], &foo, Some("mcp-method")),
        // A method is never encoded.
        (&[V, ("mcp-method", b"=?base64?dG9vbHMvY2FsbA==?="), ("mcp-name", b"foo")], &foo, Some("mcp-method")),
        (&[V, CALL, CALL, ("mcp-name", b"foo")], &foo, Some("mcp-method")),
        (&[V, ("mcp-name", b"foo")], &foo, Some("mcp-method")),
        (&[CALL, ("mcp-name", b"foo")], &foo, Some("mcp-protocol-version")),
        (&[("mcp-protocol-version", b"2025-11-25"), CALL, ("mcp-name", b"foo")], &foo, Some("mcp-protocol-version")),
        (&[V, V, CALL, ("mcp-name", b"foo")], &foo, Some("mcp-protocol-version")),
        (&[V, ("mcp-method", b"resources/read"), ("mcp-name", b"a")], &read, None),
        (&[V, ("mcp-method", b"resources/read")], &read, Some("mcp-name")),
        (&[V, ("mcp-method", b"tasks/get"), ("mcp-name", b"=?base64?5pel?=")], &task, None),
        (&[V, ("mcp-method", b"tasks/get"), ("mcp-name", b"other")], &task, Some("mcp-name")),
        // Parameters of tools nobody knows are none of ours.
        (&[V, CALL, ("mcp-name", b"foo"), ("mcp-param-x", b"\xff")], &foo, None),
        (&[V, CALL], &request("tools/call", ""), None),
        (&[V, CALL, ("mcp-name", b"foo")], &request("tools/call", ""), Some("mcp-name")),
        (&[V, CALL, ("mcp-name", b"x")], &request("tools/call", r#""name":"\ud800","#), Some("mcp-name")),
        (&[V, ("mcp-method", b"tools/list"), ("mcp-name", b"x")], &request("tools/list", ""), None),
    ];
    for (headers, frame, at_fault) in cases {
        assert_eq!(checked(headers, frame, None).as_deref(), at_fault, "{headers:?} {frame}");
    }
}

#[test]
fn notifications_need_no_headers_but_may_not_lie() {
    const V: Header<'_> = ("mcp-protocol-version", b"2026-07-28");
    let bare = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
    let with_meta = format!(r#"{{"jsonrpc":"2.0","method":"notifications/x","params":{{{VERSION}}}}}"#);
    let cases: [(&[Header<'_>], &str, Option<&str>); 8] = [
        (&[], bare, None),
        (&[V], bare, None),
        (&[V, ("mcp-method", b"notifications/x")], bare, None),
        (&[V, ("mcp-method", b"notifications/y")], bare, Some("mcp-method")),
        (&[V, V], bare, Some("mcp-protocol-version")),
        (&[], &with_meta, None),
        (&[V], &with_meta, None),
        (&[("mcp-protocol-version", b"2025-11-25")], &with_meta, Some("mcp-protocol-version")),
    ];
    for (headers, frame, at_fault) in cases {
        assert_eq!(checked(headers, frame, None).as_deref(), at_fault, "{headers:?} {frame}");
    }
    assert_eq!(checked(&[("mcp-method", b"x")], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, None), None);
}

#[test]
fn parameters_are_checked_when_the_tool_is_known() {
    let tools = tools();
    let cases: [(&str, &[Header<'_>], Option<&str>); 24] = [
        (r#"{"region":"us"}"#, &[("mcp-param-region", b"us")], None),
        (r#"{"region":"us"}"#, &[("MCP-Param-Region", b" us ")], None),
        (r#"{"region":"us"}"#, &[("mcp-param-region", b"=?base64?dXM=?=")], None),
        (r#"{"region":"us"}"#, &[], Some("mcp-param-region")),
        (r#"{"region":"us"}"#, &[("mcp-param-region", b"eu")], Some("mcp-param-region")),
        (r#"{"region":"us"}"#, &[("mcp-param-region", b"us"), ("mcp-param-region", b"us")], Some("mcp-param-region")),
        (r#"{"region":"us"}"#, &[("mcp-param-region", b"\xff")], Some("mcp-param-region")),
        (r#"{"region":""}"#, &[("mcp-param-region", b"")], None),
        (r#"{"region":""}"#, &[], Some("mcp-param-region")),
        (r#"{"region":null}"#, &[], None),
        (r#"{"region":null}"#, &[("mcp-param-region", b"us")], Some("mcp-param-region")),
        ("{}", &[], None),
        ("{}", &[("mcp-param-region", b"")], Some("mcp-param-region")),
        ("{}", &[("mcp-param-other", b"us")], None),
        (r#"{"count":42}"#, &[("mcp-param-count", b"42.0")], None),
        (r#"{"count":42.0}"#, &[("mcp-param-count", b"42")], None),
        (r#"{"count":42}"#, &[("mcp-param-count", b"43")], Some("mcp-param-count")),
        (r#"{"count":42}"#, &[("mcp-param-count", b"042")], Some("mcp-param-count")),
        (r#"{"count":9007199254740993}"#, &[("mcp-param-count", b"9007199254740992")], Some("mcp-param-count")),
        (r#"{"count":9007199254740993}"#, &[("mcp-param-count", b"9007199254740993")], None),
        (r#"{"count":"42"}"#, &[("mcp-param-count", b"42.0")], Some("mcp-param-count")),
        (r#"{"flag":true}"#, &[("mcp-param-flag", b"true")], None),
        (r#"{"flag":true}"#, &[("mcp-param-flag", b"True")], Some("mcp-param-flag")),
        (r#"{"region":"a","region":"b"}"#, &[("mcp-param-region", b"a")], Some("mcp-param-count")),
    ];
    for (arguments, params, at_fault) in cases {
        let frame = call(arguments);
        let mut headers: Vec<Header<'_>> =
            vec![("mcp-protocol-version", b"2026-07-28"), ("mcp-method", b"tools/call"), ("mcp-name", b"t")];
        headers.extend(params);
        assert_eq!(checked(&headers, &frame, Some(&tools)).as_deref(), at_fault, "{arguments} {params:?}");
        assert_eq!(checked(&headers, &frame, None), None, "nobody knows the tool: {arguments}");
    }
}

#[test]
fn errors_show_values_shortened_and_what_is_logged_shows_none() {
    let frame = request("resources/read", &format!(r#""uri":"{}","#, "é".repeat(10_000)));
    let headers = [("mcp-protocol-version", &b"2026-07-28"[..]), ("mcp-method", b"resources/read"), ("mcp-name", b"x")];
    let mismatch = check(&map(&headers), frame.as_bytes(), &envelope(&frame), None).unwrap_err();
    assert_eq!(mismatch.expected().map(|shown| shown.chars().count()), Some(MAX_SHOWN + 1));
    assert_eq!((mismatch.found(), mismatch.what()), (Some("x"), "differs from the body"));
    assert!(mismatch.to_string().contains("mcp-name"));
}

/// A value of one of the arguments: of the declared type or not.
fn argument() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<String>().prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!(["x"])),
    ]
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_back(text in any::<String>()) {
        let value = sentinel::encode(&text);
        prop_assert_eq!(sentinel::decode(&value), Ok(Cow::Borrowed(text.as_str())));
    }

    #[test]
    fn texts_full_of_marks_are_read_back(text in r"(=\?|base64|BASE64|\?|=|[A-Za-z]|\?=| |\t|é){0,12}") {
        let value = sentinel::encode(&text);
        prop_assert_eq!(sentinel::decode(&value), Ok(Cow::Borrowed(text.as_str())));
    }

    #[test]
    fn our_own_headers_pass_our_own_check(
        method in prop_oneof![
            Just("tools/call".to_owned()), Just("prompts/get".to_owned()), Just("resources/read".to_owned()),
            Just("tasks/get".to_owned()), "[!-~]([ -~]{0,8}[!-~])?".prop_filter("not a sentinel", |method| sentinel::is_plain(method)),
        ],
        name in prop_oneof![Just("t".to_owned()), any::<String>()],
        (region, count, flag) in (argument(), argument(), argument()),
        is_request in any::<bool>(),
    ) {
        let mut message = json!({"jsonrpc": "2.0", "method": method, "params": {
            "name": name, "uri": name, "taskId": name,
            "arguments": {"region": region, "count": count, "flag": flag},
            "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"},
        }});
        if is_request {
            message["id"] = json!(1);
        }
        let frame = message.to_string();
        let (tools, envelope) = (tools(), envelope(&frame));
        for tools in [None, Some(&tools)] {
            let headers: HeaderMap = headers_for(frame.as_bytes(), &envelope, tools).into_iter().collect();
            prop_assert_eq!(check(&headers, frame.as_bytes(), &envelope, tools), Ok(()));
        }
    }
}
