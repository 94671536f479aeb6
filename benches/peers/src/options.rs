//! What was typed.

use std::{path::PathBuf, time::Duration};

use crate::contestant::{Kind, Link};

pub const HELP: &str = "\
Shadowcat beside its peers, end to end; see benches/peers/README.md.

  cargo run --release --manifest-path benches/peers/Cargo.toml -- --peers

  --peers             everybody: direct, floors, shadowcat, the SDK relay, and the peers that benches/peers/setup installed
  --quick             few rounds and sizes, and no peers: a minute or two
  --smoke             one short round, elsewhere: fails if anything comes through shadowcat otherwise than it was sent
  --links A,B         of pipe, dial, mux, relay [default: all]
  --only A,B          these contestants, by the names that the tables have
  --parts A,B         of calls, notify, start, sessions, big, real [default: all]
  --pin A,B           of one (everything on one core), two (the proxy on another one than the ends), free [default: one,two]
  --rounds N          turns of everybody; the peers, which are slow, have half of them [default: 10]
  --time MS           how long one turn of one kind of load takes [default: 150]
  --out DIR           where raw.jsonl, the tables and the charts go [default: docs/benchmarks/peers]
  --render            only the tables and charts, from DIR/raw.jsonl
  --merge A,B         first puts the raw data of the runs in these folders together, into DIR/raw.jsonl; then as --render
  --no-build          take shadowcat and the SDK relay as they were built last

SHADOWCAT=PATH in the environment measures that one instead of building the tree's.";

#[derive(Debug)]
pub enum Task {
    Help,
    ServeStdio {
        cpu: Option<usize>,
    },
    ServeHttp {
        cpu: Option<usize>,
    },
    /// What was measured in the first, if there are any, and in the last is to be.
    Render(Vec<PathBuf>, PathBuf),
    Measure(Options),
}

#[derive(Debug, Clone)]
pub struct Options {
    pub peers: bool,
    pub links: Vec<Link>,
    pub only: Vec<Kind>,
    pub parts: Vec<Part>,
    pub pins: Vec<Pin>,
    pub sizes: Vec<usize>,
    pub rounds: usize,
    pub time: Duration,
    pub sessions: Vec<usize>,
    pub out: PathBuf,
    pub builds: bool,
    pub is_smoke: bool,
    /// As typed, for the record.
    pub command: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Calls,
    Notify,
    Start,
    Sessions,
    Big,
    /// Behind a server of the official SDKs.
    Real,
}

/// What runs where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    One,
    Two,
    Free,
}

impl Pin {
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
            Self::Free => "free",
        }
    }
}

const PARTS: [(&str, Part); 6] = [
    ("calls", Part::Calls),
    ("notify", Part::Notify),
    ("start", Part::Start),
    ("sessions", Part::Sessions),
    ("big", Part::Big),
    ("real", Part::Real),
];

impl Task {
    /// An error says what was not understood.
    pub fn from_args(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let args: Vec<_> = args.collect();
        let mut words = args.iter().map(String::as_str);
        if args.first().is_some_and(|word| word == "serve") {
            return serve(&args[1..]);
        }
        let mut options = Options::new(args.join(" "));
        let (mut renders, mut is_help, mut merged) = (false, args.is_empty(), Vec::new());
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
            match word {
                "--help" | "-h" => is_help = true,
                "--peers" => options.peers = true,
                "--quick" => options.be_quick(),
                "--smoke" => options.be_smoke(),
                "--render" => renders = true,
                "--merge" => merged = value()?.split(',').map(PathBuf::from).collect(),
                "--no-build" => options.builds = false,
                "--links" => options.links = named(value()?, Link::named)?,
                "--only" => options.only = named(value()?, Kind::named)?,
                "--parts" => options.parts = named(value()?, |name| find(&PARTS, name))?,
                "--pin" => options.pins = named(value()?, pin)?,
                "--rounds" => options.rounds = number(value()?)?,
                "--time" => options.time = Duration::from_millis(number(value()?)? as u64),
                "--out" => options.out = PathBuf::from(value()?),
                _ => return Err(format!("{word} is not known")),
            }
        }
        Ok(match (is_help, renders || !merged.is_empty()) {
            (true, _) => Self::Help,
            (false, true) => Self::Render(merged, options.out),
            (false, false) => Self::Measure(options),
        })
    }
}

impl Options {
    fn new(command: String) -> Self {
        Self {
            peers: false,
            links: Link::ALL.to_vec(),
            only: Vec::new(),
            parts: PARTS.iter().map(|(_, part)| *part).collect(),
            pins: vec![Pin::One, Pin::Two],
            sizes: vec![100, 1 << 10, 64 << 10, 1 << 20],
            rounds: 10,
            time: Duration::from_millis(150),
            sessions: vec![1, 50, 200, 1_000],
            out: crate::machine::tree().join("docs/benchmarks/peers"),
            builds: true,
            is_smoke: false,
            command,
        }
    }

    fn be_quick(&mut self) {
        self.rounds = 3;
        self.time = Duration::from_millis(100);
        self.sizes = vec![100, 64 << 10];
        self.sessions = vec![1, 50];
        self.pins = vec![Pin::One];
    }

    fn be_smoke(&mut self) {
        self.be_quick();
        self.rounds = 1;
        self.time = Duration::from_millis(20);
        self.sessions = vec![1, 5];
        self.is_smoke = true;
        // What is committed is of whole runs.
        self.out = crate::machine::target().join("smoke");
    }

    /// How many turns `kind` has with each kind of load.
    pub fn rounds_of(&self, kind: Kind) -> usize {
        if kind.is_installed_by_setup() { self.rounds.div_ceil(2) } else { self.rounds }
    }

    /// Whether `kind` takes part.
    pub fn wants(&self, kind: Kind) -> bool {
        if self.only.is_empty() { self.peers || !kind.is_installed_by_setup() } else { self.only.contains(&kind) }
    }

    pub fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}

fn serve(words: &[String]) -> Result<Task, String> {
    let cpu = match words.get(1).map(String::as_str) {
        Some("--cpu") => Some(number(words.get(2).map_or("", String::as_str))?),
        _ => None,
    };
    match words.first().map(String::as_str) {
        Some("stdio") => Ok(Task::ServeStdio { cpu }),
        Some("http") => Ok(Task::ServeHttp { cpu }),
        _ => Err("serve stdio or serve http".to_owned()),
    }
}

fn named<T>(list: &str, find: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
    list.split(',').map(|name| find(name).ok_or_else(|| format!("{name} is not known"))).collect()
}

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

fn pin(name: &str) -> Option<Pin> {
    [Pin::One, Pin::Two, Pin::Free].into_iter().find(|pin| pin.name() == name)
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}
