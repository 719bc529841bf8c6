//! Owns the records of the demonstration: numbered ones, or the lines of a file. Never sends them.

use std::path::Path;

use bytes::Bytes;
use waymark_client::ProducerRecord;

use super::super::Failure;

/// The topic of the demonstration.
pub(super) const TOPIC: &str = "test-topic";
/// Records of the first, leisurely round.
pub(super) const FIRST: usize = 10;
/// Keys of numbered records.
const KEYS: usize = 50;
/// The header in which every record carries its place in the order of sending.
const PLACE: &str = "place";

/// Records to send, in this order.
pub(super) struct Input {
    values: Vec<Bytes>,
    /// The file as a whole, if there is one.
    file: Option<Bytes>,
}

impl Input {
    /// `value0`, `value1` … with keys that take turns.
    pub(super) fn counted(more: u32) -> Self {
        let values = (0..FIRST + more as usize).map(|place| format!("value{place}").into());
        Self { values: values.collect(), file: None }
    }

    /// The lines of a file, each without its end of line.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |why: &str| Failure::because(path.display(), why);
        let file = Bytes::from(std::fs::read(path).map_err(|error| failed(&error.to_string()))?);
        let values: Vec<Bytes> = lines(&file).collect();
        if values.len() <= FIRST {
            return Err(failed(&format!("the demonstration needs more than {FIRST} lines")));
        }
        Ok(Self { values, file: Some(file) })
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The key of a record: `key0`, `key1` …, or the number of its line.
    pub(super) fn key(&self, place: usize) -> String {
        match self.file {
            Some(_) => (place + 1).to_string(),
            None if place < FIRST => format!("key{place}"),
            None => format!("key{}", place % KEYS),
        }
    }

    pub(super) fn value(&self, place: usize) -> Option<&Bytes> {
        self.values.get(place)
    }

    pub(super) fn record(&self, place: usize) -> ProducerRecord {
        let record =
            ProducerRecord::new(TOPIC).key(self.key(place)).header(PLACE, place.to_string());
        match self.value(place) {
            Some(value) => record.value(value.clone()),
            None => record,
        }
    }

    /// Whether values in the order of sending make up the file again; `None` without a file.
    pub(super) fn is_file<'a>(
        &self,
        values: impl Iterator<Item = Option<&'a Bytes>>,
    ) -> Option<bool> {
        let file = self.file.as_ref()?;
        let mut again = Vec::with_capacity(file.len());
        for value in values {
            again.extend_from_slice(value.map_or(&[][..], |value| value));
            again.push(b'\n');
        }
        if !file.ends_with(b"\n") {
            again.pop();
        }
        Some(again == *file)
    }
}

/// The place that a record carries.
pub(super) fn place(record: &waymark_client::ConsumerRecord) -> Option<usize> {
    let header = record.headers.iter().find(|header| header.key == PLACE)?;
    std::str::from_utf8(header.value.as_ref()?).ok()?.parse().ok()
}

/// Slices of the one allocation.
fn lines(file: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = file.get(from..).filter(|rest| !rest.is_empty())?;
        let len = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = file.slice(from..from + len);
        from += len + 1;
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(text: &'static str) -> Input {
        let file = Bytes::from_static(text.as_bytes());
        Input { values: lines(&file).collect(), file: Some(file) }
    }

    #[test]
    fn the_lines_of_a_file_make_up_the_file_again() {
        for text in ["a\nb\n", "a\nb", "a\r\n\n\nb\n", "\n", "a"] {
            let input = input(text);
            let same = input.is_file(input.values.iter().map(Some));
            assert_eq!(same, Some(true), "{text:?}");
        }
    }

    #[test]
    fn a_changed_missing_or_moved_line_is_seen() {
        let input = input("a\nb\nc\n");
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        for lines in [vec!["a", "x", "c"], vec!["a", "c"], vec!["a", "c", "b"]] {
            let lines: Vec<Bytes> = lines.into_iter().map(bytes).collect();
            assert_eq!(input.is_file(lines.iter().map(Some)), Some(false));
        }
    }
}
