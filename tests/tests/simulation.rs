//! The simulation of whole nodes, seed by seed: that runs repeat, that the promises hold, and that planted bugs are caught.
//! Every run is a process of its own; a failure prints the command that repeats it. More seeds than these are a command:
//! `cargo run --profile sim -p waymark-tests --bin sim -- --seeds 1..2001`.

use std::ops::Range;

use waymark_tests::meta;
use waymark_tests::mutants;
use waymark_tests::outcome::Outcome;
use waymark_tests::plan::Plan;
use waymark_tests::process::Simulation;
use waymark_tests::profile::Profile;
use waymark_tests::regressions::scenarios;

/// The seed of each story. Most are also what a planted bug is held against, and are run once for both.
const SEED: u64 = 1;
/// Processes at the same time, of a test that runs many; another test may run beside it.
const JOBS: usize = 2;
/// Storms that are long enough for faults to overlap.
const LONG_STORMS: u64 = 2;
const STORM_WITHOUT_A_GROUP: u64 = 2;
const STORM_WITH_A_GROUP: u64 = 4;

fn held(plan: &Plan) -> Outcome {
    let ended = Simulation::once(plan);
    assert!(ended.held(), "{}", ended.report);
    assert!(ended.outcome.acknowledged > 100, "too little happened: {}", ended.report);
    ended.outcome
}

fn promises_hold_through(profile: Profile) {
    held(&Plan::new(profile, SEED));
}

/// As short as they can be: what they cost is mostly the birth of a cluster and the reading back at the end.
fn promises_hold_through_short_storms(seeds: Range<u64>) {
    for seed in seeds {
        held(&Plan { seconds: 1, ..Plan::new(Profile::Swarm, seed) });
    }
}

#[test]
fn the_same_seed_gives_the_same_events_in_two_processes() {
    assert!(meta::repeats(&Plan::new(Profile::PowerLossAll, 2)), "a story does not repeat");
    for seed in [STORM_WITHOUT_A_GROUP, STORM_WITH_A_GROUP] {
        let storm = Plan { seconds: 5, ..Plan::new(Profile::Swarm, seed) };
        assert_eq!(storm.has_group(), seed == STORM_WITH_A_GROUP);
        assert!(meta::repeats(&storm), "storm {seed} does not repeat");
    }
}

#[test]
fn another_seed_gives_other_events() {
    let of = |seed| held(&Plan::new(Profile::Calm, seed)).fingerprint;
    assert_ne!(of(1), of(2));
}

#[test]
fn promises_hold_without_faults() {
    promises_hold_through(Profile::Calm);
}

#[test]
fn promises_hold_while_leaders_are_cut_off() {
    promises_hold_through(Profile::LeaderPartition);
}

#[test]
fn promises_hold_when_all_nodes_lose_power_at_once() {
    promises_hold_through(Profile::PowerLossAll);
}

#[test]
fn promises_hold_after_a_birth_under_faults() {
    promises_hold_through(Profile::Birth);
}

#[test]
fn promises_hold_through_any_faults_in_a_row() {
    promises_hold_through(Profile::Chaos);
}

#[test]
fn promises_hold_while_disks_are_full_and_service_comes_back_with_their_room() {
    promises_hold_through(Profile::DiskFull);
}

#[test]
fn what_rot_takes_of_journals_is_fetched_from_peers_and_nothing_is_lost() {
    let outcome = held(&Plan::new(Profile::JournalRot, SEED));
    let fetched = outcome.counts.get("entries-fetched").copied().unwrap_or(0);
    assert!(fetched > 0, "rot took nothing that had to be fetched");
}

#[test]
fn promises_hold_when_disks_are_lost_one_after_the_other() {
    promises_hold_through(Profile::DiskReplaced);
}

#[test]
fn replicas_in_doubt_do_not_vote_and_are_replaced_and_nothing_is_lost() {
    promises_hold_through(Profile::JournalDoubt);
}

#[test]
fn a_node_that_was_away_ends_with_everything_however_often_its_pull_is_interrupted() {
    // The seed whose names of pulled files a machine would lose that did not make them durable.
    held(&Plan::new(Profile::PullInterrupted, 2));
}

#[test]
fn a_node_that_is_cut_off_tells_nothing_of_a_topic_that_is_not_so() {
    promises_hold_through(Profile::CatalogCut);
}

#[test]
fn leaders_say_so_when_a_disk_has_lost_what_it_acknowledged_and_nothing_is_lost() {
    promises_hold_through(Profile::DiskLies);
}

#[test]
fn promises_hold_through_storms() {
    for seed in 1..=LONG_STORMS {
        held(&Plan { seconds: mutants::STORM_SECONDS, ..Plan::new(Profile::Swarm, seed) });
    }
}

#[test]
fn promises_hold_through_fifty_short_storms() {
    promises_hold_through_short_storms(1..51);
}

#[test]
fn promises_hold_through_fifty_more() {
    promises_hold_through_short_storms(51..101);
}

#[test]
fn promises_hold_while_records_and_checkpoints_rot_and_all_of_it_is_repaired() {
    let outcome = held(&Plan::new(Profile::Rot, SEED));
    let repaired = outcome.counts.get("repair-from-peer").copied().unwrap_or(0);
    assert!(repaired > 0, "nothing was repaired from a peer");
}

#[test]
fn members_that_come_and_go_as_planned_repeat_nothing_and_miss_nothing() {
    promises_hold_through(Profile::GroupPlanned);
}

#[test]
fn a_coordinator_that_is_cut_off_costs_a_group_no_member_and_no_rebalance() {
    promises_hold_through(Profile::GroupCoordinatorCut);
}

#[test]
fn a_coordinator_that_dies_costs_a_group_no_member_and_no_rebalance() {
    promises_hold_through(Profile::GroupCoordinatorCrash);
}

#[test]
fn others_go_on_for_members_that_are_cut_off_or_die() {
    promises_hold_through(Profile::GroupMembersLost);
}

#[test]
fn a_running_group_goes_on_where_an_operator_puts_it() {
    promises_hold_through(Profile::GroupReset);
}

#[test]
fn a_groups_promises_hold_through_anything() {
    promises_hold_through(Profile::GroupChaos);
}

#[test]
fn the_scenarios_of_bugs_that_were_found_hold() {
    let all = scenarios().expect("every line is a scenario").into_iter();
    let plans: Vec<Plan> = all.filter_map(|it| it.plan).collect();
    std::thread::scope(|scope| {
        for some in plans.chunks(plans.len().div_ceil(JOBS)) {
            scope.spawn(move || some.iter().for_each(|plan| drop(held(plan))));
        }
    });
}

#[test]
fn every_planted_bug_of_the_table_is_caught() {
    assert!(mutants::hunt_all(JOBS), "some of them live");
}
