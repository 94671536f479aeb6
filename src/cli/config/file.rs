//! A file in TOML: keys above all tables, and a table for each server, `[servers.NAME]`. Every key is known, stands
//! where it may, and has a value that its flag would take; everything that is not so is told, with its line.

use std::{ffi::OsString, fs, io::Read as _, path::Path};

use clap::Command;
use toml::de::{DeTable, DeValue};

use super::{
    Given, Origin, Problem,
    keys::{self, Key, Kind},
};
use crate::cli::args::scope::{Whose, whose};

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct File {
    /// Above all tables.
    pub(super) top: Vec<Given>,
    /// In the order of the file.
    pub(super) servers: Vec<Server>,
}

/// A table of one server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) origin: Origin,
    pub(super) given: Vec<Given>,
}

/// What is needed to read a table, and what is wrong so far.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    shape: &'a Command,
    problems: Vec<Problem>,
}

impl File {
    /// Reads and judges the file. Returns all that is wrong with it.
    pub(super) fn read(path: &Path, shape: &Command) -> Result<Self, Vec<Problem>> {
        let cannot = |what: String| vec![Problem::of_file(path, what)];
        let mut text = String::new();
        let opened = fs::File::open(path);
        let read = opened.and_then(|file| file.take(MAX_FILE_LEN + 1).read_to_string(&mut text));
        let len = read.map_err(|error| cannot(format!("cannot be read: {error}")))?;
        if len as u64 > MAX_FILE_LEN {
            return Err(cannot(format!("longer than the {MAX_FILE_LEN} bytes that a configuration may have")));
        }
        Reader { path, text: &text, shape, problems: Vec::new() }.file()
    }
}

impl Reader<'_> {
    fn file(mut self) -> Result<File, Vec<Problem>> {
        let text = self.text;
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let origin = self.at(error.span().map_or(0, |span| span.start));
            let what = error.message().lines().collect::<Vec<_>>().join(", ");
            self.problems.push(Problem::new(&origin, "", format!("no TOML: {what}")));
        }
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let document = document.into_inner();
        let mut file = File::default();
        match document.get("servers").map(|servers| (servers.span(), servers.get_ref())) {
            None => {}
            Some((_, DeValue::Table(servers))) => self.servers(servers, &mut file),
            Some((span, _)) => self.wrong(span.start, "servers", "want tables: [servers.NAME]"),
        }
        if let (Some(_), Some((name, _))) = (document.get("url"), document.get_key_value("command")) {
            self.wrong(name.span().start, "command", "a server is a command or a url, not both");
        }
        let place = if file.servers.is_empty() { Place::Only } else { Place::Top };
        file.top = self.table(&document, place);
        self.problems.sort_by_key(Problem::line);
        if self.problems.is_empty() { Ok(file) } else { Err(self.problems) }
    }

    fn servers(&mut self, servers: &DeTable<'_>, file: &mut File) {
        let mut starts = Vec::new();
        for (name, table) in servers {
            let (start, name) = (name.span().start, name.get_ref().as_ref());
            let key = format!("servers.{name}");
            let DeValue::Table(table) = table.get_ref() else {
                self.wrong(start, &key, "want a table: [servers.NAME]");
                continue;
            };
            if !is_name(name) {
                self.wrong(
                    start,
                    &key,
                    "want a name of letters, digits, '-', '_' and '.', beginning with a letter or digit",
                );
            }
            let given = self.table(table, Place::Server);
            if table.contains_key("url") == table.contains_key("command") {
                self.wrong(start, &key, "want either command = [\"PROGRAM\", \"ARG\"] or url = \"URL\"");
            }
            starts.push(start);
            file.servers.push(Server { name: name.to_owned(), origin: self.at(start), given });
        }
        // The parser has them by name; a reader of errors has them by line.
        file.servers.sort_by_key(|server| match &server.origin {
            Origin::File(_, line) => *line,
            _ => 0,
        });
    }

    fn table(&mut self, table: &DeTable<'_>, place: Place) -> Vec<Given> {
        let mut all = Vec::new();
        for (name, value) in table {
            let (start, name) = (name.span().start, name.get_ref().as_ref());
            if place != Place::Server && name == "servers" {
                continue;
            }
            match self.given(name, start, value.get_ref(), place) {
                Ok(given) => all.push(given),
                Err(problem) => self.problems.push(problem),
            }
        }
        all
    }

    fn given(&self, name: &str, start: usize, value: &DeValue<'_>, place: Place) -> Result<Given, Problem> {
        let origin = self.at(start);
        let wrong = |what: String| Problem::new(&origin, name, what);
        let key = keys::in_file(self.shape, name).map_err(wrong)?;
        match (place, whose(name)) {
            (Place::Server, Whose::Process) => {
                return Err(wrong("is for the whole process: put it above all tables".to_owned()));
            }
            (Place::Top, _) if name == PATH => return Err(wrong(PATH_OF_ONE.to_owned())),
            (Place::Top, Whose::Own) => {
                return Err(wrong("is one server's own: put it into its table, [servers.NAME]".to_owned()));
            }
            _ => {}
        }
        let values = values(&key, value).map_err(wrong)?;
        let given = Given { id: name.to_owned(), values, origin: origin.clone() };
        keys::judge(&key, &given)?;
        Ok(given)
    }

    fn wrong(&mut self, offset: usize, key: &str, what: &str) {
        let origin = self.at(offset);
        self.problems.push(Problem::new(&origin, key, what));
    }

    fn at(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        Origin::File(self.path.to_owned(), 1 + before.iter().filter(|&&byte| byte == b'\n').count())
    }
}

