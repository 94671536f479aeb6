//! What is measured in which order: everybody once, then everybody again, so that a noisy moment is shared.

mod extras;
mod real;

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{
    contestant::{
        Kind, Link, Site,
        running::{Folder, Running, Server},
    },
    load, machine,
    options::{Options, Part, Pin},
    process,
    record::{Journal, Record},
};

/// Measures all that `options` ask for, into the raw data of its folder.
pub fn run(options: &Options) -> io::Result<()> {
    process::cpus();
    build(options)?;
    let mut run = Run { options, journal: Journal::new(&options.out)?, folder: Folder::new()?, begun: Instant::now() };
    run.journal.write(&Record { text: about(options), ..Record::new("meta") })?;
    let kinds = run.present()?;
    println!("about {} minutes", run.estimate(&kinds).as_secs().div_ceil(60));
    for pin in &options.pins {
        if *pin == Pin::Two && process::cpus().len() < 2 {
            println!("skipped: pinned two wants two cores");
            let (contestant, text) = ("pinned two".to_owned(), "it wants two cores".to_owned());
            run.journal.write(&Record { contestant, text, ..Record::new("skipped") })?;
            continue;
        }
        for link in &options.links {
            run.link(*link, *pin, &kinds)?;
        }
    }
    let text = format!("{} s, load {} at the end", run.begun.elapsed().as_secs(), machine::load());
    println!("done in {text}");
    run.journal.write(&Record { text, ..Record::new("end") })
}

fn build(options: &Options) -> io::Result<()> {
    if !options.builds {
        return Ok(());
    }
    if options.wants(Kind::Shadowcat) && std::env::var_os("SHADOWCAT").is_none() {
        machine::build(&machine::tree(), &["--profile", "dist", "--locked", "--bin", "shadowcat"])?;
    }
    if options.wants(Kind::SdkRelay) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        machine::build(folder, &["--profile", "dist", "--locked", "-p", "shadowcat-sdk-relay"])?;
    }
    Ok(())
}

/// Where, when and how: lines of `name: value`.
fn about(options: &Options) -> String {
    let built = match (std::env::var_os("SHADOWCAT"), options.builds) {
        (Some(_), _) => "another build, by $SHADOWCAT".to_owned(),
        (None, false) => "as it was built last, which may be another commit".to_owned(),
        (None, true) => {
            format!("built with --profile dist by {}", machine::first_line("rustc", &["--version"]).unwrap_or_default())
        }
    };
    // What the program itself says: with a build of another time, that is the commit that was measured.
    let said = machine::line_of(&Kind::Shadowcat.program(), "--version", "commit:");
    let built = format!("{built}; its own word on its commit: {}", said.as_deref().unwrap_or("none"));
    [
        format!("date: {}", machine::date()),
        format!("commit: {}", machine::commit()),
        format!("machine: {}", machine::machine()),
        format!("load when it began: {}", machine::load()),
        format!("shadowcat: {built}"),
        format!(
            "rounds: {} ({} of the peers from npm and PyPI), {} ms each",
            options.rounds,
            options.rounds.div_ceil(2),
            options.time.as_millis()
        ),
        format!("command: {}", options.command),
    ]
    .join("\n")
}

pub struct Run<'a> {
    options: &'a Options,
    journal: Journal,
    folder: Folder,
    begun: Instant,
}

/// How many calls are in flight when as many as possible are made.
fn width(size: usize) -> usize {
    match size {
        0..=4_096 => 32,
        4_097..=65_536 => 16,
        _ => 4,
    }
}

