//! What is made of the definition of the command line for shells, readers and reporters of faults: completions,
//! the manual, versions, colours. Checked by what reads them, where this machine has it.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use support::{Ended, Launch};

#[track_caller]
fn printed(args: &[&str]) -> String {
    let Ended { code, stdout, stderr } = Launch::new(args).start().end();
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{args:?}");
    stdout
}

/// What `program` says of `text`, `None` where there is no such program.
fn read_by(program: &str, args: &[&str], text: &str) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let both = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(both).unwrap()))
}

#[test]
fn each_shell_is_given_every_flag_and_nothing_internal() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = printed(&["completions", shell]);
        for word in ["max-frame-len", "tls-cert", "on-invalid", "completions"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
        assert!(!script.contains("demo-server"), "{shell}");
    }
}

#[test]
fn bash_completes_a_flag() {
    let script = printed(&["completions", "bash"]);
    let ask = "\nCOMP_WORDS=(shadowcat proxy --max-fr)\nCOMP_CWORD=2\n\
               _shadowcat shadowcat --max-fr proxy\necho \"${COMPREPLY[@]}\"\n";
    if let Some((succeeded, said)) = read_by("bash", &["--norc", "-s"], &format!("{script}{ask}")) {
        assert!(succeeded && said.trim() == "--max-frame-len", "{said}");
    }
}

#[test]
fn manual_has_a_page_for_each_command_that_readers_understand() {
    for (args, words) in [
        (&["man"][..], &["SHADOWCAT", "shadowcat-proxy(1)", "Exit codes: 0 clean", "target:"][..]),
        (
            &["man", "proxy"],
            &["SHADOWCAT-PROXY", "--max-frame-len <SIZE>", "clients over HTTP · server is a command   s"],
        ),
        (&["man", "pipe"], &["SHADOWCAT-PIPE", "--on-invalid <WHAT>", "shadowcat pipe --from sse | jq"]),
    ] {
        let page = printed(args);
        assert!(page.contains(".TH shadowcat"), "{args:?}: {page}");
        let Some((succeeded, read)) = read_by("groff", &["-Kutf8", "-man", "-Tutf8", "-ww", "-P-cbou"], &page) else {
            continue;
        };
        assert!(succeeded && !read.contains("warning"), "{args:?}: {read}");
        let (read, upper) = (read.replace('−', "-"), read.to_uppercase());
        for word in words {
            assert!(read.contains(word) || upper.contains(word), "{args:?}: no {word:?} in {read}");
        }
    }
}

#[test]
fn page_that_is_not_there_is_refused_with_those_that_are() {
    let Ended { code, stdout, stderr } = Launch::new(["man", "pipes"]).start().end();
    assert_eq!((code, stdout.as_str()), (Some(64), ""));
    assert!(stderr.contains("'pipes'") && stderr.contains("proxy, pipe, demo"), "{stderr}");
}

#[test]
fn version_is_short_or_says_what_a_report_needs() {
    let version = concat!("shadowcat ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(printed(&["-V"]), version);
    let long = printed(&["--version"]);
    assert!(long.starts_with(version), "{long}");
    for line in ["commit:  ", "rustc:   rustc 1.", "target:  ", "profile: "] {
        assert!(long.contains(line) && !long.contains(&format!("{line}unknown")), "no {line:?} in {long}");
    }
}

#[test]
fn help_has_colours_only_where_they_are_seen_and_wanted() {
    let bin = env!("CARGO_BIN_EXE_shadowcat");
    assert!(!printed(&["proxy", "--help"]).contains('\x1b'));
    let on_terminal = |settings: &[&str]| {
        let line = format!("{} {bin} --help", settings.join(" "));
        let (_, seen) = read_by("script", &["-qec", &line, "/dev/null"], "")?;
        Some(seen)
    };
    if let Some(seen) = on_terminal(&["env", "-u", "NO_COLOR", "TERM=xterm"]) {
        assert!(seen.contains("\x1b[") && seen.contains("proxy"), "{seen:?}");
    }
    if let Some(seen) = on_terminal(&["env", "NO_COLOR=1", "TERM=xterm"]) {
        assert!(!seen.contains("\x1b[") && seen.contains("proxy"), "{seen:?}");
    }
}
