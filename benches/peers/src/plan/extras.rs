//! What is measured once for a link: starting, sessions that are open and idle, and a message of 64 MiB.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use super::{Place, Run};
use crate::{
    client::{self, Client, PATIENCE},
    contestant::{Kind, Link, running::Running},
    lane::Lane,
    load,
    message::{FIRST_ID, Template},
    options::Part,
    process,
    record::{Record, micros},
};

impl Run<'_> {
    /// What `--parts` asks for of `start`, `big` and `sessions`.
    pub fn extras(&mut self, place: &Place, kinds: &[Kind]) -> io::Result<()> {
        if self.options.has(Part::Real) && place.link == Link::Pipe && kinds.contains(&Kind::Shadowcat) {
            self.real(place)?;
        }
        for kind in kinds {
            if self.options.has(Part::Start) {
                self.starts(place, *kind)?;
            }
            if self.options.has(Part::Big) {
                self.big(place, *kind)?;
            }
            if self.options.has(Part::Sessions) && place.link.has_http_clients() && *kind != Kind::Direct {
                self.sessions(place, *kind)?;
            }
            if process::is_stopped() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped"));
            }
        }
        Ok(())
    }

    /// Who starts at once is started often.
    fn starts(&mut self, place: &Place, kind: Kind) -> io::Result<()> {
        let begun = Instant::now();
        for round in 1..=MAX_START_COUNT {
            let mut record = Record { round, ..place.record("start", kind) };
            match Running::start(kind, place.link, &place.site, place.proxy) {
                Ok(mut running) => {
                    record.elapsed_us = micros(running.start);
                    if round == 1 {
                        record.text = self.anonymous(&running.words.join(" "));
                        running.look();
                        let memory = running.memory();
                        (record.rss_kib, record.pss_kib) = (memory.rss, memory.pss);
                        (record.root_kib, record.processes) = (running.root_rss(), running.process_count());
                    }
                    self.end(place, running)?;
                }
                Err(error) => (record.errors, record.text) = (1, error.to_string()),
            }
            self.journal.write(&record)?;
            if record.errors > 0 || begun.elapsed() > self.options.time * 15 {
                break;
            }
        }
        Ok(())
    }

    /// A command as others would type it, without the places of this machine.
    fn anonymous(&self, words: &str) -> String {
        let shadowcat = std::env::var_os("SHADOWCAT").map(|path| (path.into(), "$SHADOWCAT"));
        let places = [
            (crate::machine::target(), "target"),
            (crate::machine::tree(), "."),
            (self.folder.path().to_owned(), "CONFIGURATION"),
        ];
        shadowcat
            .iter()
            .chain(&places)
            .fold(words.to_owned(), |words, (place, name)| words.replace(&place.display().to_string(), name))
    }

    fn big(&mut self, place: &Place, kind: Kind) -> io::Result<()> {
        let mut record = Record { size: BIG_LEN, ..place.record("big", kind) };
        match Running::start(kind, place.link, &place.site, place.proxy) {
            Ok(mut running) => {
                running.look();
                let before = running.memory();
                let outcome = load::calls(&mut running.client, BIG_LEN, 1, Duration::ZERO);
                running.look();
                let memory = running.memory();
                record = record.with_outcome(outcome, Duration::ZERO);
                (record.rss_kib, record.peak_kib) = (before.rss, memory.peak);
                self.end(place, running)?;
            }
            Err(error) => (record.errors, record.text) = (1, error.to_string()),
        }
        record.histogram.clear();
        self.journal.write(&record)
    }

    fn sessions(&mut self, place: &Place, kind: Kind) -> io::Result<()> {
        let mut running = match Running::start(kind, place.link, &place.site, place.proxy) {
            Ok(running) => running,
            Err(error) => {
                return self.journal.write(&Record {
                    errors: 1,
                    text: error.to_string(),
                    ..place.record("sessions", kind)
                });
            }
        };
        let mut idle = Vec::new();
        process::pin_self(place.ends)?;
        let until = Instant::now() + MAX_SESSIONS_TIME;
        let mut record = self.weighed(&mut running, place.record("sessions", kind));
        self.journal.write(&record)?;
        for count in &self.options.sessions {
            let failure = grow(&mut idle, &running.client, *count, until).err();
            record = self.weighed(&mut running, Record { width: idle.len(), ..place.record("sessions", kind) });
            let failure = failure.or_else(|| idle.iter_mut().try_for_each(|session| session.burst(until)).err());
            record.after_kib = self.weighed(&mut running, Record::default()).pss_kib;
            if self.options.sessions.last() == Some(count) && failure.is_none() {
                thread::sleep(LATER);
                record.later_kib = self.weighed(&mut running, Record::default()).pss_kib;
            }
            if let Some(error) = &failure {
                println!("        {} with {} of {count} sessions: {error}", kind.name(), idle.len());
                (record.errors, record.text) = (1, error.to_string());
            }
            self.journal.write(&record)?;
            if failure.is_some() {
                break;
            }
        }
        drop(idle);
        self.end(place, running)
    }

    /// What it holds when nothing has happened for a moment.
    fn weighed(&self, running: &mut Running, mut record: Record) -> Record {
        thread::sleep(SETTLE);
        running.look();
        let memory = running.memory();
        (record.rss_kib, record.pss_kib, record.peak_kib) = (memory.rss, memory.pss, memory.peak);
        record.processes = running.process_count();
        record
    }
}

const MAX_START_COUNT: usize = 20;
const BIG_LEN: usize = 64 << 20;
const SETTLE: Duration = Duration::from_millis(300);
/// Longer than most proxies keep an idle connection to their server.
const LATER: Duration = Duration::from_secs(6);
/// For all sessions of one contestant.
const MAX_SESSIONS_TIME: Duration = Duration::from_secs(25);

/// A session with its listening stream and a connection for its calls.
struct Idle {
    calls: Lane,
    _listens: Lane,
}

fn grow(idle: &mut Vec<Idle>, front: &Client, count: usize, until: Instant) -> io::Result<()> {
    let Client::Http(address, front) = front else { return Ok(()) };
    while idle.len() < count {
        if Instant::now() > until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the others did not open in time"));
        }
        let mut client = Client::http(*address, &front.path);
        client.open(PATIENCE)?;
        let lane = |client: &mut Client| match client.lanes(1)? {
            client::Lanes::Many(mut lanes) => lanes.pop().ok_or_else(|| io::Error::other("no lane")),
            client::Lanes::One(_) => Err(io::Error::other("not HTTP")),
        };
        let (mut calls, mut listens) = (lane(&mut client)?, lane(&mut client)?);
        listens.queue_method("GET");
        listens.flush()?;
        call(&mut calls, 100)?;
        idle.push(Idle { calls, _listens: listens });
    }
    Ok(())
}

impl Idle {
    fn burst(&mut self, until: Instant) -> io::Result<()> {
        if Instant::now() > until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the calls took too long"));
        }
        [1 << 10, 1 << 10, 64 << 10].into_iter().try_for_each(|len| call(&mut self.calls, len))
    }
}

fn call(lane: &mut Lane, len: usize) -> io::Result<()> {
    lane.queue(Template::new(len).call(FIRST_ID));
    client::end_of_exchange(lane, Instant::now() + PATIENCE).map(drop)
}
