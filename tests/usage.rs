//! What a person gets to see who types something wrong, or asks: one line and an exit code, never a byte on
//! the wire.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;

use std::fs;

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
        (&["demo", "--calls", "x"], &["--calls"]),
        (&["doctor"], &["URL"]),
        (&["doctor", "ftp://127.0.0.1/"], &["ftp://127.0.0.1/", "http"]),
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
    assert_refused(&["proxy", "--", "no-such-program-4711"], 2, &["no-such-program-4711", "No such file"]);
    assert_refused(&["proxy", "--", nowhere], 2, &[nowhere, "No such file"]);
    assert_refused(&["proxy", "--", plain], 2, &[plain, "ermission denied"]);
    assert_refused(&["proxy", "--cwd", nowhere, "--", "cat"], 2, &[nowhere, "directory", "No such file"]);
    assert_refused(&["proxy", "--cwd", plain, "--", "cat"], 2, &[plain, "Not a directory"]);
    // Not the program's fault, so the directory is named and not the program.
    assert_refused(&["proxy", "--cwd", nowhere, "--", "no-such-program-4711"], 2, &[nowhere]);
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
