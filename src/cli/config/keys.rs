//! The keys of a file and the names of the environment, as they follow from the flags: `--max-frame-len` is
//! `max_frame_len` in a file and `SHADOWCAT_MAX_FRAME_LEN` in the environment.

use std::{any::TypeId, ffi::OsString};

use clap::{Arg, ArgAction, Command, error::ErrorKind};

use super::{Given, Origin, Problem};
use crate::cli::{
    args::{
        self,
        scope::{Whose, whose},
    },
    exit::flattened,
};

/// A flag, or one of the two arguments that name a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) arg: &'a Arg,
    pub(super) id: &'a str,
    pub(super) kind: Kind,
}

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// True or false.
    Switch,
    One,
    Many,
    /// Names and values, which a flag has with this between them.
    Pairs(&'static str),
    /// A command and its arguments.
    Words,
}

impl<'a> Key<'a> {
    fn new(arg: &'a Arg) -> Self {
        let value_name = arg.get_value_names().and_then(<[_]>::first).map_or("", |name| name.as_str());
        let kind = match (arg.get_action(), value_name) {
            _ if arg.is_last_set() => Kind::Words,
            _ if arg.get_value_parser().type_id() == TypeId::of::<bool>() => Kind::Switch,
            (ArgAction::Append, "KEY=VALUE") => Kind::Pairs("="),
            (ArgAction::Append, "NAME: VALUE") => Kind::Pairs(": "),
            (ArgAction::Append, _) => Kind::Many,
            _ => Kind::One,
        };
        Self { arg, id: arg.get_id().as_str(), kind }
    }

    /// Its name in the environment.
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}{}", self.id.to_ascii_uppercase())
    }

    /// The default, as help has it: from the definition, or in the words of the text.
    pub(super) fn default(&self) -> Option<String> {
        if self.kind == Kind::Switch {
            return Some("false".to_owned());
        }
        if let [value] = self.arg.get_default_values() {
            return Some(value.to_string_lossy().into_owned());
        }
        let help = self.arg.get_help()?.to_string();
        let (_, told) = help.split_once("[default: ")?;
        told.split_once(']').map(|(told, _)| told.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// What is allowed, for whoever wrote something else.
    fn wanted(&self) -> Option<&'static str> {
        match self.arg.get_value_names().and_then(<[_]>::first)?.as_str() {
            "DURATION" => Some("want a duration such as \"500ms\", \"30s\" or \"5m\""),
            "SIZE" => Some("want a size such as \"64KiB\" or \"64MiB\""),
            "COUNT" => Some("want a number"),
            "KEY=VALUE" => Some("want { KEY = \"VALUE\" }"),
            "NAME: VALUE" => Some("want { \"NAME\" = \"VALUE\" }"),
            _ => None,
        }
    }
}

/// The part of the definition that settings are of.
pub(super) fn proxy(definition: &Command) -> &Command {
    definition.find_subcommand("proxy").unwrap_or(definition)
}

/// Everything that can be set, in the order of `--help`.
pub(super) fn all(shape: &Command) -> impl Iterator<Item = Key<'_>> {
    shape.get_arguments().filter(|arg| is_argument(arg.get_id().as_str())).map(Key::new)
}

/// Whether an id is not that of a group of arguments, or of `--help`: those have small letters only.
pub(super) fn is_argument(id: &str) -> bool {
    id != "help" && id != "version" && !id.starts_with(|c: char| c.is_ascii_uppercase())
}

/// The key of a file with this name, or which name was meant.
pub(super) fn in_file<'a>(shape: &'a Command, name: &str) -> Result<Key<'a>, String> {
    if let Some(key) = all(shape).find(|key| key.id == name) {
        return match whose(name) {
            Whose::CommandLine => {
                Err("belongs on the command line or into the environment, not into a file".to_owned())
            }
            _ => Ok(key),
        };
    }
    let flags = all(shape).filter(|key| whose(key.id) != Whose::CommandLine);
    let names = flags.map(|key| key.id).chain(["servers"]);
    let scored = names.map(|known| (strsim::jaro_winkler(name, known), known));
    let nearest = scored.max_by(|one, other| one.0.total_cmp(&other.0)).filter(|(score, _)| *score > SIMILAR);
    // Of a letter or two, nobody can tell what was meant.
    let nearest = nearest.filter(|_| name.len() > 2);
    Err(match nearest {
        Some((_, known)) => format!("unknown key; did you mean '{known}'?"),
        None => "unknown key; 'shadowcat proxy --help' has the flags, and --max-pending is max_pending".to_owned(),
    })
}

/// Whether the flag's own parser takes the value. Whether flags go together is for later.
pub(super) fn judge(key: &Key<'_>, given: &Given) -> Result<(), Problem> {
    let mut typed: Vec<OsString> = vec!["shadowcat".into(), "proxy".into()];
    let (flags, words) = arguments(key.kind, given);
    typed.extend(flags);
    typed.extend(words);
    let error = match args::definition().try_get_matches_from(typed) {
        Err(error) if !matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict) => {
            error
        }
        _ => return Ok(()),
    };
    let mut what = flattened(&error).replace(&format!(" for '{}'", key.arg), "");
    if let Some(wanted) = key.wanted() {
        what = format!("{what}; {wanted}");
    }
    Err(Problem::new(&given.origin, key.id, what))
}

/// What to put among the arguments, and what behind all of them.
pub(super) fn arguments(kind: Kind, given: &Given) -> (Vec<OsString>, Vec<OsString>) {
    if given.origin == Origin::Flag {
        return (Vec::new(), Vec::new());
    }
    match kind {
        Kind::Words => (Vec::new(), [OsString::from("--")].into_iter().chain(given.values.iter().cloned()).collect()),
        _ if given.id == URL => (given.values.clone(), Vec::new()),
        _ => {
            let flag = |value: &OsString| {
                let mut flag = OsString::from(format!("--{}=", given.id.replace('_', "-")));
                flag.push(value);
                flag
            };
            (given.values.iter().map(flag).collect(), Vec::new())
        }
    }
}

pub(super) const PREFIX: &str = "SHADOWCAT_";
/// The argument that is no flag, beside the command.
pub(super) const URL: &str = "url";
/// How similar a name is to one that was meant, at least; as clap has it for flags.
const SIMILAR: f64 = 0.7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_names_every_flag() {
        let definition = args::definition();
        for key in all(proxy(&definition)).filter(|key| !key.arg.is_positional()) {
            let long = key.arg.get_long().expect("every flag has a long form");
            assert_eq!(long.replace('-', "_"), key.id, "--{long} needs the id {}", long.replace('-', "_"));
        }
    }

    #[test]
    fn kinds_follow_from_the_definition() {
        let definition = args::definition();
        for (id, kind) in [
            ("env", Kind::Pairs("=")),
            ("header", Kind::Pairs(": ")),
            ("legacy_sse", Kind::Switch),
            ("allow_host", Kind::Many),
            ("command", Kind::Words),
            ("url", Kind::One),
            ("max_pending", Kind::One),
        ] {
            assert_eq!(in_file(proxy(&definition), id).unwrap().kind, kind, "{id}");
        }
    }

    #[test]
    fn mistyped_key_is_told_from_a_strange_one() {
        let definition = args::definition();
        let said = |name: &str| in_file(proxy(&definition), name).unwrap_err();
        assert!(said("max_frame_lem").contains("'max_frame_len'"));
        assert!(said("server").contains("'servers'") || said("server").contains("command line"));
        assert!(!said("xyzzy").contains("mean") && !said("x").contains("mean"));
        assert!(said("config").contains("command line"));
    }
}
