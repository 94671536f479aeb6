//! What to do next, for whoever provoked an error: the sentence behind what the system or the parser says.
//!
//! Whoever reads it sees us for the first time, as a rule. So it names the command to type, or what to look at, and
//! says nothing where it would be guessing.

use std::{ffi::OsString, io};

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

#[cfg(unix)]
use shadowcat::transport::listen::Address;

use super::{
    args::{self, upstream::lacks_scheme},
    exit::{CONFIGURATION, Failure, USAGE, flattened},
};

/// What the parser did not understand, in one line: with the command that was meant, or whose help to read.
pub(crate) fn usage(error: &clap::Error, typed: &[OsString]) -> Failure {
    let mut definition = args::definition();
    definition.build();
    let place = Place::of(typed, &definition);
    let what = flattened(error);
    let is_nameless = place.names.is_empty();
    let line = if let Some(line) = meant_proxy(error, typed, &definition).filter(|_| is_nameless) {
        format!("{what}; a server goes behind 'proxy': {line}")
    } else if let Some(line) = meant(error, &place) {
        format!("{what}; {}", behind_dashes(&line))
    } else {
        format!("{what}; see '{} --help'", place.names())
    };
    Failure::new(USAGE, line)
}

/// If what was typed as a URL is none, and looks like a program: the line that was meant.
#[cfg(unix)]
pub(crate) fn meant_command(typed: &[OsString]) -> Option<String> {
    let definition = args::definition();
    Place::of(typed, &definition).with_dashes().map(|line| behind_dashes(&line))
}

/// Why a server over HTTP cannot be reached with these arguments, and which of them says so.
pub(crate) fn unreachable(error: &io::Error) -> Failure {
    let line = match error.kind() {
        io::ErrorKind::InvalidData => format!("--ca {error}; want a file of certificates in PEM"),
        io::ErrorKind::Unsupported => {
            format!("{error}; unset the variable (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY), or name the server in NO_PROXY")
        }
        io::ErrorKind::NotFound => {
            format!("{error}; install the system's ca-certificates, or name the server's with --ca FILE")
        }
        _ => format!("the server cannot be reached like this: {error}"),
    };
    Failure::new(CONFIGURATION, line)
}

/// Why nobody can be listened to there. `flag` is who named the address.
#[cfg(unix)]
pub(crate) fn listening(flag: &str, address: &Address, error: &io::Error) -> String {
    let next = match (address, error.kind()) {
        (Address::Tcp(_), io::ErrorKind::AddrInUse) => {
            "; another program has that port: take another one, or 0 for any that is free"
        }
        (Address::Tcp(_), io::ErrorKind::AddrNotAvailable) => {
            "; this machine has no such address: 127.0.0.1 is for this machine alone, 0.0.0.0 for all that can reach it"
        }
        (Address::Tcp(_), io::ErrorKind::PermissionDenied) => "; low ports are root's: take one from 1024 on",
        (Address::Unix(_), io::ErrorKind::NotFound) => "; the folder is missing: make it first",
        (Address::Unix(_), io::ErrorKind::PermissionDenied) => "; you may not write in that folder: take another one",
        (Address::Unix(_), io::ErrorKind::AlreadyExists) => "; take another path, or move the file away",
        (Address::Unix(_), io::ErrorKind::AddrInUse) => "; take another path, or end that process",
        _ => "",
    };
    format!("cannot listen for {flag} at {address}: {error}{next}")
}

/// The command that was typed without `--`, if that is what the parser stumbled over.
fn meant(error: &clap::Error, place: &Place<'_>) -> Option<String> {
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let Some(ContextValue::String(stumbled)) = error.get(ContextKind::InvalidArg) else { return None };
            // A flag that is wrong in front of the program is no part of its command.
            let at = place.rest.iter().position(|word| word.to_str().is_some_and(|word| word.starts_with(stumbled)))?;
            (place.positional()? <= at).then(|| place.with_dashes())?
        }
        ErrorKind::ArgumentConflict => place.with_dashes(),
        _ => None,
    }
}

/// The line with `proxy` in it, if a server or a flag of that command was typed where the name of a command is due.
fn meant_proxy(error: &clap::Error, typed: &[OsString], definition: &Command) -> Option<String> {
    let (program, rest) = typed.split_first()?;
    let typed: Vec<OsString> = [program.clone(), "proxy".into()].into_iter().chain(rest.iter().cloned()).collect();
    let place = Place::of(&typed, definition);
    let is_meant = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::InvalidSubcommand, _) => error.get(ContextKind::SuggestedSubcommand).is_none(),
        (ErrorKind::UnknownArgument, Some(ContextValue::String(flag))) => {
            let is_first = rest.first().and_then(|word| word.to_str()).is_some_and(|word| word.starts_with(flag));
            is_first && place.command.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--"))
        }
        _ => false,
    };
    // Where there is no proxy, there is none to mean.
    if !is_meant || place.names.is_empty() {
        return None;
    }
    let words = rest.iter().map(|word| quoted(&word.to_string_lossy()));
    let as_typed = || [place.names()].into_iter().chain(words).collect::<Vec<_>>().join(" ");
    Some(place.with_dashes().unwrap_or_else(as_typed))
}

fn behind_dashes(line: &str) -> String {
    format!("a command goes behind --: {line}")
}

/// What was typed: the names of a command, and what stands behind them.
struct Place<'a> {
    names: Vec<&'a str>,
    command: &'a Command,
    rest: &'a [OsString],
}

