//! What a run came to, as its process tells it: one line of JSON at the end, read back by whoever started the process.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The line begins so.
const MARK: &str = "outcome ";

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The hash of all events, and how many they were.
    pub fingerprint: String,
    /// Appends acknowledged.
    pub acknowledged: u64,
    /// Records that readers were given.
    pub read: u64,
    /// How long the run lasted in its own time, milliseconds.
    pub simulated_ms: u64,
    /// … and in that of the machine that ran it: nothing follows from it.
    pub real_ms: u64,
    /// Promises broken, id first.
    pub violations: Vec<String>,
    /// A node fell over, or the cluster did not serve again.
    pub broken: Option<String>,
    /// Faults that struck and states that were reached.
    pub counts: BTreeMap<String, u64>,
}

impl Outcome {
    /// Every promise held.
    #[must_use]
    pub fn held(&self) -> bool {
        self.violations.is_empty() && self.broken.is_none()
    }

    /// What went wrong, in few words: the id of the first promise broken, or the kind of what ended the run. Two runs that fail in the same way
    /// have the same.
    #[must_use]
    pub fn signature(&self) -> Option<String> {
        let first = self.violations.first().map(|it| id_of(it).to_owned());
        first.or_else(|| self.broken.as_deref().map(kind_of))
    }

    /// The last line of a run.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{MARK}{}", self.to_json())
    }

    /// The outcome among the lines of a process; `None`: it ended before.
    #[must_use]
    pub fn among(output: &str) -> Option<Self> {
        let line = output.lines().rev().find_map(|line| line.strip_prefix(MARK))?;
        Self::from_json(&serde_json::from_str(line).ok()?)
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "fingerprint": self.fingerprint,
            "acknowledged": self.acknowledged,
            "read": self.read,
            "simulated_ms": self.simulated_ms,
            "real_ms": self.real_ms,
            "violations": self.violations,
            "broken": self.broken,
            "counts": self.counts,
        })
    }

    /// Back from JSON.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        let word = |it: &Value| it.as_str().map(str::to_owned);
        let words = |it: &Value| it.as_array()?.iter().map(word).collect::<Option<_>>();
        let count = |(name, count): (&String, &Value)| Some((name.clone(), count.as_u64()?));
        Some(Self {
            fingerprint: value["fingerprint"].as_str()?.to_owned(),
            acknowledged: value["acknowledged"].as_u64()?,
            read: value["read"].as_u64()?,
            simulated_ms: value["simulated_ms"].as_u64()?,
            real_ms: value["real_ms"].as_u64()?,
            violations: words(&value["violations"])?,
            broken: value["broken"].as_str().map(str::to_owned),
            counts: value["counts"].as_object()?.iter().map(count).collect::<Option<_>>()?,
        })
    }
}

/// The id of a violation in words.
#[must_use]
pub fn id_of(violation: &str) -> &str {
    violation.split(':').next().unwrap_or_default()
}

/// Of why a run ended, what two runs have in common that end for the same reason: the words before the first colon, without
/// their numbers.
fn kind_of(broken: &str) -> String {
    let words = broken.split(':').next().unwrap_or_default();
    words.replace(|letter: char| letter.is_ascii_digit(), "#")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_found_among_the_lines_of_its_process() {
        let outcome = Outcome {
            fingerprint: "0011 of 2 events".to_owned(),
            acknowledged: 7,
            read: 21,
            simulated_ms: 61_000,
            real_ms: 3_000,
            violations: vec!["G1: value 3 is gone".to_owned()],
            broken: Some("a host ended".to_owned()),
            counts: BTreeMap::from([("crash".to_owned(), 3)]),
        };
        let output = format!("some words\n{}\n", outcome.line());
        assert_eq!(Outcome::among(&output), Some(outcome.clone()));
        assert_eq!(outcome.signature().as_deref(), Some("G1"));
        assert_eq!(Outcome::among("some words"), None);
    }

    #[test]
    fn runs_that_end_for_other_reasons_have_other_signatures() {
        let of = |why: &str| {
            let broken = Some(why.to_owned());
            Outcome { broken, ..Outcome::default() }.signature()
        };
        assert_eq!(of("1 panics at 10.102s: here"), of("1 panics at 59.871s: there"));
        assert_ne!(of("1 panics at 10.102s"), of("unexpected log lines: 1 panics"));
        assert_eq!(Outcome::default().signature(), None);
    }
}
