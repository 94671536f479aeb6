//! Rules about documents: what they name is there, and they say it once.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// Every rule of the protocol that code or a document cites, as `rule H5`, is in the rule book, and once.
pub(crate) fn cited_rules_are_in_the_book(tree: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut book = BTreeSet::new();
    for id in tree.iter().filter(|file| file.path == BOOK).flat_map(|file| file.text.lines()).filter_map(row_id) {
        if is_rule(id) && !book.insert(id) {
            complaints.push(format!("{BOOK}: two rows of {id}: one rule, one id"));
        }
    }
    for file in tree.iter().filter(|file| file.path.ends_with(".rs") || file.path.ends_with(".md")) {
        if file.path.starts_with("tests/tidy") {
            continue;
        }
        for id in cited(&file.text) {
            if !book.contains(id.as_str()) {
                complaints.push(format!("{}: cites rule {id}, which {BOOK} does not have: add its row", file.path));
            }
        }
    }
    complaints
}

/// No two items of a document's lists begin alike: the second is a leftover of an edit, or should be the first's.
pub(crate) fn lists_say_things_once(tree: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    // What the benchmark writes repeats the head of each run.
    for file in documents(tree).filter(|file| !file.path.starts_with("docs/benchmarks/")) {
        let mut seen = BTreeMap::new();
        for (number, line) in prose(&file.text) {
            let Some(item) = line.trim_start().strip_prefix("- ") else { continue };
            let lead: String = item.chars().take(LEAD_LEN).collect();
            if lead.chars().count() < LEAD_LEN {
                continue;
            }
            if let Some(first) = seen.insert(lead.clone(), number) {
                complaints.push(format!("{}:{number}: begins as line {first}, {lead:?}: say it once", file.path));
            }
        }
    }
    complaints
}

/// Every link of a document that names a file names one that is there.
pub(crate) fn links_lead_somewhere(tree: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in documents(tree) {
        for (number, line) in prose(&file.text) {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target) {
                let path = target.split('#').next().unwrap_or_default();
                if path.is_empty() || path.contains("://") || path.starts_with("mailto:") || path.contains(' ') {
                    continue;
                }
                let wanted = joined(&file.path, path);
                let folder = format!("{wanted}/");
                if !tree.iter().any(|there| there.path == wanted || there.path.starts_with(&folder)) {
                    complaints.push(format!("{}:{number}: links to {target}, which is not there", file.path));
                }
            }
        }
    }
    complaints
}

/// What is said of the gate are its steps, in their order.
pub(crate) fn gate_is_documented(tree: &[Source]) -> Vec<String> {
    let text = |path: &str| tree.iter().find(|file| file.path == path).map_or("", |file| &file.text);
    let (gate, document) = (text(".ci/run"), text("CONTRIBUTING.md"));
    let steps = gate.split_once("STEPS=\"").and_then(|(_, rest)| rest.split_once('"')).map_or("", |(steps, _)| steps);
    let steps: Vec<&str> = steps.split_whitespace().filter_map(|step| Some(step.split_once(':')?.0)).collect();
    let told = document.split_once("## How CI runs").map_or("", |(_, rest)| rest);
    let rows: Vec<&str> = told.lines().filter_map(row_id).collect();
    if steps == rows {
        return Vec::new();
    }
    vec![format!("CONTRIBUTING.md, \"How CI runs\": has the steps {rows:?}, and .ci/run has {steps:?}")]
}

/// What is said of the fuzz targets is about all of them.
pub(crate) fn fuzz_targets_are_documented(tree: &[Source]) -> Vec<String> {
    let text = |path: &str| tree.iter().find(|file| file.path == path).map_or("", |file| &file.text);
    let manifest = text("fuzz/Cargo.toml");
    let bins = manifest.split("[[bin]]").skip(1).filter_map(|bin| bin.split_once("name = \"")?.1.split_once('"'));
    let bins: BTreeSet<&str> = bins.map(|(name, _)| name).collect();
    let rows: BTreeSet<&str> = text("fuzz/README.md").lines().filter_map(row_id).collect();
    let lacking = bins.difference(&rows).map(|name| format!("fuzz/README.md: no row of {name}: say its law"));
    let gone = rows.difference(&bins).map(|name| format!("fuzz/README.md: {name} is no [[bin]] of fuzz/Cargo.toml"));
    lacking.chain(gone).collect()
}

