//! Who wins where several sources say something of the same key, and what the whole then asks for.
//!
//! A flag wins over the environment, that over the server's table of the file, that over what stands above the
//! tables. Lists are replaced, not joined. A source that names a server and loses it to a stronger one loses
//! what is that server's own with it: its token must not reach another.

use std::{ffi::OsString, path::Path};

use clap::{ArgMatches, Command};

use super::{
    Given, Origin, Problem, Settings, Target, environment,
    file::{File, PATH, PATH_OF_ONE, Server},
    keys::{self, Kind},
};
use crate::cli::{
    advice,
    args::{
        self, frame_limits,
        listen::ListenAddr,
        scope::{self, Link, Whose, whose},
        server::ServerAddr,
        upstream::parse_url,
    },
    exit::{CONFIGURATION, Failure, USAGE, flattened},
};

/// The command line, to which more can be added.
#[derive(Debug)]
pub(super) struct Line<'a> {
    typed: &'a [OsString],
    /// How many words name what is asked for: two for `config show`.
    depth: usize,
    flags: Vec<Given>,
    /// What the parser made of it.
    matches: &'a ArgMatches,
}

impl<'a> Line<'a> {
    pub(super) fn new(typed: &'a [OsString], depth: usize, flags: Vec<Given>, matches: &'a ArgMatches) -> Self {
        Self { typed, depth, flags, matches }
    }

    /// The arguments with all of these, weakest first, among them.
    fn target(&self, name: Option<&str>, layers: &[&[Given]]) -> Result<Target, Failure> {
        let given = merged(layers.iter().copied().chain([&self.flags[..]]));
        let cannot = |error: &clap::Error| {
            let what = flattened(error);
            Failure::new(CONFIGURATION, format!("file, environment and command line do not go together: {what}"))
        };
        let matches = self.parse(&given).map_err(|error| cannot(&error))?;
        let target = Target::new(name.map(str::to_owned), matches, given).map_err(|error| cannot(&error))?;
        judge_target(&target, self.typed)?;
        Ok(target)
    }

    fn parse(&self, given: &[Given]) -> Result<ArgMatches, clap::Error> {
        if given.iter().all(|given| given.origin == Origin::Flag) {
            return Ok(self.matches.clone());
        }
        let definition = args::definition();
        let (flags, words) = arguments(keys::proxy(&definition), given);
        let (head, tail) = self.typed.split_at(self.typed.len().min(self.depth + 1));
        let ends = usize::from(tail.last().is_some_and(|last| last == "--"));
        let words = words.into_iter().skip(ends);
        let typed = head.iter().cloned().chain(flags).chain(tail.iter().cloned()).chain(words);
        let mut matches = definition.try_get_matches_from(typed)?;
        for _ in 0..self.depth {
            if let Some((_, below)) = matches.remove_subcommand() {
                matches = below;
            }
        }
        Ok(matches)
    }
}

/// What the sources ask for together.
pub(super) fn settle(line: &Line<'_>, file: File, environment: Vec<Given>) -> Result<Settings, Failure> {
    let wanted = environment::server(line.matches);
    let is_named = names_server(&line.flags) || names_server(&environment);
    let servers = chosen(file.servers, wanted.as_deref(), is_named)?;
    let whole = line.target(None, &[&file.top, &environment])?;
    let is_http = matches!(whole.args.listen.listen, Some(ListenAddr::Http(_) | ListenAddr::HttpUnix(_)));
    let settings = match &servers[..] {
        [] => Settings { whole, servers: Vec::new() },
        servers if is_http => {
            refuse_for_many(servers.len(), &whole)?;
            let target = |server: &Server| line.target(Some(&server.name), &[&file.top, &server.given, &environment]);
            let servers = servers.iter().map(target).collect::<Result<_, _>>()?;
            Settings { whole, servers }
        }
        [server] => {
            let whole = line.target(Some(&server.name), &[&file.top, &server.given, &environment])?;
            Settings { whole, servers: Vec::new() }
        }
        several => {
            let names: Vec<&str> = several.iter().map(|server| server.name.as_str()).collect();
            let line = format!(
                "the file has the servers {}: choose one with --server NAME, or serve all with --listen IP:PORT",
                names.join(", ")
            );
            return Err(Failure::new(USAGE, line));
        }
    };
    refuse_what_lacks_its_link(&settings)?;
    Ok(settings)
}

/// What is wrong with a file by itself; or how many servers it has.
pub(super) fn check(path: &Path, file: File) -> Result<String, Vec<Problem>> {
    let said = |failure: Failure| vec![Problem::of_file(path, failure.line().to_owned())];
    let typed = ["shadowcat".into(), "proxy".into()];
    let empty = args::definition().try_get_matches_from(&typed);
    let empty = empty.map_err(|error| said(advice::usage(&error, &typed)))?;
    let Some(proxy) = empty.subcommand_matches("proxy") else { return Ok(String::new()) };
    let line = Line::new(&typed, 1, Vec::new(), proxy);
    let whole = line.target(None, &[&file.top]).map_err(said)?;
    let server = |server: &Server| line.target(Some(&server.name), &[&file.top, &server.given]);
    let servers: Vec<Target> = file.servers.iter().map(server).collect::<Result<_, _>>().map_err(said)?;
    let listens = whole.args.listen.listen.is_some();
    let said_count = match servers.len() {
        0 if names_server(&whole.given) => "1 server".to_owned(),
        0 => "no server, so it is for a command line that names one".to_owned(),
        1 => "1 server".to_owned(),
        count => format!("{count} servers"),
    };
    // How clients connect, a flag may still say.
    if listens {
        refuse_what_lacks_its_link(&Settings { whole, servers }).map_err(said)?;
    }
    Ok(said_count)
}

