//! Writes tests/EVIDENCE.md from the notes of runs: of which build they are, what was run, what struck, what was reached, what
//! was checked, and what is not drawn and why. Never runs anything, and says nothing that the notes do not say.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::checkout::Checkout;
use crate::done::Done;
use crate::invariants;
use crate::log_lines;
use crate::mutants;
use crate::outcome::Outcome;
use crate::plan::STORM_SECONDS;
use crate::profile::Profile;
use crate::regressions;
use crate::storm::FaultClass;
use crate::table;
use crate::view::RULES;

/// What no storm does, and why.
const NOT_DRAWN: &str = "\
- Losses that cannot be told from a torn tail: a flush that was synced and is gone without a trace at the very end of a
  journal (S2). Nobody who reads that disk can know that it was there.
- The vote, or the end of the log, in doubt on two of three replicas of a shard at once: whoever is left is no majority.
- Rot of records that fewer than two others have yet, or cannot give because their own checkpoint has rotted, and the other way
  round: a replica without a checkpoint gives nothing, and the third may still be waiting for both.
- A disk that says it has synced and has not, whose machine loses power while not every other replica has what it lies about:
  what a quorum acknowledged may then be on one disk only, and the two others elect a leader without it.
";

/// What is not as good as it should be, and what the simulation does not judge.
const WEAKNESSES: &str = "\
- A replica whose checkpoint has rotted waits for a peer's; meanwhile it does not vote, and gives nobody what else it has. With the
  disk of a second replica lost just then, the shard stands still although the third has everything: an operator decides, with
  `waymark recover`. With records of the second rotten that the third has yet to pull, it stands still although each of them
  is sound somewhere. Storms let nothing rot while a copy is missing, and no disk be lost while something has rotted.
- A replica that lost what it had acknowledged runs on under its id while its shard has no majority without it: in a shard of
  two always, in a shard of three while another one is being replaced or its node is down. The node that saw it says so, until it
  ends; the vote of that replica may be lost as well.
- While a replica pulls what it lacks it acknowledges nothing new. With another node down, its shard waits that long: no
  promise is broken, and no partition of it is served.
- A follower below its last sound mark gets no entries before all up to it were fetched, and its retention waits with it.
- `waymark recover` helps where at least one sound replica is left; where the vote or the end of the log is in doubt on all
  of them, nothing but a copy from elsewhere does.
- Simulated nodes run on one thread. Races between threads are left to the chaos run, which has real processes and no seed.
- A machine that stands still (F15) stands still for all others, its messages and timers with it; what its process had in hand
  then goes on. The chaos run stops real processes.
- Calls that arrive twice (F5) are those between nodes; a client's own are repeated only as its retries do it.
- Retention by age is not drawn together with jumps of clocks; retention by size is.
- In storms any member may lose its group: whom a group expels, and why (G5d), is judged in the stories of groups alone.
- Bounds are judged of bytes that wait for a disk and of open files; connections and the journal's size are not. No planted bug
  breaks a bound of a whole cluster: the bounds are for the worst that may happen, and what was tried let in more and stayed within.
";