/// Which part of a file a key stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A file without tables.
    Only,
    /// Above the tables.
    Top,
    /// In the table of a server.
    Server,
}

/// The values of an array, as a variable of the environment has them.
pub(super) fn array(text: &str, kind: Kind) -> Result<Vec<OsString>, String> {
    let line = format!("x = {text}");
    let document = DeTable::parse(&line).map_err(|error| format!("no TOML array: {}", error.message()))?;
    match document.get_ref().get("x").map(toml::Spanned::get_ref) {
        Some(DeValue::Array(_)) if document.get_ref().len() > 1 => Err("want one array".to_owned()),
        Some(value) => list(value, kind),
        None => Err("want an array".to_owned()),
    }
}

fn values(key: &Key<'_>, value: &DeValue<'_>) -> Result<Vec<OsString>, String> {
    match key.kind {
        Kind::Switch => match value {
            DeValue::Boolean(is_on) => Ok(vec![is_on.to_string().into()]),
            _ => Err("want true or false".to_owned()),
        },
        Kind::One => scalar(value).map(|value| vec![value]),
        kind => list(value, kind),
    }
}

fn list(value: &DeValue<'_>, kind: Kind) -> Result<Vec<OsString>, String> {
    match (kind, value) {
        (Kind::Words, DeValue::Array(words)) if words.is_empty() => Err("want at least a program".to_owned()),
        (Kind::Words, DeValue::String(_)) => {
            Err("want an array, [\"PROGRAM\", \"ARG\"]: no shell takes it apart".to_owned())
        }
        (_, DeValue::Array(values)) => values.iter().map(|value| scalar(value.get_ref())).collect(),
        (Kind::Pairs(between), DeValue::Table(pairs)) => {
            let pair = |(name, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let name: &std::borrow::Cow<'_, str> = name.get_ref();
                let mut pair = OsString::from(format!("{name}{between}"));
                pair.push(scalar(value.get_ref())?);
                Ok(pair)
            };
            pairs.iter().map(pair).collect()
        }
        (Kind::Pairs(_), _) => Err("want a table, { NAME = \"VALUE\" }, or an array".to_owned()),
        (Kind::Words, _) => Err("want an array, [\"PROGRAM\", \"ARG\"]".to_owned()),
        (_, value) => scalar(value).map(|value| vec![value]),
    }
}

fn scalar(value: &DeValue<'_>) -> Result<OsString, String> {
    match value {
        DeValue::String(text) => Ok(OsString::from(text.as_ref())),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().into()),
        DeValue::Integer(_) => Err("want a decimal number".to_owned()),
        DeValue::Boolean(_) => Err("want a text or a number, not true or false".to_owned()),
        DeValue::Float(_) => Err("want a text or a whole number".to_owned()),
        DeValue::Datetime(_) => Err("want a text or a number, not a date".to_owned()),
        DeValue::Array(_) => Err("want one value, not an array".to_owned()),
        DeValue::Table(_) => Err("want one value, not a table".to_owned()),
    }
}

/// Whether it can be the first segment of a path without being taken for anything else.
fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.chars().all(is_plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// The one key of a listener that is also about its server.
pub(super) const PATH: &str = "path";
pub(super) const PATH_OF_ONE: &str = "is for one server; those of a file are at /NAME/mcp";
/// Longest file. One with a hundred servers has some 20 KiB.
const MAX_FILE_LEN: u64 = 1 << 20;
