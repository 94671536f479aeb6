//! `docs/CONFIGURATION.md` has a row for each key, and what can be known of a key from the definition stands there as
//! it is. Only what a key costs is written by hand. Defaults that help has in words are those of the library.

use std::{collections::BTreeSet, fs, path::Path};

use shadowcat::{
    link::{lines::LinesOptions, mux::MuxOptions},
    transport::http::server,
};
use shadowcat_codecs::Limits;

use super::keys::{self, Key, Kind};
use crate::cli::args::{
    self,
    scope::{Whose, meant_for, whose},
};

const DOCUMENT: &str = "docs/CONFIGURATION.md";

#[test]
fn every_key_is_documented_as_it_is() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT)).unwrap();
    let mut definition = args::definition();
    definition.build();
    let (mut known, mut complaints) = (BTreeSet::new(), Vec::new());
    for key in keys::all(keys::proxy(&definition)) {
        let facts = facts(&key);
        known.insert(key.id.to_owned());
        let cost =
            text.lines().find_map(|line| line.strip_prefix(&facts)).map(|rest| rest.trim_end_matches('|').trim());
        if cost.is_none_or(str::is_empty) {
            let heading = key.arg.get_help_heading().unwrap_or("Options");
            complaints.push(format!(
                "{DOCUMENT}: the row of {}, a flag under {heading:?} of --help, must be\n  {facts}what more of it costs or \
                 brings |",
                key.id
            ));
        }
    }
    // Rows about other commands begin with those.
    for line in text.lines().take_while(|line| *line != "## Other commands") {
        let id = line.strip_prefix("| `").and_then(|line| line.split_once("` | `")).map(|(id, _)| id);
        if let Some(id) = id.filter(|&id| !known.contains(id)) {
            complaints.push(format!("{DOCUMENT}: the row of {id} is about no flag: take it out"));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_flag_of_the_other_commands_is_documented_as_it_is() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT)).unwrap();
    let mut definition = args::definition();
    definition.build();
    let (mut facts, mut commands) = (Vec::new(), vec![(String::new(), &definition)]);
    while let Some((name, command)) = commands.pop() {
        // Those of `proxy` are keys, and so are those of `config show`; who asks for help needs no help.
        let others = command.get_subcommands().filter(|below| !["proxy", "show", "help"].contains(&below.get_name()));
        commands.extend(others.map(|below| (format!("{name} {}", below.get_name()), below)));
        let mut keys: Vec<Key<'_>> = keys::all(command).collect();
        keys.retain(|key| !name.is_empty() && key.arg.get_id() != "subcommand");
        facts.extend(keys.iter().map(|key| {
            let value = value(key);
            let flag =
                if key.arg.is_positional() { value_name(key) } else { format!("--{}", key.id.replace('_', "-")) };
            let default = key.default().unwrap_or_else(|| "none".to_owned());
            format!("| `{}` | `{flag}` | {value} | {default} | ", name.trim())
        }));
    }
    let lacking: Vec<&String> = facts
        .iter()
        .filter(|facts| !text.lines().any(|line| line.strip_prefix(facts.as_str()).is_some_and(|rest| rest.len() > 4)))
        .collect();
    assert!(
        facts.len() > 15 && lacking.is_empty(),
        "{DOCUMENT}, \"Other commands\", lacks rows that begin\n{lacking:#?}"
    );
}

fn value_name(key: &Key<'_>) -> String {
    key.arg.get_value_names().and_then(<[_]>::first).map_or("", |name| name.as_str()).to_owned()
}

/// What may be written as the value.
fn value(key: &Key<'_>) -> String {
    let possible: Vec<String> = key.arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    match key.kind {
        Kind::Switch => "true, false".to_owned(),
        _ if !possible.is_empty() => possible.join(", "),
        Kind::Many | Kind::Pairs(_) => format!("{}, several", value_name(key)),
        Kind::Words => "array".to_owned(),
        Kind::One => value_name(key),
    }
}

/// The beginning of a key's row.
fn facts(key: &Key<'_>) -> String {
    let value = value(key);
    let flag = match key.kind {
        Kind::Words => "`-- COMMAND`".to_owned(),
        _ if key.arg.is_positional() => "`URL`".to_owned(),
        _ => format!("`--{}`", key.id.replace('_', "-")),
    };
    let default = key.default().unwrap_or_else(|| "none".to_owned());
    let whose = match whose(key.id) {
        Whose::Process => "process",
        Whose::Each => "server",
        Whose::Own => "one server",
        Whose::CommandLine => "no file",
    };
    format!("| `{}` | {flag} | `{}` | {value} | {default} | {} | {whose} | ", key.id, key.variable(), meant_for(key.id))
}

#[test]
fn defaults_in_words_are_those_of_the_library() {
    let definition = args::definition();
    let (http, mux) = (server::Config::default(), MuxOptions::new(Limits::default()));
    let lines = LinesOptions::new(Limits::default());
    let time = |duration| humantime::format_duration(duration).to_string();
    for (id, default) in [
        ("header_timeout", time(http.header_timeout)),
        ("body_timeout", time(http.body_timeout)),
        ("write_timeout", time(http.write_timeout)),
        ("idle_timeout", time(http.idle_timeout)),
        ("max_connections", http.max_connections.to_string()),
        ("max_children", mux.max_children.to_string()),
        ("session_idle", time(mux.session_idle)),
        ("start_timeout", time(mux.start_timeout)),
        ("max_pending", mux.max_pending.to_string()),
        ("max_sessions", format!("{}; where clients speak lines of JSON, {}", mux.max_sessions, lines.max_sessions)),
    ] {
        let key = keys::in_file(keys::proxy(&definition), id).unwrap();
        assert_eq!(key.default(), Some(default), "--help and {DOCUMENT} say of {id} what the library does not do");
    }
}
