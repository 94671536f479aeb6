//! The settings as a file has them, with the origin of each value behind it. What has no meaning for the link that is
//! asked for is left out.
//!
//! What may be secret is not shown: values of headers and of environment variables, and the query of a URL. Tokens
//! are never among the settings, only names of variables that hold them.

use std::fmt::Write as _;

use clap::Command;

use super::{
    Origin, Settings, Target,
    file::PATH,
    keys::{self, Key, Kind},
};
use crate::cli::args::scope::{Link, Whose, whose};

/// All of it.
pub(super) fn rendered(settings: &Settings, shape: &Command) -> String {
    let mut text = String::new();
    let has_tables = !settings.servers.is_empty();
    if let Some(name) = &settings.whole.name {
        let _ = writeln!(text, "# the server {name} of the file");
    }
    let targets = if has_tables { &settings.servers } else { std::slice::from_ref(&settings.whole) };
    let links: Vec<Link> = targets.iter().filter_map(|target| Link::asked_for(&target.matches)).collect();
    let has_meaning = |key: &Key<'_>| links.is_empty() || links.iter().any(|link| link.lacks(key.id).is_none());
    for key in keys::all(shape).filter(has_meaning) {
        match whose(key.id) {
            Whose::CommandLine => {}
            Whose::Own if has_tables => {}
            _ if has_tables && key.id == PATH => {}
            _ => write_key(&mut text, &key, &settings.whole),
        }
    }
    for target in &settings.servers {
        let _ = writeln!(text, "\n[servers.{}]", bare_or_quoted(target.name.as_deref().unwrap_or_default()));
        // What the table does not say is as above.
        for key in keys::all(shape).filter(|key| target.origin(key.id) != settings.whole.origin(key.id)) {
            write_key(&mut text, &key, target);
        }
    }
    text
}

fn write_key(text: &mut String, key: &Key<'_>, target: &Target) {
    let origin = target.origin(key.id);
    let line = match (origin, key.default()) {
        (Some(_), _) => format!("{} = {}", key.id, value(key, target)),
        // Words about several cases are no value.
        (None, Some(default)) if default.contains(' ') => format!("# {}: {default}", key.id),
        (None, Some(default)) => format!("{} = {}", key.id, plain(key, &default)),
        (None, None) => format!("# {}", key.id),
    };
    let origin = match origin {
        Some(Origin::File(path, line)) => format!("file {}:{line}", path.display()),
        Some(Origin::Environment(name)) => format!("environment {name}"),
        Some(Origin::Flag) => "flag".to_owned(),
        None => "default".to_owned(),
    };
    let _ = writeln!(text, "{line:<47} # {origin}");
}

fn value(key: &Key<'_>, target: &Target) -> String {
    let raw = target.matches.get_raw(key.id).into_iter().flatten();
    let values: Vec<String> = raw.map(|raw| raw.to_string_lossy().into_owned()).collect();
    match key.kind {
        // A flag without a value is a switch that is on.
        Kind::Switch => values.first().map_or_else(|| "true".to_owned(), |value| plain(key, value)),
        Kind::One => values.first().map(|value| plain(key, &shown(key, value))).unwrap_or_default(),
        Kind::Pairs(between) => {
            let name = |value: &String| value.split(between.trim()).next().unwrap_or_default().to_owned();
            let pairs: Vec<String> =
                values.iter().map(|value| format!("{} = {}", bare_or_quoted(&name(value)), quoted(HIDDEN))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Kind::Many | Kind::Words => {
            let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
            format!("[{}]", values.join(", "))
        }
    }
}

/// A URL without its query.
fn shown(key: &Key<'_>, value: &str) -> String {
    match value.split_once('?') {
        Some((url, _)) if key.id == keys::URL => format!("{url}?{HIDDEN}"),
        _ => value.to_owned(),
    }
}

fn plain(key: &Key<'_>, value: &str) -> String {
    let is_number = value.parse::<i64>().is_ok_and(|number| number.to_string() == value);
    if key.kind == Kind::Switch || is_number { value.to_owned() } else { quoted(value) }
}

fn bare_or_quoted(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// In place of what may be secret.
const HIDDEN: &str = "…";
