//! Bugs of the product that simulations and chaos runs have found, so that nobody has to find them twice. Owns the list; each
//! names the test that would find it again, and has a line in `tests/regressions.txt`: a seed that plays its scenario, and the
//! scenario as a sentence. Schedules change with the harness, so the seed shows what it was about, and the test is what
//! keeps it away.

use crate::plan::Plan;
use crate::profile::Profile;

/// A bug that was found, and is no more.
#[derive(Debug)]
pub struct Regression {
    /// What showed it first.
    pub found_by: &'static str,
    /// What was promised and did not hold.
    pub showed_as: &'static str,
    /// Why.
    pub cause: &'static str,
    /// What was done about it.
    pub fix: &'static str,
    /// The test that finds it again, or the bug that puts it back and that a test has to find.
    pub kept_by: &'static str,
}

/// All of them, the newest last.
pub const TABLE: &[Regression] = &[
    Regression {
        found_by: "`chaos`, seed 1",
        showed_as: "R5: a vote that a replica was believed to have on disk was gone after a power loss",
        cause: "after its journal had failed, a replica began again from memory, and vouched for what was queued and never synced",
        fix: "a replica begins only once what its last life queued is on disk",
        kept_by: "reopened-before-sync",
    },
    Regression {
        found_by: "the judge of calls, in storms",
        showed_as: "a client was told that a record was certainly refused, and readers saw it",
        cause: "the last attempt's refusal was told, although an earlier attempt may have been taken",
        fix: "a refusal behind an unknown outcome is told as unknown",
        kept_by: "a_refusal_behind_an_unknown_outcome_does_not_say_that_nothing_was_appended",
    },
    Regression {
        found_by: "the judge of the catalog, in storms",
        showed_as: "S14: a topic that was deleted was told of again",
        cause: "GetMetadata ignored the consistency that it was asked for",
        fix: "it is linearizable unless the request asks for less",
        kept_by: "metadata_of_a_topic_is_as_new_as_it_was_asked_for",
    },
    Regression {
        found_by: "a chaos run of real processes, seed 2",
        showed_as: "G4d: a committed offset fell back to an older one",
        cause: "a commit was repeated through another node while the first copy waited on a link that was cut; it arrived after \
                another consumer's commit, and sequences were compared within one consumer only",
        fix: "sequences of consumers outside of a group's membership are in line: a late copy is behind, a live caller goes above",
        kept_by: "a_late_repeat_does_not_undo_the_commit_of_another_consumer",
    },
    Regression {
        found_by: "a chaos run of real processes, seed 2",
        showed_as: "no checkpoint was written any more after a disk had been full",
        cause: "sled never works again once a write found no room",
        fix: "tables that refuse are made anew and filled from the checkpoint",
        kept_by: "a_checkpoint_after_the_tables_were_made_anew_lacks_no_row",
    },
    Regression {
        found_by: "`swarm`, seed 33, one second long",
        showed_as: "within ten seconds after the storm no partition took records",
        cause: "producers waited for answers on connections to nodes that had lost power and led again, half open until a ping",
        fix: "a batch without an answer for request.timeout.ms goes again on a new connection",
        kept_by: "a_batch_without_an_answer_goes_again_on_another_connection",
    },
    Regression {
        found_by: "`swarm`, seed 44",
        showed_as: "within ten seconds after the storm no partition took records",
        cause: "a node that cannot read the catalog just then says so of each topic, and clients took that for a topic that does \
                not exist: they forgot it, and never asked for its leaders again",
        fix: "only a topic that is gone is forgotten; of which a node can tell nothing, another node is asked",
        kept_by: "a_topic_of_which_a_node_can_tell_nothing_now_is_not_forgotten",
    },
    Regression {
        found_by: "a chaos run of real processes, `--away 5GiB`",
        showed_as: "nodes lost their leaderships while `waymark cluster verify` compared replicas of much",
        cause: "a digest ran for a mebibyte at a time on a thread that heartbeats needed, too",
        fix: "after 64 KiB, a tenth of a millisecond, others have a turn",
        kept_by: "a_digest_of_much_leaves_others_their_turns",
    },
    Regression {
        found_by: "`disk-lies`, the story written for it",
        showed_as: "no leader ever told of a follower that had lost what it acknowledged (S10)",
        cause: "progress was looked at once in a while, and by then openraft had filled the follower up again",
        fix: "each answer of a follower is held against what it acknowledged before",
        kept_by: "reversion-unnoticed",
    },
    Regression {
        found_by: "storms in which reads of disks fail",
        showed_as: "a node stopped whose disk could not be read for a moment while its replicas were opening",
        cause: "the first error of a read ended the replica, and the node with it",
        fix: "opening is tried again for 30 s",
        kept_by: "open-without-patience",
    },
    Regression {
        found_by: "storms in which reads of disks fail",
        showed_as: "replicas ended, leaders among them, whose log could not be read for a moment",
        cause: "a read was tried three times within 60 ms, and an error that reaches openraft ends its replica",
        fix: "it is tried for 5 s",
        kept_by: "log-read-gives-up",
    },
    Regression {
        found_by: "storms in which reads of disks fail",
        showed_as: "consumers ended at a read that their node's disk had refused once",
        cause: "it was answered with INTERNAL, which nobody asks again after",
        fix: "it is answered with RANGE_DAMAGED, and asked again",
        kept_by: "unread-is-a-bug",
    },
    Regression {
        found_by: "a storm, seed 322",
        showed_as: "R7: what waited for a journal outgrew its bound",
        cause: "each shard's stream to a node had a bound of its own, and a node whose disk stood still was sent all of them",
        fix: "all streams to a node share `network.node_window_bytes`",
        kept_by: "node-window-ignored",
    },
    Regression {
        found_by: "a storm, seed 398",
        showed_as: "R5: an entry that a leader was told of as durable was gone after a power loss",
        cause: "a follower that had committed as far as a snapshot goes answered its install at once, although its log up to \
                there was not on disk yet",
        fix: "the answer waits until what the journal holds is on disk",
        kept_by: "install-before-disk",
    },
    Regression {
        found_by: "a storm, seed 1719",
        showed_as: "a node ended at its start: its journal was cut above its newest checkpoint",
        cause: "a process died between renaming a checkpoint and syncing its name; the next one believed the checkpoint and let \
                the log go below it, and then a power loss took the name",
        fix: "a start makes the names of a checkpoint durable before it believes it",
        kept_by: "found-name-not-synced",
    },
    Regression {
        found_by: "a storm, seed 1802",
        showed_as: "segments that a checkpoint names were missing, though no disk had rotted",
        cause: "a process died before the names of segments that it had pulled were durable; the next one took them for pulled, \
                installed their manifest without syncing those names, and then a power loss took them",
        fix: "the names of what an earlier life pulled are made durable before its manifest is installed",
        kept_by: "pulled-name-not-synced",
    },
    Regression {
        found_by: "a story of a coordinator that is cut off, seed 500",
        showed_as: "all members of a group had expelled themselves and joined anew, though none was gone (G5d)",
        cause: "the coordinator was cut off from the other nodes and not from the members, which repeated on its stream what it \
                refused for want of a quorum, until their sessions had ended, while another node had long led",
        fix: "a member that is told of no quorum asks another node who coordinates its group",
        kept_by: "a_coordinator_without_a_quorum_is_looked_for_elsewhere",
    },
    Regression {
        found_by: "a storm, seed 1719 of another build",
        showed_as: "a node panicked: openraft found that nothing was applied of what it had told a replica to apply",
        cause: "a replica that was replaced had ended for its node while it waited for its disk to read its log; the log was \
                removed, and the wait then ended with nothing",
        fix: "a replica leaves what it has in hand when it ends, and has ended once openraft has let go of its state machine; a \
              replica that died is opened anew only then, too",
        kept_by: "removed-while-it-applies",
    },
    Regression {
        found_by: "a storm, seed 357 of another build",
        showed_as: "a node panicked: openraft found that it was to take its mark of accepted entries back",
        cause: "while a replica pulled a manifest, the next leader found that its log went on from there; the manifest was \
                installed nevertheless, below the end of the log",
        fix: "before it installs, a replica is asked whether its log follows the manifest; where it does, nothing is installed",
        kept_by: "installs-what-the-log-has",
    },
    Regression {
        found_by: "a storm, seed 627 of another build",
        showed_as: "replicas of a partition differed (G7), and did not",
        cause: "a replica that had just started gave a digest of the part that it had; who compared had no time left to ask \
                again, and took it for one of the whole",
        fix: "a replica gives no digest of a range that it does not have whole, and says what it has; a lag is no damage",
        kept_by: "digest-of-less",
    },
    Regression {
        found_by: "two chaos runs of real processes, seeds 31 and 32, `rot`",
        showed_as: "a node panicked when it started, after bits had flipped in the files of its tables",
        cause: "its tables were emptied by reading them, and sled panics at some damage",
        fix: "tables of an earlier life are thrown away unread",
        kept_by: "what_an_earlier_life_wrote_is_never_read_however_damaged_it_is",
    },
];