impl Run<'_> {
    /// Who takes part, and a line for each who was asked for and is not here.
    fn present(&mut self) -> io::Result<Vec<Kind>> {
        let mut present = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| self.options.wants(*kind)) {
            let contestant = kind.name().to_owned();
            match kind.version() {
                Some(text) => {
                    present.push(kind);
                    self.journal.write(&Record { contestant, text, ..Record::new("contestant") })?;
                }
                None => {
                    println!("skipped: {contestant} is not here; benches/peers/setup installs what can be");
                    let text = "not installed".to_owned();
                    self.journal.write(&Record { contestant, text, ..Record::new("skipped") })?;
                }
            }
        }
        Ok(present)
    }

    fn estimate(&self, kinds: &[Kind]) -> Duration {
        let pairs = kinds.iter().flat_map(|kind| kind.links()).filter(|link| self.options.links.contains(link)).count();
        let turns = pairs * self.options.pins.len() * self.options.rounds;
        let calls = if self.options.has(Part::Calls) { 2 * self.options.sizes.len() } else { 0 };
        let notify = usize::from(self.options.has(Part::Notify));
        let loads = u32::try_from(turns * (calls + notify)).unwrap_or(u32::MAX);
        let extras = if self.options.parts.len() > 2 { pairs as u64 * self.options.sessions.len() as u64 } else { 0 };
        // What is slow does not end in time, and starting takes some, too.
        self.options.time * loads * 5 / 4 + Duration::from_secs(3 * extras + 5 * self.options.pins.len() as u64)
    }

    fn link(&mut self, link: Link, pin: Pin, kinds: &[Kind]) -> io::Result<()> {
        let (ends, proxy) = match (pin, process::cpus()) {
            (Pin::Free, _) => (None, None),
            (Pin::Two, [ends, proxy, ..]) => (Some(*ends), Some(*proxy)),
            (Pin::Two, _) => return Ok(()),
            (Pin::One, all) => (all.first().copied(), all.first().copied()),
        };
        println!("{:>4} s  {} pinned {}", self.begun.elapsed().as_secs(), link.name(), pin.name());
        let server = Server::start(ends)?;
        let site =
            Site { server: server.address, ends_cpu: ends, folder: self.folder.path().to_owned(), server_words: None };
        let place = Place { link, pin, site, ends, proxy };
        let kinds: Vec<_> = kinds.iter().copied().filter(|kind| kind.links().contains(&link)).collect();
        let done = self.loads(&place, &kinds).and_then(|()| {
            // What follows is not a matter of cores.
            if pin == self.options.pins[0] { self.extras(&place, &kinds) } else { Ok(()) }
        });
        server.end();
        done
    }

    fn loads(&mut self, place: &Place, kinds: &[Kind]) -> io::Result<()> {
        let mut seats: Vec<_> =
            kinds.iter().map(|kind| Seat { kind: *kind, running: None, failures: 0, is_absent: false }).collect();
        let done = self.rounds(place, &mut seats);
        for seat in seats {
            if let Some(running) = seat.running {
                self.end(place, running)?;
            }
        }
        done
    }

    fn rounds(&mut self, place: &Place, seats: &mut [Seat]) -> io::Result<()> {
        let mut turns = Vec::new();
        if self.options.has(Part::Calls) {
            let sizes = self.options.sizes.iter();
            turns.extend(sizes.flat_map(|size| [Turn::Latency(*size), Turn::Throughput(*size)]));
        }
        if self.options.has(Part::Notify) {
            turns.push(Turn::Notify);
        }
        for turn in turns {
            seats.iter_mut().for_each(|seat| seat.failures = 0);
            for round in 1..=self.options.rounds {
                for index in order(round, seats.len()) {
                    if round <= self.options.rounds_of(seats[index].kind) {
                        self.turn(place, &mut seats[index], turn, round)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn turn(&mut self, place: &Place, seat: &mut Seat, turn: Turn, round: usize) -> io::Result<()> {
        if process::is_stopped() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped"));
        }
        if seat.is_absent || seat.failures >= MAX_FAILURES {
            return Ok(());
        }
        let record = Record { round, ..place.record(turn.name(), seat.kind) };
        if seat.running.is_none() {
            match Running::start(seat.kind, place.link, &place.site, place.proxy) {
                Ok(running) => seat.running = Some(running),
                Err(error) => {
                    seat.is_absent = true;
                    println!("        {} does not start: {error}", seat.kind.name());
                    let text = format!("does not start: {error}");
                    return self.journal.write(&Record { text, errors: 1, sent: 1, size: turn.size(), ..record });
                }
            }
        }
        process::pin_self(place.ends)?;
        let Some(running) = &mut seat.running else { return Ok(()) };
        let record = turn.take(running, self.options.time, record);
        if !record.text.is_empty() {
            println!("        {} {}: {}", seat.kind.name(), turn.name(), record.text);
            seat.failures += 1;
            if let Some(running) = seat.running.take() {
                self.end(place, running)?;
            }
        }
        self.journal.write(&record)
    }

    fn end(&mut self, place: &Place, running: Running) -> io::Result<()> {
        let kind = running.kind;
        match running.end() {
            0 => Ok(()),
            left => {
                println!("        {} left {left} processes behind", kind.name());
                self.journal.write(&Record { processes: left, ..place.record("left", kind) })
            }
        }
    }
}

/// The order of `count` in this round: another one begins each time, and every other time it goes backwards, so that
/// nobody is always behind the same other.
fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    let turned = move |offset: usize| if round.is_multiple_of(2) { offset } else { count - 1 - offset };
    (0..count).map(move |offset| (round / 2 + turned(offset)) % count)
}

/// After that many failures with one kind of load, a contestant has no more turns with it.
const MAX_FAILURES: usize = 2;

/// A link, and what runs where.
pub struct Place {
    link: Link,
    pin: Pin,
    site: Site,
    ends: Option<usize>,
    proxy: Option<usize>,
}

impl Place {
    fn record(&self, kind: &str, contestant: Kind) -> Record {
        let (link, pin) = (self.link.name().to_owned(), self.pin.name().to_owned());
        Record { link, pin, contestant: contestant.name().to_owned(), ..Record::new(kind) }
    }
}

struct Seat {
    kind: Kind,
    running: Option<Running>,
    /// With the present kind of load.
    failures: usize,
    /// It did not start, and is not asked again on this link.
    is_absent: bool,
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    Latency(usize),
    Throughput(usize),
    Notify,
}

/// Notifications before one answer.
const NOTIFICATION_COUNT: usize = 500;

impl Turn {
    fn name(self) -> &'static str {
        match self {
            Self::Latency(_) => "latency",
            Self::Throughput(_) => "throughput",
            Self::Notify => "notify",
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Latency(size) | Self::Throughput(size) => size,
            Self::Notify => 0,
        }
    }

    fn take(self, running: &mut Running, time: Duration, record: Record) -> Record {
        running.look();
        let before = running.cpu();
        match self {
            Self::Latency(size) | Self::Throughput(size) => {
                let width = if matches!(self, Self::Latency(_)) { 1 } else { width(size) };
                let outcome = load::calls(&mut running.client, size, width, time);
                let cpu = running.cpu().since(&before);
                Record { size, width, ..record }.with_outcome(outcome, cpu)
            }
            Self::Notify => {
                let stream = load::notifications(&mut running.client, NOTIFICATION_COUNT, time);
                let cpu = running.cpu().since(&before);
                Record { width: NOTIFICATION_COUNT, ..record }.with_stream(stream, cpu)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_one_turn_in_a_round_and_is_behind_others_in_the_next() {
        let orders: Vec<Vec<_>> = (1..=8).map(|round| order(round, 4).collect()).collect();
        for order in &orders {
            let mut all = order.clone();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3]);
        }
        let firsts: Vec<_> = orders.iter().map(|order| order[0]).collect();
        assert!((0..4).all(|index| firsts.iter().filter(|first| **first == index).count() == 2), "{firsts:?}");
        let before = |one: usize, other: usize| {
            let at = |order: &[usize], index| order.iter().position(|there| *there == index);
            orders.iter().filter(|order| at(order, one) < at(order, other)).count()
        };
        assert!((0..4).all(|one| (0..4).all(|other| one == other || before(one, other) == 4)));
        assert_eq!(order(3, 0).count(), 0);
    }
}
