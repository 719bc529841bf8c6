//! Owns the notes of runs that are done, so that an interrupted batch goes on where it was: a line for each run, in a file
//! for each build of the simulation. A build that differs has to run everything again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::binary;
use crate::mutants::{Found, Mutant};
use crate::outcome::Outcome;
use crate::plan::Plan;

/// Runs that are done.
#[derive(Debug)]
pub struct Done {
    /// By the arguments of the run.
    before: BTreeMap<String, Outcome>,
    /// Planted bugs that were found, by their names.
    found: BTreeMap<String, Found>,
    /// What names the build that they are of.
    build: String,
    notes: Option<Mutex<File>>,
}

impl Done {
    /// Of this build. Without a place to write, nothing is remembered.
    #[must_use]
    pub fn open() -> Self {
        Self::at(&notes_of_this_build())
    }

    /// With the notes of this file.
    pub(crate) fn at(path: &Path) -> Self {
        let before = fs::read_to_string(path).unwrap_or_default();
        let (before, found) = (
            before.lines().filter_map(one).collect(),
            before.lines().filter_map(one_found).collect(),
        );
        if let Some(folder) = path.parent() {
            // Whether it is there shows when the file is opened.
            let _ = fs::create_dir_all(folder);
        }
        let notes = OpenOptions::new().create(true).append(true).open(path);
        let build = path.file_stem().map(|it| it.to_string_lossy().into_owned());
        let build = build.unwrap_or_default();
        Self { before, found, build, notes: notes.ok().map(Mutex::new) }
    }

    /// What names the build that the notes are of: the checksum of its binary.
    #[must_use]
    pub fn build(&self) -> &str {
        &self.build
    }

    /// Every run that was noted, by its arguments; of several the last.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Outcome)> {
        self.before.iter().map(|(plan, outcome)| (plan.as_str(), outcome))
    }

    /// What a run came to that is done. One that failed is to be run again.
    #[must_use]
    pub fn outcome_of(&self, plan: &Plan) -> Option<Outcome> {
        self.before.get(&plan.arguments().join(" ")).filter(|it| it.held()).cloned()
    }

    /// How a planted bug was found.
    #[must_use]
    pub fn found(&self, mutant: &Mutant) -> Option<&Found> {
        self.found.get(mutant.name)
    }

    /// A run is done.
    pub fn note(&self, plan: &Plan, outcome: &Outcome) {
        self.write(&json!({ "plan": plan.arguments().join(" "), "outcome": outcome.to_json() }));
    }

    /// A planted bug was found.
    pub fn note_found(&self, mutant: &Mutant, found: &Found) {
        let Found { seed, seeds } = found;
        self.write(&json!({ "planted": mutant.name, "seed": seed, "seeds": seeds }));
    }

    fn write(&self, line: &Value) {
        let Some(notes) = &self.notes else { return };
        let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
        // What is not noted is run again.
        let _ = writeln!(notes, "{line}");
    }
}

fn one(line: &str) -> Option<(String, Outcome)> {
    let value: Value = serde_json::from_str(line).ok()?;
    Some((value["plan"].as_str()?.to_owned(), Outcome::from_json(&value["outcome"])?))
}

fn one_found(line: &str) -> Option<(String, Found)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let found = Found { seed: value["seed"].as_u64()?, seeds: value["seeds"].as_u64()? };
    Some((value["planted"].as_str()?.to_owned(), found))
}

/// Beside the binary, named by what is in it.
fn notes_of_this_build() -> PathBuf {
    let binary = binary::path("sim");
    let sum = fs::read(&binary).map_or(0, |bytes| crc32c::crc32c(&bytes));
    binary.with_file_name("sim-runs").join(format!("{sum:08x}.jsonl"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    #[test]
    fn a_run_that_held_is_remembered_and_one_that_failed_is_run_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/notes.jsonl");
        let (held, failed) = (Plan::new(Profile::Calm, 1), Plan::new(Profile::Calm, 2));
        let outcome = Outcome { acknowledged: 9, ..Outcome::default() };
        let broken = Outcome { broken: Some("a panic".to_owned()), ..Outcome::default() };
        let done = Done::at(&path);
        done.note(&held, &outcome);
        done.note(&failed, &broken);
        let bug = &crate::mutants::TABLE[0];
        let found = Found { seed: 3, seeds: 2 };
        done.note_found(bug, &found);
        let done = Done::at(&path);
        assert_eq!(done.found(bug), Some(&found));
        assert_eq!(done.outcome_of(&held), Some(outcome));
        assert_eq!(done.outcome_of(&failed), None);
    }
}