impl<'a> Place<'a> {
    fn of(typed: &'a [OsString], definition: &'a Command) -> Self {
        let mut place = Self { names: Vec::new(), command: definition, rest: typed.get(1..).unwrap_or_default() };
        while let Some((word, rest)) = place.rest.split_first()
            && let Some(below) = word.to_str().and_then(|word| place.command.find_subcommand(word))
        {
            place.names.push(below.get_name());
            (place.command, place.rest) = (below, rest);
        }
        place
    }

    /// As it is called.
    fn names(&self) -> String {
        ["shadowcat"].iter().chain(&self.names).copied().collect::<Vec<_>>().join(" ")
    }

    /// Where the first word stands that is neither a flag nor a flag's value.
    fn positional(&self) -> Option<usize> {
        let mut words = self.rest.iter().enumerate();
        while let Some((at, word)) = words.next() {
            match word.to_str() {
                Some("--") => return None,
                Some(flag) if flag.starts_with('-') => {
                    let name = flag.trim_start_matches('-');
                    let known = self.command.get_arguments().find(|arg| arg.get_long() == Some(name));
                    let takes_next =
                        known.is_some_and(|arg| arg.get_action().takes_values() && !arg.is_require_equals_set());
                    if takes_next {
                        words.next();
                    }
                }
                _ => return Some(at),
            }
        }
        None
    }

    /// The line with `--` in front of the program, if it is a line about a server, and there is one.
    fn with_dashes(&self) -> Option<String> {
        if !self.command.get_arguments().any(|arg| arg.is_last_set()) {
            return None;
        }
        let at = self.positional()?;
        let (flags, words) = self.rest.split_at(at);
        let program = words.first()?.to_str()?;
        let is_place = program.contains("://") || program.starts_with("unix:") || program.starts_with("tcp:");
        if is_place || lacks_scheme(program) {
            return None;
        }
        let words = words.iter().filter(|word| *word != "--").map(|word| word.to_string_lossy());
        // A program and its arguments as one word: what a shell would have taken apart.
        let words = words.enumerate().map(|(at, word)| if at == 0 { word.into_owned() } else { quoted(&word) });
        let flags = flags.iter().map(|word| quoted(&word.to_string_lossy()));
        let line: Vec<String> = [self.names()].into_iter().chain(flags).chain(["--".to_owned()]).chain(words).collect();
        Some(line.join(" "))
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_=+./:@,%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &[&str]) -> String {
        let typed: Vec<OsString> = ["shadowcat"].iter().chain(line).map(OsString::from).collect();
        usage(&args::definition().try_get_matches_from(&typed).unwrap_err(), &typed).line().to_owned()
    }

    #[test]
    #[cfg(unix)]
    fn command_without_dashes_is_given_them() {
        for (typed, meant) in [
            (&["proxy", "npx", "-y", "foo"][..], "shadowcat proxy -- npx -y foo"),
            (
                &["proxy", "--listen", "80", "--verify", "npx", "a b", "x"],
                "shadowcat proxy --listen 80 --verify -- npx 'a b' x",
            ),
            (&["proxy", "npx", "--", "-y", "foo"], "shadowcat proxy -- npx -y foo"),
            (&["config", "show", "python", "-m", "x"], "shadowcat config show -- python -m x"),
        ] {
            let said = said(typed);
            assert!(said.ends_with(&format!("; a command goes behind --: {meant}")), "{said}");
        }
        let typed: Vec<OsString> = ["shadowcat", "proxy", "npx -y foo"].map(OsString::from).into();
        assert_eq!(meant_command(&typed).as_deref(), Some("a command goes behind --: shadowcat proxy -- npx -y foo"));
    }

    #[test]
    #[cfg(unix)]
    fn server_without_proxy_is_given_it() {
        for (typed, meant) in [
            (&["npx", "-y", "foo"][..], "shadowcat proxy -- npx -y foo"),
            (&["--", "npx", "foo"], "shadowcat proxy -- npx foo"),
            (&["https://a.example/mcp"], "shadowcat proxy https://a.example/mcp"),
            (&["--listen", "80", "--", "cat"], "shadowcat proxy --listen 80 -- cat"),
        ] {
            let said = said(typed);
            assert!(said.ends_with(&format!("; a server goes behind 'proxy': {meant}")), "{said}");
        }
        for other in [&["proxi", "npx"][..], &["config", "npx"], &["help", "npx"]] {
            assert!(said(other).contains("--help'") && !said(other).contains("behind"), "{}", said(other));
        }
    }

    #[test]
    fn whose_help_to_read_is_said() {
        for (typed, help) in [
            (&["--what"][..], "'shadowcat --help'"),
            (&["pipe", "--what"], "'shadowcat pipe --help'"),
            (&["doctor", "--what", "http://x"], "'shadowcat doctor --help'"),
            #[cfg(unix)]
            (&["proxy", "--what", "--", "cat"], "'shadowcat proxy --help'"),
            #[cfg(unix)]
            (&["proxy", "--what", "npx", "foo"], "'shadowcat proxy --help'"),
            #[cfg(unix)]
            (&["proxy", "http://127.0.0.1/", "foo"], "'shadowcat proxy --help'"),
            #[cfg(unix)]
            (&["proxy", "http://127.0.0.1/", "--", "cat"], "'shadowcat proxy --help'"),
            #[cfg(unix)]
            (&["config", "check", "--what"], "'shadowcat config check --help'"),
        ] {
            let said = said(typed);
            assert!(said.ends_with(&format!("; see {help}")), "{said}");
        }
    }
}
