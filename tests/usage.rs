//! What a person gets to see who types something wrong, or asks: one line and an exit code, never a byte on
//! the wire.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;

use std::{fs, net::TcpListener};

use support::{Ended, Launch};
use temp::TempDir;

/// Runs `shadowcat` with its stdin at an end.
fn run(args: &[&str]) -> Ended {
    Launch::new(args).start().end()
}

/// Asserts that nothing is on stdout and one line on stderr, with `words` in it.
fn assert_refused(args: &[&str], code: i32, words: &[&str]) {
    let Ended { code: ended, stdout, stderr } = run(args);
    assert_eq!((ended, stdout.as_str()), (Some(code), ""), "{args:?}: {stderr}");
    assert!(stderr.starts_with("shadowcat: ") && stderr.ends_with('\n'), "{args:?}: {stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: no {word:?} in {stderr:?}");
    }
}

#[test]
fn wrong_usage_is_64_and_one_helpful_line() {
    for (args, words) in [
        (&[][..], &["--help"][..]),
        (&["proxi"], &["proxi", "'proxy'", "--help"]),
        (&["proxy"], &["-- COMMAND"]),
        (&["proxy", "--"], &["-- COMMAND"]),
        (&["proxy", "--max-frame-lem", "1", "--", "cat"], &["--max-frame-lem", "'--max-frame-len'"]),
        (&["proxy", "--what", "--", "cat"], &["--what"]),
        (&["proxy", "http://127.0.0.1:1/mcp", "--", "cat"], &["URL", "COMMAND"]),
        (&["proxy", "--listen", "127.0.0.1:0", "ftp://127.0.0.1/"], &["ftp://127.0.0.1/", "http"]),
        (&["proxy", "--listen", "nowhere", "http://127.0.0.1:1/mcp"], &["--listen", "nowhere"]),
        (&["proxy", "--path", "/x", "--", "cat"], &["--listen"]),
        (&["proxy", "--connect-timeout", "1s", "--", "cat"], &["URL"]),
        (
            &["proxy", "--listen", "0", "--slow-consumer", "pause", "--", "cat"],
            &["a child that clients share must not wait for one of them", "--child per-client", "disconnect:"],
        ),
        (&["proxy", "--env", "NO_EQUALS_SIGN", "--", "cat"], &["NO_EQUALS_SIGN", "KEY=VALUE"]),
        (&["proxy", "--env"], &["--env"]),
        (&["proxy", "--max-frame-len", "many", "--", "cat"], &["--max-frame-len", "many"]),
        (&["proxy", "--max-frame-len", "0", "--", "cat"], &["--max-frame-len", "0"]),
        (&["proxy", "--max-frame-len", "5GiB", "--", "cat"], &["--max-frame-len"]),
        (&["proxy", "--memory-budget", "64MiB", "--", "cat"], &["--memory-budget 64", "--max-frame-len 64", "72.5"]),
        (&["proxy", "--memory-timeout", "soon", "--", "cat"], &["--memory-timeout", "soon"]),
        (&["proxy", "--max-pending", "many", "--", "cat"], &["--max-pending", "many"]),
        (&["proxy", "--drain-timeout", "soon", "--", "cat"], &["--drain-timeout", "soon"]),
        (&["proxy", "--log-level", "loud", "--", "cat"], &["--log-level", "loud", "debug"]),
        (&["proxy", "npx", "-y", "foo"], &["'-y'", "behind --: shadowcat proxy -- npx -y foo\n"]),
        (&["proxy", "npx"], &["'npx' is no URL", "behind --: shadowcat proxy -- npx\n"]),
        (&["proxy", "--listen", "0", "npx -y foo"], &["behind --: shadowcat proxy --listen 0 -- npx -y foo\n"]),
        (&["proxy", "npx", "--", "foo"], &["behind --: shadowcat proxy -- npx foo\n"]),
        (&["npx", "-y", "foo"], &["behind 'proxy': shadowcat proxy -- npx -y foo\n"]),
        (&["https://127.0.0.1/mcp"], &["behind 'proxy': shadowcat proxy https://127.0.0.1/mcp\n"]),
        (&["proxy", "localhost:1/mcp"], &["did you mean http://localhost:1/mcp?"]),
        (&["config"], &["show", "check", "'shadowcat config --help'"]),
        (&["config", "show", "--what"], &["'shadowcat config show --help'"]),
        (&["pipe", "--what"], &["--what", "'shadowcat pipe --help'"]),
        (&["demo", "--calls", "x"], &["--calls", "'shadowcat demo --help'"]),
        (&["doctor"], &["URL"]),
        (&["doctor", "ftp://127.0.0.1/"], &["ftp://127.0.0.1/", "http"]),
        (&["doctor", "unix:/x"], &["over HTTP", "shadowcat proxy unix:/x"]),
        (&["doctor", "--max-size", "many", "http://127.0.0.1:9/"], &["--max-size", "many"]),
    ] {
        assert_refused(args, 64, words);
    }
}

