//! A relay passes the very bytes on, both ways, as JSON and as events, however large and however cut.

#![cfg(target_os = "linux")]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/http.rs"]
mod http;

use std::thread;

use http::{Conn, Proxy, Upstream};

/// Messages that whoever parses and writes them again would change.
fn delicate() -> Vec<String> {
    let mut messages: Vec<String> = [
        // Numbers.
        r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"m","params":{"a":9007199254740993,"b":1.0,"c":-0,"d":1e400,"e":1E+2,"f":0.10}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"n":123456789012345678901234567890,"m":-0.0,"o":1e-400}}"#,
        // Order and duplicates of keys nobody routes on; fields nobody knows.
        r#"{"params":{"z":1,"a":2,"z":3},"method":"m","x-unknown":{"b":[],"a":{}},"id":2,"jsonrpc":"2.0"}"#,
        // Every escape, and the characters as they are.
        r#"{"jsonrpc":"2.0","id":3,"method":"m","params":{"s":"\"\\\/\b\f\n\r\t\u0000\u001f\u007fé\u00e9\ud83d\ude00😀\u2028"}}"#,
        "{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"m\",\"params\":{\"s\":\"\u{2028}\u{2029}\u{feff}\u{7f}é😀\"}}",
        // Lone surrogates.
        r#"{"jsonrpc":"2.0","id":5,"method":"m","params":{"high":"\ud800","low":"\udc00","wrong":"\udc00\ud800"}}"#,
        // Spellings of ids and of keys.
        r#"{"jsonrpc":"2.0","id":1.0,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":10e-1,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":"","method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":"\u0061","method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":18446744073709551616,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","\u0069d":7,"\u006dethod":"m"}"#,
        // White space.
        " \t{ \"jsonrpc\" : \"2.0\" ,\t\"id\":8, \"method\":\"m\" } ",
        // What is no plain message, but JSON.
        r#"[{"jsonrpc":"2.0","id":1,"method":"m"},{"jsonrpc":"2.0","method":"n"}]"#,
        "null",
        r#""text""#,
    ]
    .map(str::to_owned)
    .into();
    let (open, close) = ("[".repeat(200), "]".repeat(200));
    messages.push(format!(r#"{{"jsonrpc":"2.0","id":9,"method":"m","params":{{"deep":{open}{close}}}}}"#));
    messages
}

#[test]
fn delicate_messages_cross_both_ways_as_json() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    let mut client = proxy.connect();
    let mut server = None;
    for message in delicate() {
        client.post("", &message);
        let server = server.get_or_insert_with(|| upstream.accept());
        let head = server.head();
        assert_eq!(server.body(&head), Ok(message.clone().into_bytes()));
        server.answer_and_keep("application/json", &message);
        let head = client.head();
        assert_eq!((head.status(), head.get("transfer-encoding")), (200, None), "{message}");
        assert_eq!(client.body(&head), Ok(message.clone().into_bytes()));
    }
    // Pretty-printed, and no JSON at all: the peers decide.
    for body in ["{\r\n  \"jsonrpc\": \"2.0\",\r\n  \"id\": 1,\n  \"method\": \"m\"\r\n}\n", "{nonsense", "\u{feff}{}"]
    {
        client.post("", body);
        let server = server.as_mut().unwrap();
        let head = server.head();
        assert_eq!(server.body(&head), Ok(body.into()));
        server.answer_and_keep("application/json; charset=utf-8", body);
        let head = client.head();
        assert_eq!(client.body(&head), Ok(body.into()));
    }
}

#[test]
fn event_streams_cross_byte_for_byte() {
    let mut stream = "\u{feff}: hello\nretry: 3000\r\nid: a\rdata\n\n".to_owned();
    for (index, message) in delicate().iter().enumerate() {
        let ends = ["\n", "\r\n", "\r"][index % 3];
        stream += &format!("event: message{ends}unknown: x{ends}id: {index}{ends}data:{message}{ends}{ends}");
    }
    stream += "data: {\"jsonrpc\":\"2.0\",\ndata: \"id\":1}\n\nevent: other\ndata: no json\n\ndata: unfinished";
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    for cut in [1, 7, 100, 1 << 20] {
        let mut client = proxy.connect();
        client.post("", r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#);
        let mut server = upstream.accept();
        let head = server.head();
        server.body(&head).unwrap();
        server.answer_events();
        for chunk in stream.as_bytes().chunks(cut) {
            server.chunk(chunk);
        }
        server.chunk("");
        let head = client.head();
        assert_eq!(head.get("content-length"), None);
        let body = client.body(&head).unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), stream, "in chunks of {cut}");
        server.hang_up();
    }
}

#[test]
fn sixteen_mebibytes_cross_both_ways() {
    let text: String = (0..16 << 20).map(|index: u32| char::from(b' ' + (index % 90) as u8)).collect();
    let text = text.replace(['"', '\\'], "x");
    let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"text":"{text}"}}}}"#);
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    for is_stream in [false, true] {
        let mut client = proxy.connect();
        let asked = message.clone();
        let asking = thread::spawn(move || {
            client.post("", asked);
            client
        });
        let mut server = upstream.accept();
        let head = server.head();
        assert!(server.body(&head) == Ok(message.clone().into_bytes()), "the request is another");
        let answer = if is_stream { format!("data: {message}\n\n") } else { message.clone() };
        let expected = answer.clone().into_bytes();
        let answering = thread::spawn(move || {
            if is_stream {
                server.answer_events();
                answer.as_bytes().chunks(100_000).for_each(|chunk| server.chunk(chunk));
                server.chunk("");
            } else {
                server.answer("application/json", answer);
            }
            server
        });
        let mut client: Conn = asking.join().unwrap();
        let head = client.head();
        assert!(client.body(&head) == Ok(expected), "the answer is another");
        answering.join().unwrap().hang_up();
    }
}

#[test]
fn each_event_arrives_before_the_next_is_sent() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    let mut client = proxy.connect();
    client.send("GET /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n");
    let mut server = upstream.accept();
    assert!(server.head().start.starts_with("GET /mcp "));
    server.answer_events();
    client.head();
    // Nothing but the event's arrival at the client lets the next one go, so none is ever kept back.
    for index in 0..200 {
        let event = format!("id: {index}\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":{index}}}\n\n");
        server.chunk(&event);
        assert_eq!(client.chunks_of(event.len()), event.into_bytes());
    }
    // Half an event, too.
    server.chunk("data: {\"js");
    assert_eq!(client.chunks_of(10), b"data: {\"js");
    server.chunk("");
    assert_eq!(client.next_chunk(), Ok(None));
}

#[test]
fn what_comes_in_one_read_leaves_in_fewer_pieces() {
    let upstream = Upstream::start();
    let proxy = Proxy::start(&[], &upstream);
    let mut client = proxy.connect();
    client.send("GET /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n");
    let mut server = upstream.accept();
    server.head();
    server.answer_events();
    client.head();
    let event = "data: {\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n\n";
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    server.send(chunk.repeat(100));
    let (mut len, mut pieces) = (0, 0);
    while len < 100 * event.len() {
        len += client.next_chunk().unwrap().unwrap().len();
        pieces += 1;
    }
    assert!(pieces < 100, "{pieces} pieces for one write of 100 chunks");
    server.chunk("");
    assert_eq!(client.next_chunk(), Ok(None));
}
