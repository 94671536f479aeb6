//! Style is a test. Who may import whom, how long a file and a function may be, what may not be written:
//! each rule is a function from the tree to complaints, and each complaint says what to do. Each rule
//! has a small test that shows it can fail.

#![expect(clippy::string_slice, reason = "every index comes from `find`")]

#[path = "tidy/papers.rs"]
mod papers;
#[path = "tidy/source.rs"]
mod source;

use std::{collections::BTreeSet, fs, path::Path};

use source::Source;

type Rule = fn(&[Source]) -> Vec<String>;

const RULES: [Rule; 16] = [
    crates_are_named_in_their_place,
    modules_point_left,
    only_link_sees_both_sides,
    files_are_short,
    functions_are_short,
    names_and_first_lines,
    nothing_is_left_over,
    fuzz_targets_are_whole,
    machines_stay_out,
    promises_name_their_tests,
    flags_are_passed_by_tests,
    papers::cited_rules_are_in_the_book,
    papers::lists_say_things_once,
    papers::links_lead_somewhere,
    papers::gate_is_documented,
    papers::fuzz_targets_are_documented,
];

#[test]
#[expect(clippy::print_stdout, reason = "a note for whoever runs this with --nocapture")]
fn the_tree_is_tidy() {
    let tree = tree(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(tree.len() > 10, "the tree was not found");
    for file in tree.iter().filter(|file| file.path.ends_with(".rs") && lines(file) > SOFT_FILE_LEN) {
        println!("note: {} has {} lines; {SOFT_FILE_LEN} is where to think of splitting", file.path, lines(file));
    }
    let complaints: Vec<String> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Crates that only one place may name: (crate, where it may be named, inside of what the rule holds).
const CRATES: [(&str, &[&str], &str); 10] = [
    ("simd_json", &["codecs/src/envelope/tape"], ""),
    ("hyper", &["src/transport/http"], "src"),
    ("hyper_util", &["src/transport/http"], "src"),
    ("hyper_rustls", &["src/transport/http"], "src"),
    ("rustls", &["src/transport/http"], "src"),
    ("tokio_rustls", &["src/transport/http"], "src"),
    ("futures_core", &["codecs/src/stream"], "codecs/src"),
    ("futures_sink", &["codecs/src/stream"], "codecs/src"),
    ("tokio", &["codecs/src/tokio_codec"], "codecs/src"),
    ("tokio_util", &["codecs/src/tokio_codec", "codecs/src/fuzz"], "codecs/src"),
];

fn crates_are_named_in_their_place(tree: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, places, scope) in CRATES {
        for file in tree.iter().filter(|file| is_source(file) && file.path.starts_with(scope)) {
            if !places.iter().any(|place| file.is_in(place)) {
                let because = format!("only {} may name `{name}`: put what needs it there", places.join(" and "));
                complaints.extend(complain(file, &[name], &because));
            }
        }
    }
    complaints
}

/// Who may not know whom: (place, what it may not name). Read `ARCHITECTURE.md` before adding here.
const WALLS: [(&str, &[&str]); 11] = [
    ("codecs/src/limits", ABOVE_FRAMES),
    ("codecs/src/error", ABOVE_FRAMES),
    ("codecs/src/frame", ABOVE_FRAMES),
    ("codecs/src/block", &["crate::line", "crate::sse", "crate::envelope", "crate::tokio_codec"]),
    ("codecs/src/line", &["crate::sse", "crate::envelope", "crate::tokio_codec"]),
    ("codecs/src/sse", &["crate::envelope", "crate::tokio_codec"]),
    ("codecs/src/envelope", &["crate::line", "crate::sse", "crate::tokio_codec"]),
    ("codecs/src/tokio_codec", &["crate::envelope"]),
    ("src/session", &["crate::transport", "crate::link", "crate::supervise", "tokio", "std::io", "std::net"]),
    ("src/transport", &["crate::session", "crate::link", "crate::cli"]),
    ("src/supervise", &["crate::session", "crate::link", "crate::cli"]),
];

const ABOVE_FRAMES: &[&str] =
    &["crate::block", "crate::line", "crate::sse", "crate::envelope", "crate::pool", "crate::tokio_codec"];

fn modules_point_left(tree: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (place, walled_off) in WALLS {
        for file in tree.iter().filter(|file| file.is_in(place)) {
            let because = format!("{place} may not know it: pass a value in, or move the code up");
            complaints.extend(complain(file, walled_off, &because));
        }
    }
    complaints
}

/// Where both halves of the house meet. The demo and the command start links; they do not join sides.
fn only_link_sees_both_sides(tree: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.iter().filter(|file| file.path.starts_with("src/") && !file.is_in("src/link")) {
        let names = |module: &str| file.mentions().iter().any(|mention| is_or_in(&mention.path, module));
        if names("crate::session") && names("crate::transport") {
            complaints.push(format!("{}: names session and transport; only src/link joins them", file.path));
        }
        // Accepting connections until told to stop joins no two sides.
        let may_wait = file.is_in("src/transport/http/server");
        if let (Some(line), false) = (line_of(&file.code, "select!"), may_wait) {
            complaints.push(format!("{}:{line}: `select!` is for src/link only: let a link wait for both", file.path));
        }
    }
    complaints
}

const SOFT_FILE_LEN: usize = 400;
const MAX_FILE_LEN: usize = 600;

fn files_are_short(tree: &[Source]) -> Vec<String> {
    let long = tree.iter().filter(|file| file.path.ends_with(".rs") && lines(file) > MAX_FILE_LEN);
    long.map(|file| {
        format!("{}: {} lines, more than {MAX_FILE_LEN}: split it by state or by noun", file.path, lines(file))
    })
    .collect()
}

const MAX_FUNCTION_LEN: usize = 70;

fn functions_are_short(tree: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree {
        for long in file.functions().into_iter().filter(|function| function.len > MAX_FUNCTION_LEN) {
            let (path, line, name, len) = (&file.path, long.line, long.name, long.len);
            complaints.push(format!(
                "{path}:{line}: `{name}` has {len} lines of code, more than {MAX_FUNCTION_LEN}: give its parts names"
            ));
        }
    }
    complaints
}

const NO_NAMES: [&str; 5] = ["utils", "helpers", "common", "misc", "util"];

fn names_and_first_lines(tree: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.iter().filter(|file| file.path.ends_with(".rs")) {
        let mut parts = file.path.trim_end_matches(".rs").split('/');
        if let Some(name) = parts.clone().find(|part| NO_NAMES.contains(part)) {
            complaints.push(format!("{}: `{name}` says nothing: name the noun it defines", file.path));
        }
        if parts.next_back() == Some("mod") {
            complaints.push(format!("{}: no `mod.rs`: `sse.rs` stands beside `sse/`", file.path));
        }
        if !file.text.starts_with("//! ") {
            complaints.push(format!("{}:1: open with `//!` lines: what this is, what it is not", file.path));
        }
    }
    complaints
}

const LEFT_OVER: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

/// Assembled, so that this file does not complain about itself.
const MARKS: [&str; 2] = [concat!("FIX", "ME"), concat!("TO", "DO")];

fn nothing_is_left_over(tree: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.iter().filter(|file| file.path.ends_with(".rs")) {
        for left in LEFT_OVER {
            if let Some(line) = line_of(&file.code, left) {
                complaints.push(format!("{}:{line}: `{left}` is for the desk, not for the tree", file.path));
            }
        }
        for (index, line) in file.text.lines().enumerate() {
            let numbered = |at: usize| line[at..].split_once("(#").is_some_and(|(_, rest)| rest.starts_with(is_digit));
            if let Some((at, mark)) = MARKS.iter().find_map(|mark| Some((line.find(mark)?, mark)))
                && !numbered(at)
            {
                complaints.push(format!(
                    "{}:{}: `{mark}` without the number of an issue: `(#12)`",
                    file.path,
                    index + 1
                ));
            }
        }
    }
    complaints
}

/// Seeds are read by people.
const MAX_SEED_LEN: u64 = 4 << 10;

fn fuzz_targets_are_whole(tree: &[Source]) -> Vec<String> {
    let text = |path: &str| tree.iter().find(|file| file.path == path).map_or("", |file| &file.text);
    let (manifest, replayed) = (text("fuzz/Cargo.toml"), text("tests/seeds.rs"));
    let bodies = [text("codecs/src/fuzz.rs"), text("src/fuzz.rs")].concat();
    let targets: BTreeSet<&str> = manifest
        .split("[[bin]]")
        .skip(1)
        .filter_map(|bin| bin.split_once("name = \"")?.1.split_once('"'))
        .map(|(name, _)| name)
        .collect();
    let mut complaints = Vec::new();
    for target in &targets {
        let mut want = |there: bool, what: &str| {
            if !there {
                complaints.push(format!("fuzz target `{target}`: {what} (fuzz/README.md, \"Add a target\")"));
            }
        };
        want(!text(&format!("fuzz/fuzz_targets/{target}.rs")).is_empty(), "add fuzz/fuzz_targets/<target>.rs");
        want(bodies.contains(&format!("::{target};")), "`pub use` its body in codecs/src/fuzz.rs or src/fuzz.rs");
        want(replayed.contains(&format!("(\"{target}\",")), "add it to TARGETS in tests/seeds.rs");
    }
    let listed = tree.iter().filter_map(|file| file.path.strip_prefix("fuzz/fuzz_targets/")?.strip_suffix(".rs"));
    complaints.extend(
        listed
            .filter(|name| !targets.contains(name))
            .map(|name| format!("fuzz/fuzz_targets/{name}.rs: add a [[bin]] to fuzz/Cargo.toml, or delete it")),
    );
    complaints
}

/// Not in the tree because they are bytes, not text; so this one looks at the disk.
#[test]
fn every_fuzz_target_has_small_seeds() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for target in fs::read_dir(fuzz.join("fuzz_targets")).into_iter().flatten().flatten() {
        let seeds = fuzz.join("seeds").join(target.path().file_stem().unwrap());
        let seeds: Vec<_> = fs::read_dir(&seeds)
            .unwrap_or_else(|_| panic!("put seeds into {}: small inputs named after what they show", seeds.display()))
            .collect();
        assert!(!seeds.is_empty(), "{} has no seeds", target.path().display());
        for seed in seeds.into_iter().flatten() {
            let len = seed.metadata().unwrap().len();
            assert!(len <= MAX_SEED_LEN, "{}: {len} bytes; make it small: cargo fuzz tmin", seed.path().display());
        }
    }
}

