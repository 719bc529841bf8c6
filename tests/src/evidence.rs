//! Writes tests/EVIDENCE.md from the notes of runs: what was run, what struck, what was reached, what was checked, and what is
//! not drawn and why. Never runs anything, and says nothing that the notes do not say.

use std::fmt::Write as _;

use crate::done::Done;
use crate::invariants;
use crate::log_lines;
use crate::mutants;
use crate::outcome::Outcome;
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
- Rot of what only one more replica has yet, and then that one lost as well: the third is still waiting for it.
- A disk that says it has synced and has not, whose machine loses power while not every other replica has what it lies about:
  what a quorum acknowledged may then be on one disk only, and the two others elect a leader without it.
";

/// What is not as good as it should be, and what the simulation does not judge.
const WEAKNESSES: &str = "\
- While a replica pulls what it lacks it acknowledges nothing new. With another node down, its shard waits that long: no
  promise is broken, and no partition of it is served.
- A follower below its last sound mark gets no entries before all up to it were fetched, and its retention waits with it.
- `waymark recover` helps where at least one sound replica is left; where the vote or the end of the log is in doubt on all
  of them, nothing but a copy from elsewhere does.
- Simulated nodes run on one thread. Races between threads are left to the chaos run, which has real processes and no seed.
- Bounds are judged of bytes that wait for a disk and of open files; connections and the journal's size are not.
";

/// The whole file.
#[must_use]
pub fn of(done: &Done) -> String {
    let runs: Vec<(&str, &Outcome)> = done.all().collect();
    let mut text = String::from(
        "# Evidence\n\nWritten by `cargo run --profile sim -p waymark-tests --bin sim -- --evidence tests/EVIDENCE.md` from the notes of
runs that one build of the simulation has made. Every run repeats from its seed.\n\n",
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
(`tests/src/log_lines.rs`), no client waits without a deadline, and every partition takes records within ten seconds after
a storm although a minority stays frozen. (Where disks rotted, it is frozen once all replicas have what their leaders have.)\n");
    text.push_str("\n## Log lines that may appear\n\n| target | says | because |\n|---|---|---|\n");
    for (target, says, why) in log_lines::reasons() {
        let _ = writeln!(text, "| {target} | {says} | {why} |");
    }
    text.push_str("\n## Planted bugs\n\n`sim --mutants` plants each, and fails when one is not found.\n\n| bug | shows in | as | seeds it took |\n|---|---|---|---|\n");
    for mutant in mutants::TABLE {
        let seeds =
            done.found(mutant).map_or("not looked for".to_owned(), |it| it.seeds.to_string());
        let mutants::Mutant { name, profile, breaks, .. } = mutant;
        let _ = writeln!(text, "| {name} | {profile} | {breaks} | {seeds} |");
    }
    text.push_str("\n## Bugs that these runs have found\n\n| found by | showed as | cause | fix | kept away by |\n|---|---|---|---|---|\n");
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

fn totals(text: &mut String, runs: &[(&str, &Outcome)]) {
    text.push_str("## Runs\n\n| profile | runs | failed | simulated minutes | records acknowledged |\n|---|---|---|---|---|\n");
    for profile in Profile::ALL {
        let mark = format!("--profile {profile} ");
        let own: Vec<&Outcome> =
            runs.iter().filter(|(plan, _)| plan.starts_with(&mark)).map(|(_, it)| *it).collect();
        if own.is_empty() {
            continue;
        }
        let failed = own.iter().filter(|it| !it.held()).count();
        let minutes = own.iter().map(|it| it.simulated_ms).sum::<u64>() / 60_000;
        let records: u64 = own.iter().map(|it| it.acknowledged).sum();
        let _ = writeln!(text, "| {profile} | {} | {failed} | {minutes} | {records} |", own.len());
    }
}

fn counts(text: &mut String, runs: &[(&str, &Outcome)]) {
    let of = |name: &str| -> (u64, usize) {
        let counts = runs.iter().filter_map(|(_, it)| it.counts.get(name));
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
            simulated_ms: 120_000,
            counts: [("crash".to_owned(), 3)].into(),
            ..Outcome::default()
        };
        let failed = Outcome { broken: Some("a panic".to_owned()), ..Outcome::default() };
        done.note(&Plan::new(Profile::Swarm, 1), &held);
        done.note(&Plan::new(Profile::Swarm, 2), &failed);
        let text = of(&Done::at(&path));
        assert!(text.contains("| swarm | 2 | 1 | 2 | 70 |"), "{text}");
        assert!(text.contains("| F6 | crash | 3 | 1 |"), "{text}");
    }
}