fn documents(tree: &[Source]) -> impl Iterator<Item = &Source> {
    tree.iter().filter(|file| file.path.ends_with(".md"))
}

/// The lines outside of fences, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            return None;
        }
        (!is_fenced).then_some((index + 1, line))
    })
}

/// The first cell of a table's row, without its backticks.
fn row_id(line: &str) -> Option<&str> {
    let cell = line.strip_prefix("| ")?.split(" |").next()?.trim();
    let id = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).unwrap_or(cell);
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let is_head = matches!(id, "id" | "step" | "target");
    (!id.is_empty() && !is_head && id.chars().all(is_name)).then_some(id)
}

/// The ids behind each "rule" or "rules": `rules G9, G10 and V4` are three, also over the end of a line.
fn cited(text: &str) -> BTreeSet<String> {
    let words = text.split_whitespace().filter(|word| !matches!(*word, "//" | "///" | "//!" | "#"));
    let mut ids = BTreeSet::new();
    let mut is_list = false;
    for word in words {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        if matches!(bare, "rule" | "rules" | "Rule" | "Rules") {
            is_list = true;
        } else if is_list && is_rule(bare) {
            ids.insert(bare.to_owned());
            is_list = word.ends_with([',', ';']) || word.ends_with(bare);
        } else if !(is_list && matches!(word, "and" | "or" | "to" | "–")) {
            is_list = false;
        }
    }
    ids
}

fn is_rule(word: &str) -> bool {
    let number = word.strip_prefix(|c: char| c.is_ascii_uppercase());
    number.is_some_and(|number| !number.is_empty() && number.len() < 3 && number.chars().all(|c| c.is_ascii_digit()))
}

/// Where a link in this file leads.
fn joined(file: &str, link: &str) -> String {
    let mut path: Vec<&str> = file.split('/').collect();
    path.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path.join("/")
}

const BOOK: &str = "docs/RULES.md";
/// Of an item's first line: more than a crate's or a flag's name, less than a sentence.
const LEAD_LEN: usize = 40;

#[test]
fn rules_about_papers_can_fail() {
    let judged = |rule: fn(&[Source]) -> Vec<String>, files: &[(&str, &str)]| {
        let tree: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        rule(&tree).len()
    };
    let book = (BOOK, "| H5 | x |\n| V4 | y |\n");
    let cites = |text| [book, ("src/a.rs", text)];
    assert_eq!(judged(cited_rules_are_in_the_book, &cites("// Rules H5 and\n// V4, see there, or H6")), 0);
    assert_eq!(judged(cited_rules_are_in_the_book, &cites("// (rules H5, V4 or\n/// H6)")), 1);
    assert_eq!(judged(cited_rules_are_in_the_book, &[(BOOK, "| H5 | x |\n| H5 | y |\n")]), 1);
    let item = "- **All of it** and so on, for ever and a day, amen\n";
    let list = |text: &str| judged(lists_say_things_once, &[("a.md", text)]);
    assert_eq!((list(&[item, item].concat()), list(item), list(&["```\n", item, item].concat())), (1, 0, 0));
    let link = |text| judged(links_lead_somewhere, &[("docs/a.md", text), ("b.md", ""), ("docs/c/d.md", "")]);
    assert_eq!((link("[x](../b.md#y) [x](c) [x](http://a/b)"), link("[x](b.md)")), (0, 1));
    let gate = |steps| [(".ci/run", steps), ("CONTRIBUTING.md", "## How CI runs\n| step | x |\n| `a` | x |\n")];
    assert_eq!(judged(gate_is_documented, &gate("STEPS=\"a:1\"")), 0);
    assert_eq!(judged(gate_is_documented, &gate("STEPS=\"a:1 b:2\"")), 1);
    let fuzz = |rows| [("fuzz/Cargo.toml", "[[bin]]\nname = \"a\""), ("fuzz/README.md", rows)];
    assert_eq!(
        (
            judged(fuzz_targets_are_documented, &fuzz("| `a` | x |")),
            judged(fuzz_targets_are_documented, &fuzz("| `b` | x |"))
        ),
        (0, 2)
    );
}