/// Places on somebody's machine and hosts of package registries, assembled as above.
const MACHINES: [&str; 8] = [
    concat!("/wo", "rk/"),
    concat!("/tmp", "/wt"),
    concat!("/ro", "ot/"),
    concat!("registry", ".npmjs.org"),
    concat!("py", "pi.org"),
    concat!("files", ".pythonhosted.org"),
    concat!("index", ".crates.io"),
    concat!("static", ".crates.io"),
];

fn machines_stay_out(tree: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree {
        for place in MACHINES {
            if let Some(line) = line_of(&file.text, place) {
                complaints
                    .push(format!("{}:{line}: `{place}` is one machine's: a path in the tree, or none", file.path));
            }
        }
    }
    complaints
}

/// In SECURITY.md, each promise names tests, as `tests/file.rs::name`, and each test that is named is there.
fn promises_name_their_tests(tree: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let Some(security) = tree.iter().find(|file| file.path == "SECURITY.md") else { return complaints };
    let promised = security.text.split("## What is promised").nth(1).and_then(|text| text.split("\n## ").next());
    for promise in promised.unwrap_or_default().split("\n- **").skip(1) {
        let title = promise.split("**").next().unwrap_or_default();
        let named: Vec<(&str, &str)> = promise.split('`').filter_map(|name| name.split_once(".rs::")).collect();
        if named.is_empty() {
            complaints.push(format!("SECURITY.md: {title:?} names no test: write one, or take the promise out"));
        }
        for (path, name) in named {
            let is_there =
                |file: &Source| file.path == format!("{path}.rs") && file.code.contains(&format!("fn {name}("));
            if !tree.iter().any(is_there) {
                complaints.push(format!("SECURITY.md: {title:?} names {path}.rs::{name}, which is not there"));
            }
        }
    }
    complaints
}

