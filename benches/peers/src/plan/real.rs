//! A real server, of the official SDK for Node or Python, on stdio: directly, and through shadowcat.

use std::{io, ops::RangeInclusive, path::Path, time::Duration};

use super::{Place, Run};
use crate::{
    contestant::{Kind, Link, Site, running::Running},
    load, machine, process,
    record::Record,
};

/// Longer than other turns: such a server answers some thousand calls in a second.
const TURN: u32 = 3;
/// As many turns of nothing that counts come first.
const WARM: u32 = 2 * TURN;

impl Run<'_> {
    /// Calls of 100 B, one at a time, in turns; for each of the servers that `setup` has installed.
    pub fn real(&mut self, place: &Place) -> io::Result<()> {
        for (name, words) in servers() {
            if !Path::new(&words[0]).exists() && words[0] != "node" {
                println!("        skipped: the {name} server is not here; benches/peers/setup installs it");
                continue;
            }
            let site = Site { server_words: Some(words), folder: place.site.folder.clone(), ..place.site };
            let rounds = self.options.rounds;
            // Each has a server of its own, and no two are alike: whoever had the luckier one the first time has
            // another one the second time, and is started last.
            self.real_pair(place, (name, &site), [Kind::Direct, Kind::Shadowcat], 1..=rounds / 2)?;
            self.real_pair(place, (name, &site), [Kind::Shadowcat, Kind::Direct], rounds / 2 + 1..=rounds)?;
        }
        Ok(())
    }

    fn real_pair(
        &mut self,
        place: &Place,
        (name, site): (&str, &Site),
        kinds: [Kind; 2],
        rounds: RangeInclusive<usize>,
    ) -> io::Result<()> {
        if rounds.is_empty() {
            return Ok(());
        }
        let mut pair = Vec::new();
        for kind in kinds {
            match Running::start(kind, Link::Pipe, site, place.proxy) {
                Ok(running) => pair.push(running),
                Err(error) => println!("        {name} through {} does not start: {error}", kind.name()),
            }
        }
        let done = self.real_turns(place, name, &mut pair, rounds);
        for running in pair {
            self.end(place, running)?;
        }
        done
    }

    fn real_turns(
        &mut self,
        place: &Place,
        name: &str,
        pair: &mut [Running],
        rounds: RangeInclusive<usize>,
    ) -> io::Result<()> {
        process::pin_self(place.ends)?;
        // It warms up for long.
        for running in &mut *pair {
            load::calls(&mut running.client, 100, 1, self.options.time * WARM);
        }
        for round in rounds {
            // Who is the second has what the first left: every other time that is the other one.
            pair.reverse();
            for running in &mut *pair {
                let outcome = load::calls(&mut running.client, 100, 1, self.options.time * TURN);
                let record = Record { size: 100, round, ..place.record(name, running.kind) };
                self.journal.write(&record.with_outcome(outcome, Duration::ZERO))?;
            }
            if process::is_stopped() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped"));
            }
        }
        Ok(())
    }
}

/// The kind of their records, and how they are started.
fn servers() -> [(&'static str, Vec<String>); 2] {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("real");
    let peers = machine::target().join("peers");
    let text = |path: std::path::PathBuf| path.display().to_string();
    let node = vec!["node".to_owned(), text(here.join("server.mjs")), text(peers.join("node"))];
    let python = vec![text(peers.join("python/bin/python")), text(here.join("server.py"))];
    [("real-node", node), ("real-python", python)]
}
