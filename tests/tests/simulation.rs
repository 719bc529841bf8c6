//! The simulation of whole nodes, seed by seed: that runs repeat, that the promises hold, and that planted bugs are caught.
//! Every run is a process of its own; a failure prints the command that repeats it. More seeds than these are a command:
//! `cargo run -p waymark-tests --bin sim -- --seeds 1000 --jobs 2`.

use waymark_tests::process::Simulation;
use waymark_tests::scenario::Scenario;

/// Seeds per scenario: few enough for every change.
const SEEDS: u64 = 3;
/// Of the scenarios of groups, which take several times as long.
const GROUP_SEEDS: u64 = 1;
/// A planted bug must be caught within so many seeds.
const CAUGHT_WITHIN: u64 = 6;

fn hash_of(scenario: Scenario, seed: u64) -> String {
    let ended = Simulation { hash: true, ..Simulation::new(scenario, seed) }.run();
    assert!(ended.held && !ended.fingerprint.is_empty(), "{}", ended.report);
    ended.fingerprint
}

fn promises_hold_through(scenario: Scenario) {
    promises_hold_in(scenario, SEEDS);
}

fn promises_hold_to_groups_through(scenario: Scenario) {
    promises_hold_in(scenario, GROUP_SEEDS);
}

fn promises_hold_in(scenario: Scenario, seeds: u64) {
    for seed in 1..=seeds {
        let ended = Simulation::new(scenario, seed).run();
        assert!(ended.held, "{}", ended.report);
        assert!(ended.acknowledged() > 100, "too little happened: {}", ended.report);
    }
}

/// `G4` stands for G4b and so on, too.
fn is_caught(bug: &'static str, scenario: Scenario, promise: &str) {
    let caught = (1..=CAUGHT_WITHIN).any(|seed| {
        let simulation = Simulation { plant: Some(bug), ..Simulation::new(scenario, seed) };
        simulation.run().report.contains(&format!("violated {promise}"))
    });
    assert!(
        caught,
        "none of {CAUGHT_WITHIN} seeds of {scenario} showed that {bug} breaks {promise}"
    );
}

#[test]
fn the_same_seed_gives_the_same_events_in_two_processes() {
    for scenario in [Scenario::LeaderPartition, Scenario::PowerLossAll, Scenario::GroupReset] {
        assert_eq!(hash_of(scenario, 2), hash_of(scenario, 2), "{scenario} does not repeat");
    }
}

#[test]
fn another_seed_gives_other_events() {
    let of = |seed| Simulation::new(Scenario::Calm, seed).run().fingerprint;
    assert_ne!(of(1), of(2));
}

#[test]
fn promises_hold_without_faults() {
    promises_hold_through(Scenario::Calm);
}

#[test]
fn promises_hold_while_leaders_are_cut_off() {
    promises_hold_through(Scenario::LeaderPartition);
}

#[test]
fn promises_hold_when_all_nodes_lose_power_at_once() {
    promises_hold_through(Scenario::PowerLossAll);
}

#[test]
fn promises_hold_after_a_birth_under_faults() {
    promises_hold_through(Scenario::Birth);
}

#[test]
fn promises_hold_through_any_faults_in_a_row() {
    promises_hold_through(Scenario::Chaos);
}

#[test]
fn members_that_come_and_go_as_planned_repeat_nothing_and_miss_nothing() {
    promises_hold_to_groups_through(Scenario::GroupPlanned);
}

#[test]
fn a_coordinator_that_is_cut_off_costs_a_group_no_member_and_no_rebalance() {
    promises_hold_to_groups_through(Scenario::GroupCoordinatorCut);
}

#[test]
fn a_coordinator_that_dies_costs_a_group_no_member_and_no_rebalance() {
    promises_hold_to_groups_through(Scenario::GroupCoordinatorCrash);
}

#[test]
fn others_go_on_for_members_that_are_cut_off_or_die() {
    promises_hold_to_groups_through(Scenario::GroupMembersLost);
}

#[test]
fn a_running_group_goes_on_where_an_operator_puts_it() {
    promises_hold_to_groups_through(Scenario::GroupReset);
}

#[test]
fn a_groups_promises_hold_through_anything() {
    promises_hold_to_groups_through(Scenario::GroupChaos);
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught_by_a_power_loss() {
    is_caught("ack-before-fsync", Scenario::PowerLossAll, "G1");
}

#[test]
fn a_retry_that_is_appended_again_is_caught() {
    is_caught("dup-appends", Scenario::Chaos, "G3b");
}

#[test]
fn a_commit_of_before_a_reset_that_counts_is_caught() {
    is_caught("commit-of-an-old-generation", Scenario::GroupReset, "G4");
}

#[test]
fn a_hand_off_that_forgets_where_the_owner_stopped_is_caught() {
    is_caught("handoff-in-two-entries", Scenario::GroupPlanned, "G5b");
}

#[test]
fn a_ledger_with_a_hole_is_caught() {
    is_caught("ledger-loses-a-fact", Scenario::GroupReset, "G4b");
}