/// Each flag of `FLAGS` is passed by some test, as `--flag`.
fn flags_are_passed_by_tests(tree: &[Source]) -> Vec<String> {
    let Some(scope) = tree.iter().find(|file| file.path == "src/cli/args/scope.rs") else { return Vec::new() };
    let table = scope.text.split("\nconst FLAGS:").nth(1).and_then(|text| text.split("\n];").next());
    let ids = table.unwrap_or_default().lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split('"').next());
    let flags = ids.filter(|id| !NO_FLAGS.contains(id)).map(|id| format!("--{}", id.replace('_', "-")));
    // In a text of its own, as one word of a line, or with its value: not as the beginning of another flag.
    let is_passed = |flag: &String| {
        let forms = ["\"", "=", " "].map(|end| format!("{flag}{end}"));
        tree.iter()
            .filter(|file| file.path.starts_with("tests/") && file.path.ends_with(".rs"))
            .any(|file| forms.iter().any(|form| file.text.contains(form)))
    };
    flags
        .filter(|flag| !is_passed(flag))
        .map(|flag| format!("src/cli/args/scope.rs: no test passes {flag}: show in tests/ what it does"))
        .collect()
}

/// Where a command line has no `--` before them.
const NO_FLAGS: [&str; 2] = ["url", "command"];

/// Complaints about each place where `file` names one of `names`, or something inside it.
fn complain(file: &Source, names: &[&str], because: &str) -> Vec<String> {
    let mentions = file.mentions();
    let found = mentions.iter().filter(|mention| names.iter().any(|name| is_or_in(&mention.path, name)));
    found.map(|mention| format!("{}:{}: names `{}`; {because}", file.path, mention.line, mention.path)).collect()
}

