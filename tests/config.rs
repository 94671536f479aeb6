//! Settings from a file, the environment and flags: who wins, what is refused and how, and what is shown.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;

use std::{fs, path::PathBuf};

use support::{Ended, Launch};
use temp::TempDir;

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.dir.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn run(args: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut launch = Launch::new(args);
    for (name, value) in environment {
        launch = launch.env(name, value);
    }
    launch.start().end()
}

#[track_caller]
fn shown(args: &[&str], environment: &[(&str, &str)]) -> String {
    let args: Vec<&str> = ["config", "show"].iter().chain(args).copied().collect();
    let Ended { code, stdout, stderr } = run(&args, environment);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{args:?}");
    stdout
}

/// Asserts that there is a line for the key with this value and this origin.
#[track_caller]
fn assert_shown(shown: &str, value: &str, origin: &str) {
    let is_it = |line: &str| line.split_once(" # ").is_some_and(|(v, o)| v.trim() == value && o.ends_with(origin));
    assert!(shown.lines().any(is_it), "no {value:?} of {origin:?} in\n{shown}");
}

#[track_caller]
fn assert_refused(args: &[&str], environment: &[(&str, &str)], code: i32, words: &[&str]) {
    let Ended { code: ended, stdout, stderr } = run(args, environment);
    assert_eq!((ended, stdout.as_str()), (Some(code), ""), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: no {word:?} in {stderr}");
    }
}

// --- who wins ------------------------------------------------------------------------------------------------

#[test]
fn defaults_yield_to_the_file_that_to_the_environment_and_that_to_flags() {
    let place = Place::new();
    let file =
        place.file("a.toml", "command = [\"cat\"]\nmax_pending = 2\nkill_after = \"2h\"\nlog_level = \"info\"\n");
    let environment = [("SHADOWCAT_MAX_PENDING", "3"), ("SHADOWCAT_KILL_AFTER", "3h"), ("SHADOWCAT_CWD", "")];
    let shown = shown(&["--config", &file, "--max-pending", "4"], &environment);
    for (value, origin) in [
        ("max_pending = 4", "flag"),
        ("kill_after = \"3h\"", "environment SHADOWCAT_KILL_AFTER"),
        ("log_level = \"info\"", "a.toml:4"),
        ("command = [\"cat\"]", "a.toml:1"),
        ("max_frame_len = \"64MiB\"", "default"),
        ("# cwd", "default"),
    ] {
        assert_shown(&shown, value, origin);
    }
}

#[test]
fn file_can_be_named_by_the_environment_and_lists_are_replaced() {
    let place = Place::new();
    let file = place.file(
        "a.toml",
        "url = \"http://a.example/\"\nca = [\"one.pem\", \"two.pem\"]\nlisten = 80\nlegacy_sse = true\n",
    );
    let environment = [("SHADOWCAT_CONFIG", file.as_str()), ("SHADOWCAT_ALLOW_HOST", "[\"a.example\", \"b.example\"]")];
    let seen = shown(&["--ca", "three.pem", "--legacy-sse=false"], &environment);
    assert_shown(&seen, "ca = [\"three.pem\"]", "flag");
    assert_shown(&seen, "allow_host = [\"a.example\", \"b.example\"]", "environment SHADOWCAT_ALLOW_HOST");
    assert_shown(&seen, "legacy_sse = false", "flag");
    assert_shown(&seen, "listen = 80", "a.toml:3");
    assert_shown(&shown(&[], &environment), "legacy_sse = true", "a.toml:4");
}

#[test]
fn server_that_loses_takes_its_own_keys_with_it() {
    let place = Place::new();
    let file = place.file(
        "a.toml",
        "url = \"http://a.example/\"\nbearer_env = \"PATH\"\nheader = { K = \"v\" }\nresponse_timeout = \"9s\"\n",
    );
    let seen = shown(&["--config", &file, "http://b.example/"], &[]);
    assert_shown(&seen, "url = \"http://b.example/\"", "flag");
    assert_shown(&seen, "# bearer_env", "default");
    assert_shown(&seen, "# header", "default");
    assert_shown(&seen, "response_timeout = \"9s\"", "a.toml:4");
    // Without a server of its own the file's keys are for that of the command line.
    let file = place.file("b.toml", "header = { K = \"v\" }\n");
    assert_shown(&shown(&["--config", &file, "http://b.example/"], &[]), "header = { K = \"…\" }", "b.toml:1");
}

