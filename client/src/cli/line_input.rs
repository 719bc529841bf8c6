//! Owns how a line becomes a record: what is key and what is value. Lines are bytes, not text: nothing is changed, and only
//! the line feed is taken off.

use bytes::Bytes;
use regex::bytes::Regex;

use super::exit::Failure;

/// How lines are taken apart.
#[derive(Debug, Clone)]
pub(super) enum Split {
    /// The whole line is the value; the key, if any, is always the same.
    Whole(Option<Bytes>),
    /// What is before the first separator is the key.
    Separator(Vec<u8>),
    /// The key is the group `key`, or the first group, or the whole match; the line stays whole.
    Pattern(Regex),
}

/// Key and value of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) key: Option<Bytes>,
    pub(super) value: Bytes,
}

impl Split {
    /// From what was given; clap sees to it that it is one at most.
    pub(super) fn new(
        key: Option<&str>,
        separator: Option<&str>,
        pattern: Option<&str>,
    ) -> Result<Self, Failure> {
        if let Some(separator) = separator {
            let separator = super::format::unescape(separator)
                .map_err(|error| Failure::unusable(format!("--key-separator: {error}")))?;
            if separator.is_empty() {
                return Err(Failure::unusable("--key-separator must not be empty"));
            }
            return Ok(Self::Separator(separator));
        }
        match pattern {
            Some(pattern) => Regex::new(pattern)
                .map(Self::Pattern)
                .map_err(|error| Failure::unusable(format!("--key-regex: {error}"))),
            None => Ok(Self::Whole(key.map(|key| Bytes::copy_from_slice(key.as_bytes())))),
        }
    }

    /// Key and value of a line; without the separator, or where the pattern does not match, there is no key.
    pub(super) fn parts(&self, line: Bytes) -> Parts {
        match self {
            Self::Whole(key) => Parts { key: key.clone(), value: line },
            Self::Separator(separator) => match find(&line, separator) {
                Some(at) => {
                    Parts { key: Some(line.slice(..at)), value: line.slice(at + separator.len()..) }
                }
                None => Parts { key: None, value: line },
            },
            Self::Pattern(pattern) => {
                let range = pattern.captures(&line).and_then(|found| {
                    let group = found.name("key").or_else(|| found.get(1));
                    // A pattern without groups: the match itself is the key.
                    let whole = (pattern.captures_len() == 1).then(|| found.get(0)).flatten();
                    group.or(whole).map(|group| group.range())
                });
                Parts { key: range.map(|range| line.slice(range)), value: line }
            }
        }
    }
}

fn find(line: &[u8], separator: &[u8]) -> Option<usize> {
    line.windows(separator.len()).position(|window| window == separator)
}

/// The line without its line feed.
pub(super) fn without_line_feed(mut line: Vec<u8>) -> Bytes {
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Bytes::from(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(split: &Split, line: &'static str) -> (Option<String>, String) {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let parts = split.parts(Bytes::from_static(line.as_bytes()));
        (parts.key.as_ref().map(text), text(&parts.value))
    }

    fn pair(key: Option<&str>, value: &str) -> (Option<String>, String) {
        (key.map(str::to_owned), value.to_owned())
    }

    #[test]
    fn the_first_separator_parts_key_from_value() {
        let by = Split::new(None, Some("\\t"), None).unwrap();
        assert_eq!(split(&by, "k\tv\tw"), pair(Some("k"), "v\tw"));
        assert_eq!(split(&by, "\tv"), pair(Some(""), "v"));
        assert_eq!(split(&by, "no separator"), pair(None, "no separator"));
        let by = Split::new(None, Some("::"), None).unwrap();
        assert_eq!(split(&by, "k::"), pair(Some("k"), ""));
        assert!(Split::new(None, Some(""), None).is_err());
    }

    #[test]
    fn a_pattern_takes_the_group_named_key_then_the_first_then_the_match() {
        let by = |pattern| Split::new(None, None, Some(pattern)).unwrap();
        assert_eq!(split(&by(r"(\w+) (?<key>\d+)"), "a 7"), pair(Some("7"), "a 7"));
        assert_eq!(split(&by(r"^(\S+) "), "host GET /"), pair(Some("host"), "host GET /"));
        assert_eq!(split(&by(r"\d+"), "x 42"), pair(Some("42"), "x 42"));
        assert_eq!(split(&by(r"^(\d+)"), "x"), pair(None, "x"));
        assert!(Split::new(None, None, Some("(")).is_err());
    }

    #[test]
    fn a_group_that_took_no_part_gives_no_key() {
        let by = Split::new(None, None, Some(r"a|(b)")).unwrap();
        assert_eq!(split(&by, "a"), pair(None, "a"));
    }

    #[test]
    fn only_the_line_feed_is_taken_off() {
        assert_eq!(without_line_feed(b"a\r\n".to_vec()), "a\r");
        assert_eq!(without_line_feed(b"a".to_vec()), "a");
        assert_eq!(without_line_feed(b"\n".to_vec()), "");
    }
}