#[test]
fn server_that_cannot_be_started_is_2_and_named() {
    let here = TempDir::new().unwrap();
    let plain = here.join("not-executable");
    fs::write(&plain, "echo").unwrap();
    let (plain, nowhere) = (plain.to_str().unwrap(), here.join("nowhere"));
    let nowhere = nowhere.to_str().unwrap();
    assert_refused(&["proxy", "--", "no-such-program-4711"], 2, &["no-such-program-4711", "No such file", "PATH?"]);
    assert_refused(&["proxy", "--", "cat -u"], 2, &["cat -u", "No such file", "words of their own"]);
    assert_refused(&["proxy", "--", nowhere], 2, &[nowhere, "No such file"]);
    assert_refused(&["proxy", "--", plain], 2, &[plain, "ermission denied", "executable?"]);
    assert_refused(&["proxy", "--cwd", nowhere, "--", "cat"], 2, &[nowhere, "directory", "No such file"]);
    assert_refused(&["proxy", "--cwd", plain, "--", "cat"], 2, &[plain, "Not a directory"]);
    // Not the program's fault, so the directory is named and not the program.
    assert_refused(&["proxy", "--cwd", nowhere, "--", "no-such-program-4711"], 2, &[nowhere]);
}

#[test]
fn what_cannot_be_listened_at_is_said_with_what_can() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let here = TempDir::new().unwrap();
    let (file, missing) = (here.join("file"), here.join("missing/s"));
    fs::write(&file, "").unwrap();
    let (file, missing) = (format!("unix:{}", file.display()), format!("unix:{}", missing.display()));
    let tcp = format!("tcp:{port}");
    for (place, words) in [
        (port.as_str(), &["--listen", "in use", "another one, or 0"][..]),
        (&tcp, &["--listen", "in use", "another one, or 0"]),
        (&missing, &["--listen", "missing/s", "folder is missing"]),
        (&file, &["--listen", "no socket", "another path"]),
    ] {
        assert_refused(&["proxy", "--listen", place, "--", "cat"], 1, words);
    }
    assert_refused(&["proxy", "--metrics", &port, "--", "cat"], 1, &["--metrics", "another one, or 0"]);
}

#[test]
fn what_certificates_tokens_and_proxies_lack_is_78_and_names_who_said_it() {
    let here = TempDir::new().unwrap();
    let nothing = here.join("nothing.pem");
    fs::write(&nothing, "").unwrap();
    let (nothing, url) = (nothing.to_str().unwrap(), "https://192.0.2.1/mcp");
    for (args, words) in [
        (&["--ca", "/nowhere/ca.pem", url][..], &["--ca /nowhere/ca.pem", "PEM"][..]),
        (&["--ca", nothing, url], &["--ca", nothing, "no certificate", "PEM"]),
        (&["--listen", "0", "--tls-cert", nothing, "--tls-key", nothing, "--", "cat"], &["--tls-cert", nothing, "PEM"]),
        (&["--bearer-env", "NO_SUCH_VARIABLE", url], &["--bearer-env NO_SUCH_VARIABLE", "name of a variable"]),
    ] {
        assert_refused(&[&["proxy"], args].concat(), 78, words);
    }
    assert_refused(&["doctor", "--ca", nothing, url], 78, &["--ca", nothing]);
    let args = ["proxy", "http://192.0.2.1/mcp"];
    let Ended { code, stderr, .. } = Launch::new(args).env("ALL_PROXY", "socks5://127.0.0.1:1").start().end();
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("socks5://127.0.0.1") && stderr.contains("NO_PROXY"), "{stderr}");
}

#[test]
fn proxy_is_a_server_of_a_proxy_and_takes_no_settings_of_the_outer_one() {
    let bin = env!("CARGO_BIN_EXE_shadowcat");
    let message = "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}\n";
    let check = |args: &[&str], script: &str| {
        let args = [args, &["--", "sh", "-c", script]].concat();
        let launch = Launch::new(args).env("SHADOWCAT_LOG_FORMAT", "json").env("SHADOWCAT_MAX_DEPTH", "7");
        let mut session = launch.start();
        session.send(message);
        let Ended { code, stdout, stderr } = session.end();
        assert_eq!((code, stdout.as_str()), (Some(0), message), "{script}: {stderr}");
    };
    check(&["proxy", "--", bin, "proxy"], "[ -z \"$SHADOWCAT_LOG_FORMAT$SHADOWCAT_MAX_DEPTH\" ] && exec cat");
    // What is set on purpose stays.
    check(&["proxy", "--env", "SHADOWCAT_MAX_DEPTH=9"], "[ \"$SHADOWCAT_MAX_DEPTH\" = 9 ] && exec cat");
}

#[test]
fn help_and_version_are_answers() {
    for (args, word) in [
        (&["--help"][..], "proxy"),
        (&["proxy", "--help"], "--max-frame-len"),
        (&["help", "proxy"], "--drain-timeout"),
        (&["demo", "--help"], "--calls"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let Ended { code, stdout, stderr } = run(args);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(stdout.contains(word), "{args:?}: {stdout}");
        assert!(!stdout.contains("__"), "internal names are nobody's business: {stdout}");
    }
}

#[test]
fn demo_shows_equal_bytes_both_ways() {
    let Ended { code, stdout, stderr } = run(&["demo", "--calls", "60"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert_eq!((stdout.matches("equal").count(), stdout.matches("DIFFERENT").count()), (2, 0), "{stdout}");
}
