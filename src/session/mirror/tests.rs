//! Sentinels, headers written, headers checked. The first tables hold the conformance cases of SEP-2243 as
//! its final text stands in the specification.

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