/// The whole file.
#[must_use]
pub fn of(done: &Done, checkout: &Checkout) -> String {
    let runs: Vec<Plain<'_>> = done.all().filter_map(|(plan, it)| Plain::of(plan, it)).collect();
    let build = done.build();
    let mut text = format!(
        "# Evidence\n\nWritten by `cargo run --profile sim -p waymark-tests --bin sim -- --evidence tests/EVIDENCE.md` from the notes of
runs that one build of the simulation has made. Every run repeats from its seed.\n
The build has the checksum `{build}` (CRC-32C of the binary `sim`, which names the file of notes). When this was written, its
checkout was at {checkout}.\n\n",
    );
    totals(&mut text, &runs);
    counts(&mut text, &runs);
    text.push_str("\n## What is checked\n\n| promise | |\n|---|---|\n");
    let promises = invariants::TABLE.iter().map(|it| (it.id, it.sentence));
    for (id, sentence) in promises.chain(RULES) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {id} | {sentence} |");
    }
    text.push_str("\nBeside these: no node panics, no node ends that need not, no error and no warning is logged without a reason
(`tests/src/log_lines.rs`), no client waits without a deadline, and every partition takes and gives records within ten seconds
after a storm although a minority stays frozen. (Where disks rotted, it is frozen once all replicas have what their leaders have.)\n");
    text.push_str("\n## Log lines that may appear\n\n| target | says | because |\n|---|---|---|\n");
    for (target, says, why) in log_lines::reasons() {
        let _ = writeln!(text, "| {target} | {says} | {why} |");
    }
    text.push_str("\n## Planted bugs\n\n`sim --mutants` plants each, and fails when one is not found. It is found when what is named here broke, and the same
run without it held.\n\n| bug | against | shows in | as | by seed | seeds tried |\n|---|---|---|---|---|---|\n");
    for mutant in mutants::TABLE {
        let (seed, seeds) = done.found(mutant).map_or_else(
            || ("not looked for".to_owned(), "0".to_owned()),
            |it| (it.seed.to_string(), it.seeds.to_string()),
        );
        let mutants::Mutant { name, against, profile, shows, .. } = mutant;
        let _ = writeln!(text, "| {name} | {against} | {profile} | {shows} | {seed} | {seeds} |");
    }
    text.push_str(
        "\nPromises and rules that none of them is found by:\n\n| promise | why |\n|---|---|\n",
    );
    for (id, why) in mutants::NOT_SHOWN {
        let _ = writeln!(text, "| {id} | {why} |");
    }
    text.push_str("\n## Bugs that these runs have found\n\nThe scenario of each, with a seed that plays it, is in `tests/regressions.txt`; a test replays them.\n\n| found by | showed as | cause | fix | kept away by |\n|---|---|---|---|---|\n");
    for it in regressions::TABLE {
        let regressions::Regression { found_by, showed_as, cause, fix, kept_by } = it;
        let _ = writeln!(text, "| {found_by} | {showed_as} | {cause} | {fix} | `{kept_by}` |");
    }
    let _ = write!(
        text,
        "\n## What is not drawn\n\nNo system could keep its promises through these:\n\n{NOT_DRAWN}
## Known weaknesses\n\nThese runs have shown them, or cannot show them:\n\n{WEAKNESSES}"
    );
    text
}

/// A run as its seed decides it: nothing planted, no fault chosen or left out by hand.
struct Plain<'a> {
    profile: &'a str,
    seed: u64,
    /// How long its storm lasted, if it was one.
    storm_seconds: Option<u64>,
    outcome: &'a Outcome,
}

impl<'a> Plain<'a> {
    /// From the arguments of a run.
    fn of(plan: &'a str, outcome: &'a Outcome) -> Option<Self> {
        let words: Vec<&str> = plan.split(' ').collect();
        if words.iter().any(|word| ["--plant", "--only", "--without"].contains(word)) {
            return None;
        }
        let value_of = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            words.get(at + 1).copied()
        };
        let profile = value_of("--profile")?;
        let seed = value_of("--seed")?.parse().ok()?;
        let seconds = value_of("--seconds").map_or(Ok(STORM_SECONDS), str::parse).ok()?;
        let storm_seconds = (profile == Profile::Swarm.name()).then_some(seconds);
        Some(Self { profile, seed, storm_seconds, outcome })
    }
}