fn is_or_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_source(file: &Source) -> bool {
    file.path.starts_with("src/") || file.path.starts_with("codecs/src/")
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn lines(file: &Source) -> usize {
    file.text.lines().count()
}

fn line_of(text: &str, part: &str) -> Option<usize> {
    Some(text[..text.find(part)?].matches('\n').count() + 1)
}

/// All text files but what is built, fetched or found by a fuzzer.
fn tree(root: &Path) -> Vec<Source> {
    const SKIPPED: [&str; 8] =
        ["target", ".git", "node_modules", "corpus", "artifacts", "coverage", "__pycache__", "seeds"];
    let (mut tree, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() {
                let skipped = SKIPPED.iter().any(|skipped| name == *skipped);
                folders.extend((!skipped).then_some(path));
            } else if let Ok(text) = fs::read_to_string(&path) {
                let inside = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                tree.push(Source::new(&inside, &text));
            }
        }
    }
    tree.sort_by(|one, other| one.path.cmp(&other.path));
    tree
}

/// What `rule` says of one file.
fn judged(rule: Rule, path: &str, text: &str) -> usize {
    rule(&[Source::new(path, text)]).len()
}

#[test]
fn each_rule_can_fail() {
    let long = "    x();\n".repeat(71);
    let cases: [(Rule, &str, &str, usize); 25] = [
        (crates_are_named_in_their_place, "src/link/pipe.rs", "use simd_json::Tape;", 1),
        (crates_are_named_in_their_place, "codecs/src/envelope/tape.rs", "use simd_json::Tape;", 0),
        (crates_are_named_in_their_place, "codecs/src/line.rs", "fn f() { tokio::spawn(()) }", 1),
        (crates_are_named_in_their_place, "src/transport.rs", "use hyper::Body;", 1),
        (crates_are_named_in_their_place, "src/transport/http/client.rs", "use hyper::Body;", 0),
        (modules_point_left, "codecs/src/line.rs", "use crate::{Frame, envelope::{scan, tape}};", 2),
        (modules_point_left, "codecs/src/sse/decoder.rs", "use super::super::envelope;", 1),
        (modules_point_left, "codecs/src/sse/decoder.rs", "// crate::envelope\nuse super::event::Event;", 0),
        (modules_point_left, "src/session/pending.rs", "use tokio::time::Instant;", 1),
        (only_link_sees_both_sides, "src/demo.rs", "use crate::{session::Session, transport::Reader};", 1),
        (only_link_sees_both_sides, "src/link/pipe.rs", "use crate::{session::Session, transport::Reader};", 0),
        (only_link_sees_both_sides, "src/supervise.rs", "fn f() { tokio::select! {} }", 1),
        (files_are_short, "src/a.rs", &"//\n".repeat(601), 1),
        (functions_are_short, "src/a.rs", &format!("fn f() {{\n{long}}}"), 1),
        (functions_are_short, "src/a.rs", &format!("fn f() {{\n{}}}", &long[9..]), 0),
        (names_and_first_lines, "src/utils/mod.rs", "fn f() {}", 3),
        (nothing_is_left_over, "src/a.rs", "fn f() { todo!(); dbg!(1) }", 2),
        (nothing_is_left_over, "src/a.rs", concat!("// FIX", "ME(#12): x\n// FIX", "ME: y"), 1),
        (fuzz_targets_are_whole, "fuzz/Cargo.toml", "[[bin]]\nname = \"line\"", 3),
        (fuzz_targets_are_whole, "fuzz/fuzz_targets/sse.rs", "//! x", 1),
        (machines_stay_out, "docs/a.md", concat!("see /wo", "rk/notes"), 1),
        (machines_stay_out, "docs/a.md", "see docs/notes", 0),
        (
            promises_name_their_tests,
            "SECURITY.md",
            "## What is promised\n\n- **All.** `tests/a.rs::b`\n- **More.** x\n",
            2,
        ),
        (
            flags_are_passed_by_tests,
            "src/cli/args/scope.rs",
            "x\nconst FLAGS: &[()] = &[\n    (\"url\", A),\n    (\"one_two\", A),\n];\n",
            1,
        ),
        (promises_name_their_tests, "SECURITY.md", "## What is promised\n\n## Else\n- **Not here.** x\n", 0),
    ];
    for (index, (rule, path, text, expected)) in cases.into_iter().enumerate() {
        assert_eq!(judged(rule, path, text), expected, "case {index}: {path}: {text}");
    }
}
