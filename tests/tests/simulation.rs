//! The simulation, seed by seed: that runs repeat, that the promises hold, and that a planted bug is caught. Every run is a
//! process of its own; a failure prints the command that repeats it.

use waymark_tests::process::Simulation;
use waymark_tests::scenario::Scenario;

/// Seeds per scenario: enough that the planted bugs are caught many times over, few enough for every change.
const SEEDS: u64 = 8;

fn hash_of(scenario: Scenario, seed: u64) -> String {
    let ended = Simulation { hash: true, ..Simulation::new(scenario, seed) }.run();
    assert!(ended.held && !ended.fingerprint.is_empty(), "{}", ended.report);
    ended.fingerprint
}

#[test]
fn the_same_seed_gives_the_same_events_in_two_processes() {
    for scenario in [Scenario::LeaderPartition, Scenario::PowerLossAll] {
        assert_eq!(hash_of(scenario, 1), hash_of(scenario, 1), "{scenario} does not repeat");
    }
}

#[test]
fn another_seed_gives_other_events() {
    assert_ne!(hash_of(Scenario::PowerLossAll, 1), hash_of(Scenario::PowerLossAll, 2));
}

#[test]
fn promises_hold_through_every_scenario() {
    for scenario in Scenario::ALL {
        for seed in 1..=SEEDS {
            let ended = Simulation::new(scenario, seed).run();
            assert!(ended.held, "{}", ended.report);
        }
    }
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught_by_a_power_loss() {
    let plant = Some("ack-before-fsync");
    let caught = (1..=SEEDS).filter(|seed| {
        let simulation = Simulation { plant, ..Simulation::new(Scenario::PowerLossAll, *seed) };
        simulation.run().report.contains("violated G1")
    });
    let caught = caught.count();
    assert!(caught > 0, "none of {SEEDS} seeds found it");
}