/// A row for each story and each length of storms, and one for all.
fn totals(text: &mut String, runs: &[Plain<'_>]) {
    text.push_str("## Runs\n\nOnly runs as their seeds decide them: none with a planted bug, or with faults chosen by hand. Speed is simulated seconds
for each second of one process, each on a core of a shared machine.\n
| profile | seconds of storm | seeds | runs | failed | simulated hours | speed | records acknowledged | records read |\n|---|---|---|---|---|---|---|---|---|\n");
    for profile in Profile::ALL {
        let own = || runs.iter().filter(|run| run.profile == profile.name());
        let lengths: BTreeSet<Option<u64>> = own().map(|run| run.storm_seconds).collect();
        for length in lengths {
            let storm = length.map_or("a story".to_owned(), |seconds| seconds.to_string());
            let same = own().filter(|run| run.storm_seconds == length);
            row(text, (profile.name(), &storm), same);
        }
    }
    row(text, ("all", ""), runs.iter());
}

fn row<'a>(
    text: &mut String,
    (profile, storm): (&str, &str),
    runs: impl Iterator<Item = &'a Plain<'a>>,
) {
    let runs: Vec<&Plain<'_>> = runs.collect();
    let seeds = || runs.iter().map(|run| run.seed);
    let (first, last) = (seeds().min().unwrap_or(0), seeds().max().unwrap_or(0));
    let all: Vec<&Outcome> = runs.iter().map(|run| run.outcome).collect();
    let sum = |of: fn(&Outcome) -> u64| all.iter().map(|it| of(it)).sum::<u64>();
    let failed = all.iter().filter(|it| !it.held()).count();
    let hundredths = sum(|it| it.simulated_ms) / 36_000;
    let speed = sum(|it| it.simulated_ms) / sum(|it| it.real_ms).max(1);
    let _ = writeln!(
        text,
        "| {profile} | {storm} | {first} to {last} | {} | {failed} | {}.{:02} | {speed} | {} | {} |",
        all.len(),
        hundredths / 100,
        hundredths % 100,
        sum(|it| it.acknowledged),
        sum(|it| it.read)
    );
}

fn counts(text: &mut String, runs: &[Plain<'_>]) {
    let of = |name: &str| -> (u64, usize) {
        let counts = runs.iter().filter_map(|run| run.outcome.counts.get(name));
        (counts.clone().sum(), counts.count())
    };
    text.push_str("\n## Faults\n\n| fault | | struck | in runs |\n|---|---|---|---|\n");
    for class in FaultClass::all() {
        let (struck, in_runs) = of(class.name());
        let _ = writeln!(text, "| {} | {class} | {struck} | {in_runs} |", class.id());
    }
    text.push_str("\n## States reached\n\n| state | times | in runs |\n|---|---|---|\n");
    for state in table::states().chain(table::states_of_stories()) {
        let (times, in_runs) = of(state);
        let _ = writeln!(text, "| {state} | {times} | {in_runs} |");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    #[test]
    fn what_was_run_is_summed_by_profile_and_what_failed_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.jsonl");
        let done = Done::at(&path);
        let held = Outcome {
            acknowledged: 70,
            read: 210,
            simulated_ms: 1_800_000,
            real_ms: 150_000,
            counts: [("crash".to_owned(), 3)].into(),
            ..Outcome::default()
        };
        let failed = Outcome { broken: Some("a panic".to_owned()), ..Outcome::default() };
        done.note(&Plan::new(Profile::Swarm, 1), &held);
        done.note(&Plan::new(Profile::Swarm, 2), &failed);
        done.note(&Plan { seconds: 20, ..Plan::new(Profile::Swarm, 1) }, &held);
        done.note(&Plan { plant: Some("vote-not-synced"), ..Plan::new(Profile::Swarm, 3) }, &held);
        let only = [FaultClass::Rot].into();
        done.note(&Plan { only, ..Plan::new(Profile::Swarm, 4) }, &held);
        done.note(&Plan::new(Profile::Calm, 1), &held);
        let checkout = Checkout { commit: Some("0a1b".to_owned()), is_changed: true };
        let text = of(&Done::at(&path), &checkout);
        assert!(text.contains("| swarm | 60 | 1 to 2 | 2 | 1 | 0.50 | 12 | 70 | 210 |"), "{text}");
        assert!(text.contains("| swarm | 20 | 1 to 1 | 1 | 0 | 0.50 | 12 | 70 | 210 |"), "{text}");
        assert!(
            text.contains("| calm | a story | 1 to 1 | 1 | 0 | 0.50 | 12 | 70 | 210 |"),
            "{text}"
        );
        assert!(text.contains("| all |  | 1 to 2 | 4 | 1 | 1.50 | 12 | 210 | 630 |"), "{text}");
        assert!(text.contains("| F6 | crash | 9 | 3 |"), "{text}");
        assert!(text.contains("checksum `notes`"), "{text}");
        assert!(text.contains("commit `0a1b`, with changes that are in no commit"), "{text}");
    }
}
