//! The guard's tables: what each place lets in.

use http::Request;

use super::*;

fn head(headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::post("/mcp");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn verdict(guard: &Guard, headers: &[(&str, &str)]) -> Result<bool, Refusal> {
    guard.check(&head(headers)).map(|origin| origin.is_some())
}

fn guard(address: &str) -> Guard {
    Guard::new(Place::of(address.parse().unwrap()))
}

#[test]
fn host_must_be_one_that_no_name_server_can_invent() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        (
            "127.0.0.1",
            &["localhost", "LOCALHOST:1", "localhost.", "127.0.0.1", "127.9.9.9:80", "[::1]:9", "[::ffff:127.0.0.1]"],
            &[
                "evil.example",
                "localhost.evil.example",
                "127.0.0.1.evil.example",
                "192.168.1.2",
                "evil@localhost",
                "localhost:x",
                "localhost:99999",
                "",
                ":80",
                "foo.localhost",
                "0.0.0.0",
            ],
        ),
        ("::1", &["localhost", "[::1]", "127.0.0.1:80"], &["evil.example", "[::2]"]),
        ("192.168.1.2", &["192.168.1.2", "192.168.1.2:80"], &["localhost", "192.168.1.3", "evil.example", "127.0.0.1"]),
        ("0.0.0.0", &["localhost", "192.168.1.2", "[2001:db8::1]:80"], &["evil.example", "myhost"]),
        ("::", &["localhost:80", "10.0.0.1"], &["evil.example"]),
    ];
    for (bound, allowed, refused) in cases {
        let guard = guard(bound);
        for host in *allowed {
            assert_eq!(verdict(&guard, &[("host", host)]), Ok(false), "at {bound}: {host}");
        }
        for host in *refused {
            assert_eq!(verdict(&guard, &[("host", host)]), Err(Refusal::Host), "at {bound}: {host}");
        }
    }
}

#[test]
fn requests_for_no_host_or_for_two_are_refused() {
    let guard = guard("127.0.0.1");
    assert_eq!(verdict(&guard, &[]), Err(Refusal::NoHost));
    assert_eq!(verdict(&guard, &[("host", "localhost"), ("host", "localhost")]), Err(Refusal::HostsDiffer));
    for (target, host, expected) in [
        ("http://localhost:80/mcp", Some("localhost:80"), Ok(None)),
        ("http://localhost:80/mcp", None, Ok(None)),
        ("http://evil.example/mcp", Some("localhost"), Err(Refusal::HostsDiffer)),
        ("http://localhost/mcp", Some("evil.example"), Err(Refusal::HostsDiffer)),
        ("http://evil.example/mcp", None, Err(Refusal::Host)),
    ] {
        let mut request = Request::get(target);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let head = request.body(()).unwrap().into_parts().0;
        assert_eq!(guard.check(&head), expected, "{target} for {host:?}");
    }
}

#[test]
fn origin_must_be_our_own_or_on_loopback_with_us() {
    let cases: &[(&str, &str, &str, bool)] = &[
        ("127.0.0.1", "localhost:80", "http://localhost:6274", true),
        ("127.0.0.1", "localhost:80", "https://127.0.0.1", true),
        ("127.0.0.1", "localhost:80", "http://[::1]:1", true),
        ("127.0.0.1", "localhost:80", "http://evil.example", false),
        ("127.0.0.1", "localhost:80", "http://localhost.evil.example", false),
        ("127.0.0.1", "localhost:80", "http://localhost@evil.example", false),
        ("127.0.0.1", "localhost:80", "null", false),
        ("127.0.0.1", "localhost:80", "", false),
        ("127.0.0.1", "localhost:80", "localhost", false),
        ("127.0.0.1", "localhost:80", "file://", false),
        ("127.0.0.1", "localhost:80", "chrome-extension://abc", false),
        ("127.0.0.1", "localhost:80", "http://localhost:80 http://evil.example", false),
        ("192.168.1.2", "192.168.1.2:8080", "http://192.168.1.2:8080", true),
        ("192.168.1.2", "192.168.1.2:8080", "http://192.168.1.2:8081", false),
        ("192.168.1.2", "192.168.1.2:8080", "http://localhost:8080", false),
        ("192.168.1.2", "192.168.1.2", "https://192.168.1.2", true),
        ("0.0.0.0", "10.0.0.1:1", "http://10.0.0.1:1", true),
        ("0.0.0.0", "10.0.0.1:1", "http://10.0.0.2:1", false),
        ("0.0.0.0", "localhost:1", "http://localhost:2", false),
    ];
    for &(bound, host, origin, is_allowed) in cases {
        let found = verdict(&guard(bound), &[("host", host), ("origin", origin)]);
        let expected = if is_allowed { Ok(true) } else { Err(Refusal::Origin) };
        assert_eq!(found, expected, "at {bound}, {host}: {origin}");
    }
    let two = [("host", "localhost"), ("origin", "http://localhost"), ("origin", "http://localhost")];
    assert_eq!(verdict(&guard("127.0.0.1"), &two), Err(Refusal::Origin));
}