#[test]
fn what_may_be_secret_is_not_shown() {
    let place = Place::new();
    let text = "[servers.a]\ncommand = [\"cat\"]\nenv = { API_KEY = \"s3cret\" }\n\
                [servers.b]\nurl = \"http://b.example/mcp?key=s3cret\"\nheader = [\"X-Key: s3cret\"]\n";
    let file = place.file("a.toml", text);
    for name in ["a", "b"] {
        let seen = shown(&["--config", &file, "--server", name], &[]);
        assert!(!seen.contains("s3cret"), "{seen}");
        assert!(seen.contains("= \"…\" }"), "{seen}");
    }
    let all = shown(&["--config", &file, "--listen", "0"], &[("SHADOWCAT_LOG_LEVEL", "trace")]);
    assert!(!all.contains("s3cret") && all.contains("[servers.a]") && all.contains("/mcp?…"), "{all}");
}

#[test]
fn what_is_shown_can_be_read_again() {
    let place = Place::new();
    let file = place.file("a.toml", "listen = \"127.0.0.1:0\"\n[servers.a]\ncommand = [\"cat\", \"a \\\"b\\\\\"]\n[servers.b]\nurl = \"http://b.example/\"\n");
    let seen = shown(&["--config", &file], &[]);
    let again = place.file("again.toml", &seen);
    let again = shown(&["--config", &again], &[]);
    let values = |shown: &str| -> Vec<String> {
        shown.lines().map(|line| line.split(" # ").next().unwrap_or_default().trim().to_owned()).collect()
    };
    assert_eq!(values(&seen), values(&again));
    assert!(seen.contains("header_timeout = \"10s\"") && seen.contains("max_children = 256"), "{seen}");
}

// --- what is refused -----------------------------------------------------------------------------------------

#[test]
fn wrong_file_is_78_with_its_line_its_key_and_what_is_allowed() {
    let place = Place::new();
    for (text, words) in [
        ("max_frame_lem = 1", &[":1: max_frame_lem: unknown key", "'max_frame_len'"][..]),
        ("\n\nmax_pending = \"many\"", &[":3: max_pending: ", "'many'", "want a number"]),
        ("drain_timeout = 10", &[":1: drain_timeout: ", "'10'", "\"30s\""]),
        ("max_frame_len = \"1GiX\"", &[":1: max_frame_len: ", "\"64MiB\""]),
        ("max_frame_len = 0", &[":1: max_frame_len: "]),
        ("log_level = \"loud\"", &[":1: log_level: ", "debug"]),
        ("legacy_sse = \"yes\"", &[":1: legacy_sse: want true or false"]),
        ("max_pending = [1]", &[":1: max_pending: want one value"]),
        ("max_pending = 1.5", &[":1: max_pending: ", "whole number"]),
        ("command = \"cat -u\"", &[":1: command: want an array"]),
        ("command = []", &[":1: command: ", "program"]),
        ("url = \"ftp://a.example/\"", &[":1: url: ", "http://"]),
        ("url = \"--listen\"", &[":1: url: "]),
        ("config = \"x\"", &[":1: config: ", "command line"]),
        ("max_pending = 1\nmax_pending = 2", &[":2: no TOML: ", "duplicate"]),
        ("max_pending 1", &[":1: no TOML: "]),
        ("[servers]\na = 1", &[":2: servers.a: ", "[servers.NAME]"]),
        ("[servers.a]\ncwd = \"/\"", &[":1: servers.a: ", "command", "url"]),
        ("[servers.\"../a\"]\nurl = \"http://a.example/\"", &[":1: servers.../a: ", "letters"]),
        ("[servers.a]\nurl = \"http://a.example/\"\nlisten = 80", &[":3: listen: ", "above all tables"]),
        ("bearer_env = \"T\"\n[servers.a]\nurl = \"http://a.example/\"", &[":1: bearer_env: ", "[servers.NAME]"]),
        ("max_pendin = 1\nmax_pendig = 1", &[":1: max_pendin: ", "1 more", "config check"]),
        ("tls_cert = \"x\"\nlisten = 0\nurl = \"http://a.example/\"", &[":1: tls_cert: ", "--tls-key"]),
        ("command = [\"cat\"]\nurl = \"http://a.example/\"", &[":1: command: ", "not both"]),
        ("path = \"/x\"\n[servers.a]\nurl = \"http://a.example/\"", &[":1: path: ", "/NAME/mcp"]),
    ] {
        let file = place.file("wrong.toml", text);
        let words: Vec<&str> = words.iter().copied().chain(["wrong.toml"]).collect();
        assert_refused(&["proxy", "--config", &file], &[], 78, &words);
        let Ended { code, stdout, .. } = run(&["config", "check", &file], &[]);
        assert_eq!(code, Some(78), "{text}: {stdout}");
    }
    assert_refused(&["proxy", "--config", "/nowhere/a.toml"], &[], 78, &["/nowhere/a.toml", "No such file"]);
}

