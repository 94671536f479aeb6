//! Every fuzz seed and every past finding, on stable, in each run: the bodies of the fuzz targets are
//! ordinary functions.

use std::{fs, path::Path};

use shadowcat::fuzz as sessions;
use shadowcat_codecs::fuzz;

type Body = fn(&[u8]);

/// One entry for each `[[bin]]` in `fuzz/Cargo.toml`; `tests/tidy.rs` compares the two lists.
const TARGETS: [(&str, Body); 10] = [
    ("envelope", fuzz::envelope),
    ("line", fuzz::line),
    ("reframe", fuzz::reframe),
    ("scan_vs_serde", fuzz::scan_vs_serde),
    ("splice", fuzz::splice),
    ("session_dialed", sessions::session_dialed),
    ("session_owned", sessions::session_owned),
    ("session_pair", sessions::session_pair),
    ("session_shared", sessions::session_shared),
    ("sse", fuzz::sse),
];

#[test]
fn every_seed_of_every_target_passes() {
    for (target, body) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let seeds = fs::read_dir(&folder).unwrap_or_else(|error| panic!("no seeds in {}: {error}", folder.display()));
        let mut replayed = 0;
        for seed in seeds {
            let seed = seed.unwrap().path();
            let input = fs::read(&seed).unwrap();
            let caught = std::panic::catch_unwind(|| body(&input));
            assert!(caught.is_ok(), "seed {} breaks target {target}", seed.display());
            replayed += 1;
        }
        assert!(replayed > 0, "target {target} has no seeds: put some into {}", folder.display());
    }
}