#[test]
fn what_is_allowed_in_so_many_words_is_allowed() {
    let origins = ["https://App.Example:443/", "null", "chrome-extension://abc"].map(|origin| origin.parse().unwrap());
    let hosts = ["mcp.example", "other.example:8443", "fd00::1"].map(|host| host.parse().unwrap());
    let guard = guard("0.0.0.0").with_origins(origins).with_hosts(hosts);
    for (host, origin, expected) in [
        ("mcp.example", "https://app.example", Ok(true)),
        ("MCP.example.:1", "null", Ok(true)),
        ("other.example:8443", "chrome-extension://abc", Ok(true)),
        ("mcp.example", "https://mcp.example", Ok(true)),
        ("mcp.example", "http://app.example", Err(Refusal::Origin)),
        ("mcp.example", "https://app.example:8443", Err(Refusal::Origin)),
        ("other.example", "null", Err(Refusal::Host)),
        ("other.example:1", "null", Err(Refusal::Host)),
    ] {
        assert_eq!(verdict(&guard, &[("host", host), ("origin", origin)]), expected, "{host}, {origin}");
    }
    let all = Guard::new(Place::Loopback).with_origins(["*".parse().unwrap()]);
    assert_eq!(verdict(&all, &[("host", "localhost"), ("origin", "http://evil.example")]), Ok(true));
    assert_eq!(verdict(&all, &[("host", "evil.example"), ("origin", "http://evil.example")]), Err(Refusal::Host));
    for typed in ["example.com", "https://", "https://a/b", "https://a?b", "https://u@a", ""] {
        assert!(typed.parse::<AllowedOrigin>().is_err(), "{typed}");
    }
    for typed in ["", ":80", "a:b", "http://a", "a/b"] {
        assert!(typed.parse::<AllowedHost>().is_err(), "{typed}");
    }
}

#[test]
fn unix_socket_has_no_names_and_no_origins() {
    let guard = Guard::new(Place::UnixSocket);
    assert_eq!(verdict(&guard, &[]), Ok(false));
    assert_eq!(verdict(&guard, &[("host", "anything")]), Ok(false));
    assert_eq!(verdict(&guard, &[("host", "localhost"), ("origin", "http://localhost")]), Err(Refusal::Origin));
    let guard = guard.with_origins(["http://localhost".parse().unwrap()]);
    assert_eq!(verdict(&guard, &[("origin", "http://localhost")]), Ok(true));
}

#[test]
fn token_is_demanded_taken_out_and_never_shown() {
    let guard = Guard::new(Place::Loopback).with_token(Token::new("s3cret"));
    for (values, expected) in [
        (&[][..], Err(Refusal::NoToken)),
        (&["Bearer s3cret"], Ok(())),
        (&["bearer s3cret"], Ok(())),
        (&["Bearer s3cre"], Err(Refusal::WrongToken)),
        (&["Bearer s3cret2"], Err(Refusal::WrongToken)),
        (&["Bearer "], Err(Refusal::WrongToken)),
        (&["Basic s3cret"], Err(Refusal::WrongToken)),
        (&["s3cret"], Err(Refusal::WrongToken)),
        (&["Bearer s3cret", "Bearer s3cret"], Err(Refusal::WrongToken)),
    ] {
        let shown: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
        let mut head = head(&shown);
        assert_eq!(guard.take_token(&mut head), expected, "{values:?}");
        assert!(!head.headers.contains_key("authorization"), "{values:?}");
    }
    assert!(!format!("{guard:?}").contains("s3cret"));
    assert!(Token::new("").is_none() && Token::new("a b").is_none() && Token::new("a\nb").is_none());
    let mut upstreams = head(&[("authorization", "Bearer theirs")]);
    assert_eq!(Guard::new(Place::Loopback).take_token(&mut upstreams), Ok(()));
    assert!(upstreams.headers.contains_key("authorization"));
}