/// The servers of the file that are asked for.
fn chosen(mut servers: Vec<Server>, wanted: Option<&str>, is_named: bool) -> Result<Vec<Server>, Failure> {
    let Some(wanted) = wanted else { return Ok(if is_named { Vec::new() } else { servers }) };
    let refused = |line: String| Err(Failure::new(USAGE, line));
    if is_named {
        return refused(format!("--server {wanted} is for a server of the file, and another one is named"));
    }
    let names: Vec<String> = servers.iter().map(|server| server.name.clone()).collect();
    servers.retain(|server| server.name == wanted);
    match (servers.is_empty(), names.is_empty()) {
        (false, _) => Ok(servers),
        (true, true) => refused(format!("--server {wanted} needs --config FILE, with a table [servers.{wanted}]")),
        (true, false) => refused(format!("the file has no [servers.{wanted}]; it has {}", names.join(", "))),
    }
}

/// The strongest word on each key. Weakest first.
fn merged<'a>(layers: impl DoubleEndedIterator<Item = &'a [Given]>) -> Vec<Given> {
    let (mut merged, mut is_named): (Vec<Given>, bool) = (Vec::new(), false);
    for layer in layers.rev() {
        let names = names_server(layer);
        for given in layer {
            let is_known = merged.iter().any(|known| known.id == given.id);
            let is_of_another = names && is_named && whose(&given.id) == Whose::Own;
            if !is_known && !is_of_another {
                merged.push(given.clone());
            }
        }
        is_named |= names;
    }
    merged
}

/// What to put among the arguments, and what behind all of them.
fn arguments(shape: &Command, given: &[Given]) -> (Vec<OsString>, Vec<OsString>) {
    let (mut flags, mut words) = (Vec::new(), Vec::new());
    for given in given {
        let kind = keys::all(shape).find(|key| key.id == given.id).map_or(Kind::One, |key| key.kind);
        let (more_flags, more_words) = keys::arguments(kind, given);
        flags.extend(more_flags);
        words.extend(more_words);
    }
    (flags, words)
}

fn names_server(given: &[Given]) -> bool {
    given.iter().any(|given| given.id == keys::URL || given.id == "command")
}

/// What the parser leaves to whoever uses the value.
fn judge_target(target: &Target, typed: &[OsString]) -> Result<(), Failure> {
    let wrong = |id: &str, what: String| match target.origin(id) {
        Some(Origin::Flag) | None => Failure::new(USAGE, what),
        Some(origin) => Problem::new(origin, id, what).into_failure(),
    };
    if let Some(ServerAddr::Url(url)) = &target.args.url {
        let is_typed = target.origin(keys::URL) == Some(&Origin::Flag);
        parse_url(url).map_err(|what| {
            let meant = if is_typed { advice::meant_command(typed) } else { None };
            wrong(keys::URL, meant.map_or(what, |meant| format!("'{url}' is no URL; {meant}")))
        })?;
    }
    if let Err(failure) = frame_limits(target.args.max_frame_len) {
        return Err(wrong("max_frame_len", failure.line().to_owned()));
    }
    for (one, other) in scope::TOGETHER {
        if target.matches.contains_id(one) && !target.matches.contains_id(other) {
            let [one_flag, other_flag] = [one, other].map(|id| id.replace('_', "-"));
            return Err(wrong(one, format!("--{one_flag} needs --{other_flag}")));
        }
    }
    Ok(())
}

/// Refuses what is for one server where there are several.
fn refuse_for_many(servers: usize, whole: &Target) -> Result<(), Failure> {
    for Given { id, origin, .. } in &whole.given {
        let what = if id == PATH {
            PATH_OF_ONE
        } else if servers > 1 && whose(id) == Whose::Own {
            "is one server's own, and there are several: put it into its table, [servers.NAME]"
        } else {
            continue;
        };
        return Err(refusal(id, origin, what));
    }
    Ok(())
}

/// Refuses the first key that applies to none of the servers it was said of. What the environment says may be meant
/// for another command.
fn refuse_what_lacks_its_link(settings: &Settings) -> Result<(), Failure> {
    let targets = if settings.servers.is_empty() { std::slice::from_ref(&settings.whole) } else { &settings.servers };
    let links: Vec<(Link, &Target)> =
        targets.iter().filter_map(|target| Some((Link::asked_for(&target.matches)?, target))).collect();
    for (_, target) in &links {
        for given in &target.given {
            let sharing = links.iter().filter(|(_, other)| other.given.contains(given));
            let mut lacking = sharing.map(|(link, _)| link.lacks(&given.id));
            let Some(Some(what)) = lacking.next() else { continue };
            if lacking.all(|what| what.is_some()) && !matches!(given.origin, Origin::Environment(_)) {
                return Err(refusal(&given.id, &given.origin, &format!("is for {what}")));
            }
        }
    }
    Ok(())
}

fn refusal(id: &str, origin: &Origin, what: &str) -> Failure {
    match origin {
        Origin::Flag => {
            let flag = id.replace('_', "-");
            Failure::new(USAGE, format!("--{flag} {what}; see 'shadowcat proxy --help'"))
        }
        origin => Problem::new(origin, id, what).into_failure(),
    }
}
