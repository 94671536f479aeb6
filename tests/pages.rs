//! What is made of the definition of the command line for shells, readers and reporters of faults: completions,
//! the manual, versions, colours. Checked by what reads them, where this machine has it.

#![cfg(unix)]
#![cfg(test)]

#[expect(dead_code, reason = "shared: no test file needs all of it")]
#[path = "support/session.rs"]
mod support;
#[path = "support/temp.rs"]
mod temp;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use support::{Ended, Launch};
use temp::TempDir;

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

/// What `program` says of one of `docs/recipes`, changed by `prepare` so that it fits a machine without its certificates,
/// in this folder. `None` where there is no such program.
fn judged_recipe(program: &str, args: &[&str], file: &str, here: &TempDir, prepare: &[(&str, &str)]) -> Option<String> {
    let recipe = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes").join(file)).unwrap();
    let recipe = prepare.iter().fold(recipe, |recipe, (from, to)| {
        assert!(recipe.contains(from), "{file}: no {from:?}");
        recipe.replace(from, to)
    });
    fs::write(here.join(file), recipe).unwrap();
    let path = here.join(file);
    let args: Vec<&str> = args.iter().copied().chain([path.to_str().unwrap()]).collect();
    let (succeeded, said) = read_by(program, &args, "")?;
    assert!(succeeded, "{program}: {said}");
    Some(said)
}

#[test]
fn recipes_are_understood_by_what_they_are_for() {
    let here = TempDir::new().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["mcp.example.com".to_owned()]).unwrap();
    let (cert, key) = (cert.pem(), signing_key.serialize_pem());
    fs::write(here.join("cert.pem"), [cert.as_str(), &key].concat()).unwrap();
    let at = |name: &str| here.join(name).to_str().unwrap().to_owned();
    // Nothing of the system's is written to, and no port taken.
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|of| format!("{of}_temp_path {};", at(of)));
    let http = format!("http {{ access_log off; {}", folders.concat());
    let (certificate, listen) = (at("cert.pem"), format!("listen unix:{} ssl", at("socket")));
    let prepare = [
        ("http {", http.as_str()),
        ("/etc/nginx/mcp.pem", &certificate),
        ("/etc/nginx/mcp.key", &certificate),
        ("listen 443 ssl", &listen),
    ];
    let prefix = at("");
    let pid = format!("pid {};", at("pid"));
    let args = ["-t", "-p", &prefix, "-e", "stderr", "-g", &pid, "-c"];
    if let Some(said) = judged_recipe("nginx", &args, "nginx.conf", &here, &prepare) {
        assert!(!said.contains("[warn]"), "{said}");
    }
    for file in ["haproxy.cfg", "haproxy-several.cfg"] {
        judged_recipe("haproxy", &["-c", "-f"], file, &here, &[("/etc/haproxy/mcp.pem", &certificate)]);
    }
}

#[test]
fn recipes_on_the_page_are_those_that_were_checked() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let page = fs::read_to_string(tree.join("OPERATING.md")).unwrap();
    let mut count = 0;
    for (fence, files) in
        [("```nginx\n", &["nginx.conf"][..]), ("```haproxy\n", &["haproxy.cfg", "haproxy-several.cfg"])]
    {
        for (block, file) in page.split(fence).skip(1).zip(files) {
            let recipe = fs::read_to_string(tree.join("recipes").join(file)).unwrap();
            let mut lines = recipe.lines().map(str::trim);
            let block = block.split("```").next().unwrap();
            for line in block.lines().map(str::trim).filter(|line| !line.is_empty()) {
                assert!(lines.any(|there| there == line), "docs/recipes/{file} has no {line:?} there");
            }
            count += 1;
        }
    }
    assert_eq!(count, 3, "blocks on the page, and recipes");
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