/// The file of seeds.
const SCENARIOS: &str = include_str!("../regressions.txt");
/// Instead of a profile: what only real processes show.
const PROCESSES: &str = "processes";

/// A line of the file of seeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// What plays it; `None`: no simulation can.
    pub plan: Option<Plan>,
    /// As [`Regression::kept_by`].
    pub kept_by: &'static str,
    /// What happens, and what is promised of it.
    pub sentence: &'static str,
}

/// Every scenario.
///
/// # Errors
/// The line that is not written as the head of the file says.
pub fn scenarios() -> Result<Vec<Scenario>, String> {
    let lines = SCENARIOS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| scenario(line).ok_or_else(|| line.to_owned())).collect()
}

fn scenario(line: &'static str) -> Option<Scenario> {
    let (run, sentence) = line.split_once(" # ")?;
    let words: Vec<&'static str> = run.split_whitespace().collect();
    let [profile, seed, seconds, kept_by] = words.try_into().ok()?;
    let (seed, seconds) = (seed.parse().ok()?, seconds.parse().ok()?);
    let plan = match profile {
        PROCESSES => None,
        story => Some(Plan { seconds, ..Plan::new(story.parse::<Profile>().ok()?, seed) }),
    };
    Some(Scenario { plan, kept_by, sentence })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn sources(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, all);
            } else if path.extension().is_some_and(|it| it == "rs") {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn every_bug_has_a_scenario_that_is_a_sentence_and_every_scenario_a_bug() {
        let all = scenarios().unwrap();
        for it in TABLE {
            assert!(all.iter().any(|scenario| scenario.kept_by == it.kept_by), "{it:?}");
        }
        for it in all {
            assert!(TABLE.iter().any(|bug| bug.kept_by == it.kept_by), "{it:?}");
            let begins = it.sentence.starts_with(|first: char| first.is_ascii_uppercase());
            assert!(begins && it.sentence.ends_with('.'), "{it:?}");
        }
    }

    #[test]
    fn the_test_that_keeps_a_bug_away_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut all = String::new();
        for folder in ["node/src", "client/src", "client/tests", "tests/tests"] {
            sources(&root.join(folder), &mut all);
        }
        for it in TABLE {
            let (test, bug) =
                (format!("fn {}(", it.kept_by), format!("planted!(\"{}\")", it.kept_by));
            assert!(all.contains(&test) || all.contains(&bug), "{it:?}");
        }
    }
}
