//! Owns what the demonstration looks like: sections, lines, tables of what was counted. Says nothing but what it is given.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::group::GroupReport;
use super::tally::Report;

const BOLD: &str = "\u{1b}[1m";
const DIM: &str = "\u{1b}[2m";
const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// A terminal, a file, or silence until the final JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    json: bool,
    colour: bool,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json, colour: wanted && std::io::stdout().is_terminal() }
    }

    pub(super) fn title(&self, text: &str) {
        self.write(&self.paint(BOLD, text));
    }

    pub(super) fn section(&self, number: u32, text: &str) {
        self.write(&format!("\n{}", self.paint(BOLD, &format!("{number}  {text}"))));
    }

    pub(super) fn line(&self, text: &str) {
        self.write(&format!("   {text}"));
    }

    pub(super) fn aside(&self, text: &str) {
        self.write(&format!("   {}", self.paint(DIM, text)));
    }

    /// What was counted before the group shares the topic.
    pub(super) fn counts(&self, report: &Report) {
        let counts = &report.counts;
        self.number("records acknowledged", counts.acknowledged, None);
        self.number("read", counts.read, None);
        self.number("lost", counts.lost, Some(counts.lost == 0));
        self.number("duplicated", counts.duplicated, Some(counts.duplicated == 0));
        self.number("out of order", counts.out_of_order, Some(counts.out_of_order == 0));
        if counts.altered > 0 {
            self.number("altered", counts.altered, Some(false));
        }
        if counts.not_acknowledged > 0 {
            self.number("never acknowledged", counts.not_acknowledged, Some(false));
        }
        self.fact("replicas", report.replicas_identical);
        if let Some(identical) = report.file_identical {
            self.fact("file and what was read", identical);
        }
    }

    /// What the group read.
    pub(super) fn group(&self, report: &GroupReport) {
        let counts = &report.counts;
        let number = |what: &str, count: u64, well: Option<bool>| {
            self.number(what, usize::try_from(count).unwrap_or(usize::MAX), well);
        };
        number("records acknowledged", report.records, None);
        number("read by the group", counts.read, None);
        number("lost", counts.lost, Some(counts.lost == 0));
        let planned = counts.repeated_planned;
        number("repeated when planned", planned, Some(planned == 0));
        let (again, due) = (counts.repeated_after_kill, report.uncommitted_at_kill);
        number("repeated after the kill", again, Some(again == due));
        self.aside(&format!(
            "consumer-b had read {} records since its last commit; their next owner began there",
            due
        ));
    }

    /// The last word.
    pub(super) fn result(&self, report: &Report) {
        if self.json {
            // A report is numbers and flags, which JSON always holds.
            let text = serde_json::to_string(report).unwrap_or_default();
            println!("{text}");
            return;
        }
        let held = report.broken_promises().is_empty();
        let (colour, verdict) =
            if held { (GREEN, "Every promise was kept.") } else { (RED, "A promise was broken.") };
        self.write(&format!(
            "\n{} {}",
            self.paint(colour, verdict),
            self.paint(DIM, &format!("{:.1} s in all.", report.seconds))
        ));
    }

    fn number(&self, what: &str, count: usize, well: Option<bool>) {
        let text = grouped(count);
        self.entry(what, &text, well);
    }

    fn fact(&self, what: &str, identical: bool) {
        let text = if identical { "identical" } else { "different" };
        self.entry(what, text, Some(identical));
    }

    fn entry(&self, what: &str, text: &str, well: Option<bool>) {
        let text = format!("{text:>12}");
        let text = match well {
            None => text,
            Some(true) => self.paint(GREEN, &text),
            Some(false) => self.paint(RED, &text),
        };
        self.line(&format!("{what:<24}{text}"));
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }

    fn write(&self, text: &str) {
        if !self.json {
            // A reader that went away is no reason to stop counting.
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }
}

/// `12,345`.
pub(super) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.62 s`, `14 ms`.
pub(super) fn lasted(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_easily() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0, 999, 1000, 12_345_678].map(grouped)[..]
        );
        assert_eq!(lasted(Duration::from_millis(14)), "14 ms");
        assert_eq!(lasted(Duration::from_millis(1620)), "1.62 s");
    }
}