#[test]
fn wrong_environment_is_78_with_the_name_of_the_variable() {
    for (name, value, words) in [
        ("SHADOWCAT_MAX_PENDING", "many", &["'many'", "want a number"][..]),
        ("SHADOWCAT_LOG_LEVEL", "loud", &["'loud'", "debug"]),
        ("SHADOWCAT_COMMAND", "[1, ", &["TOML"]),
        ("SHADOWCAT_LEGACY_SSE", "yes", &["'yes'", "true"]),
        ("SHADOWCAT_CONFIG", "/nowhere/b.toml", &["/nowhere/b.toml"]),
    ] {
        let words: Vec<&str> = words.iter().copied().chain((name != "SHADOWCAT_CONFIG").then_some(name)).collect();
        assert_refused(&["proxy", "--", "cat"], &[(name, value)], 78, &words);
    }
}

#[test]
fn key_that_does_not_apply_is_refused_by_its_line_and_a_flag_by_its_name() {
    let place = Place::new();
    let file = place.file("a.toml", "[servers.a]\nurl = \"http://a.example/\"\nkill_after = \"1s\"\n");
    assert_refused(
        &["proxy", "--config", &file],
        &[],
        78,
        &["a.toml:3: kill_after: is for a server that is a command"],
    );
    let file = place.file("b.toml", "url = \"http://a.example/\"\n");
    assert_refused(&["proxy", "--config", &file, "--kill-after", "1s"], &[], 64, &["--kill-after is for"]);
    // The environment is for many commands.
    shown(&["--config", &file], &[("SHADOWCAT_KILL_AFTER", "1s")]);
}

#[test]
fn server_of_the_file_has_to_be_chosen_where_only_one_can_be_used() {
    let place = Place::new();
    let file = place.file("a.toml", "[servers.a]\ncommand = [\"cat\"]\n[servers.b]\nurl = \"http://b.example/\"\n");
    let proxy = |more: &[&'static str]| -> Vec<String> {
        ["proxy", "--config", &file].iter().chain(more).map(|&word| word.to_owned()).collect()
    };
    for (more, words) in [
        (&[][..], &["a, b", "--server NAME", "--listen"][..]),
        (&["--listen", "tcp:0"], &["a, b", "--server NAME"]),
        (&["--server", "c"], &["[servers.c]", "a, b"]),
        (&["--server", "a", "--", "cat"], &["--server a"]),
        (&["--listen", "0", "--bearer-env", "T"], &["--bearer-env", "[servers.NAME]"]),
        (&["--listen", "0", "--path", "/x"], &["--path", "/NAME/mcp"]),
    ] {
        let args = proxy(more);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        assert_refused(&args, &[], 64, words);
    }
    assert_refused(&["proxy", "--server", "a", "--", "cat"], &[], 64, &["--server a"]);
    assert_refused(&["proxy", "--server", "a"], &[], 64, &["--server a", "--config FILE"]);
}

// --- what is run ---------------------------------------------------------------------------------------------

#[test]
fn server_of_a_file_is_run_with_what_the_file_says() {
    let place = Place::new();
    let script = "read line; printf '{\\\"jsonrpc\\\":\\\"2.0\\\",\\\"id\\\":1,\\\"result\\\":\\\"%s %s\\\"}\\\\n' $LEVEL $(pwd)";
    let dir = fs::canonicalize(place.dir.join("")).unwrap();
    let text = format!(
        "[servers.other]\nurl = \"http://a.example/\"\n[servers.sh]\ncommand = [\"sh\", \"-c\", \"{script}\"]\n\
         cwd = \"{}\"\n[servers.sh.env]\nLEVEL = 7\n",
        dir.display()
    );
    let file = place.file("a.toml", &text);
    let mut session = Launch::new(["proxy", "--config", &file, "--server", "sh"]).start();
    session.send("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}\n");
    let Ended { code, stdout, stderr } = session.end();
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains(&format!("\"7 {}\"", dir.display())), "{stdout}");
}

#[test]
fn check_says_what_is_good_and_goes_on_behind_what_is_not() {
    let place = Place::new();
    let good = place.file("good.toml", "[servers.a]\ncommand = [\"cat\"]\n");
    let bad = place.file("bad.toml", "x = 1\ny = 2\n");
    let Ended { code, stdout, stderr } = run(&["config", "check", &bad, &good], &[]);
    assert_eq!((code, stderr.as_str()), (Some(78), ""));
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{stdout}");
    assert!(lines[0].contains("bad.toml:1: x: ") && lines[1].contains("bad.toml:2: y: "), "{stdout}");
    assert!(lines[2].ends_with("good.toml: good, 1 server"), "{stdout}");
}
