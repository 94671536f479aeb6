//! What the environment says: a variable for each flag, `SHADOWCAT_MAX_PENDING` for `--max-pending`.
//!
//! An empty variable is as good as none. A list is one value, or a TOML array of several.

use std::{env, ffi::OsString, path::PathBuf};

use clap::{ArgMatches, Command};

use super::{
    Given, Origin, file,
    keys::{self, Key, Kind, PREFIX},
};
use crate::cli::{
    args::{
        self,
        scope::{Whose, whose},
    },
    exit::Failure,
};

/// Everything that the environment sets, judged.
pub(super) fn read(shape: &Command) -> Result<Vec<Given>, Failure> {
    let mut all = Vec::new();
    for key in keys::all(shape).filter(|key| whose(key.id) != Whose::CommandLine) {
        let name = key.variable();
        let Some(value) = env::var_os(&name).filter(|value| !value.is_empty()) else { continue };
        let origin = Origin::Environment(name);
        let given = Given { id: key.id.to_owned(), values: values(&key, value, &origin)?, origin };
        keys::judge(&key, &given).map_err(super::Problem::into_failure)?;
        all.push(given);
    }
    Ok(all)
}

/// The file that flags or the environment name.
pub(super) fn config_file(proxy: &ArgMatches) -> Option<PathBuf> {
    let typed = proxy.get_one::<PathBuf>("config").cloned();
    typed.or_else(|| env::var_os(FILE).filter(|path| !path.is_empty()).map(PathBuf::from))
}

/// Which of the file's servers flags or the environment name.
pub(super) fn server(proxy: &ArgMatches) -> Option<String> {
    let typed = proxy.get_one::<String>("server").cloned();
    typed.or_else(|| env::var(SERVER).ok().filter(|name| !name.is_empty()))
}

/// The variables that say something to us. They are not a server's business: one that is a proxy too would take them for its
/// own settings.
pub(crate) fn ours() -> Vec<OsString> {
    let is_prefixed = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with(PREFIX));
    let mut set: Vec<OsString> = env::vars_os().map(|(name, _)| name).filter(is_prefixed).collect();
    // Mostly there are none, and the definition need not be made again.
    if !set.is_empty() {
        let definition = args::definition();
        let known: Vec<OsString> = keys::all(keys::proxy(&definition)).map(|key| key.variable().into()).collect();
        set.retain(|name| known.contains(name));
    }
    set
}

fn values(key: &Key<'_>, value: OsString, origin: &Origin) -> Result<Vec<OsString>, Failure> {
    let is_list = matches!(key.kind, Kind::Many | Kind::Pairs(_) | Kind::Words);
    match value.to_str().filter(|text| is_list && text.trim_start().starts_with('[')) {
        Some(text) => {
            file::array(text, key.kind).map_err(|what| super::Problem::new(origin, key.id, what).into_failure())
        }
        None => Ok(vec![value]),
    }
}

/// Where the file is, if no flag says it.
const FILE: &str = "SHADOWCAT_CONFIG";
/// Which of its servers is wanted, if no flag says it.
const SERVER: &str = "SHADOWCAT_SERVER";

#[cfg(test)]
mod tests {
    use shadowcat::supervise::keeper::MARK;

    use super::*;

    #[test]
    fn no_setting_is_read_from_what_marks_a_child() {
        let definition = args::definition();
        let names: Vec<String> = keys::all(keys::proxy(&definition)).map(|key| key.variable()).collect();
        assert!(names.iter().any(|name| name == "SHADOWCAT_CHILD") && names.iter().any(|name| name == FILE));
        assert!(!names.iter().any(|name| name == MARK), "{MARK} is in every child's environment");
    }
}
