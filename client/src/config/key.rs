//! Owns what a configuration key is: name, type, default, legal values and meaning; parses one value against it and names
//! what is legal when it is not. Never knows which keys exist.

use std::time::Duration;

/// A configuration that cannot be used, said so that the reader knows what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such key in Kafka or here.
    #[error("unknown key {key:?}; the nearest legal keys are {}", nearest.join(", "))]
    UnknownKey {
        /// As given.
        key: String,
        /// What may have been meant, nearest first.
        nearest: Vec<&'static str>,
    },
    /// A key of Kafka's that has no meaning here yet.
    #[error("key {key:?} is not supported: {why}; {instead}")]
    Unsupported {
        /// As given.
        key: String,
        /// Why.
        why: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// The value is not legal for the key.
    #[error("{value:?} is no legal value of {key:?}: expected {legal}")]
    IllegalValue {
        /// The key.
        key: String,
        /// As given.
        value: String,
        /// What is legal.
        legal: String,
    },
    /// Two keys that cannot both hold.
    #[error("{key:?} {rule}")]
    Conflict {
        /// The key to change.
        key: &'static str,
        /// The relation that does not hold.
        rule: String,
    },
    /// A key without which nothing works.
    #[error("key {key:?} is required: {doc}")]
    Missing {
        /// The key.
        key: &'static str,
        /// Its meaning.
        doc: &'static str,
    },
}

/// The type of a key's value, with its legal range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// Any text that is not empty.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number from the first to the second, in the named unit.
    Number(i64, i64, &'static str),
    /// Texts separated by commas, at least one.
    List,
    /// One of these words; letter case does not matter.
    Word(&'static [&'static str]),
    /// Some of these words, separated by commas, at least one; letter case does not matter.
    Words(&'static [&'static str]),
}

impl ValueType {
    /// What is legal, in words.
    #[must_use]
    pub fn legal(&self) -> String {
        match self {
            Self::Text => "a text that is not empty".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Number(low, high, unit) => format!("a whole number {low}..={high} ({unit})"),
            Self::List => "one or more texts separated by commas".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Words(words) => format!("one or more of {}", words.join(", ")),
        }
    }

    fn parse(&self, text: &str) -> Option<Value> {
        let text = text.trim();
        match self {
            Self::Text => (!text.is_empty()).then(|| Value::Text(text.to_owned())),
            Self::Bool => match text.to_ascii_lowercase().as_str() {
                "true" => Some(Value::Bool(true)),
                "false" => Some(Value::Bool(false)),
                _ => None,
            },
            Self::Number(low, high, _) => {
                let number = text.parse::<i64>().ok()?;
                (*low..=*high).contains(&number).then_some(Value::Number(number))
            }
            Self::List => {
                let items: Vec<String> = items(text).map(str::to_owned).collect();
                (!items.is_empty()).then_some(Value::List(items))
            }
            Self::Word(words) => spelled(words, text).map(Value::Word),
            Self::Words(words) => {
                let found: Option<Vec<String>> =
                    items(text).map(|item| spelled(words, item).map(str::to_owned)).collect();
                found.filter(|found| !found.is_empty()).map(Value::List)
            }
        }
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The word as the list spells it.
fn spelled(words: &'static [&'static str], text: &str) -> Option<&'static str> {
    words.iter().find(|word| word.eq_ignore_ascii_case(text)).copied()
}

/// A value that has passed its key's check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// See [`ValueType::Text`].
    Text(String),
    /// See [`ValueType::Bool`].
    Bool(bool),
    /// See [`ValueType::Number`].
    Number(i64),
    /// See [`ValueType::List`] and [`ValueType::Words`].
    List(Vec<String>),
    /// See [`ValueType::Word`]; spelled as in the list.
    Word(&'static str),
}

/// The typed getters give the type's zero for another variant: [`Key::set`] is only called with what [`Key::value_type`]
/// parsed, and a test sets every key of every table.
impl Value {
    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Word(word) => (*word).to_owned(),
            _ => String::new(),
        }
    }

    /// The truth value.
    #[must_use]
    pub fn flag(&self) -> bool {
        matches!(self, Self::Bool(true))
    }

    /// The number.
    #[must_use]
    pub fn number(&self) -> i64 {
        if let Self::Number(number) = self { *number } else { 0 }
    }

    /// The number as a size in bytes or records.
    #[must_use]
    pub fn size(&self) -> usize {
        usize::try_from(self.number()).unwrap_or(0)
    }

    /// The number as milliseconds.
    #[must_use]
    pub fn millis(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.number()).unwrap_or(0))
    }

    /// The texts.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        if let Self::List(items) = self { items.clone() } else { Vec::new() }
    }
}

/// A key that is supported, for a configuration of type `C`.
#[derive(Debug, Clone, Copy)]
pub struct Key<C> {
    /// Kafka's name.
    pub name: &'static str,
    /// Type and legal range.
    pub value_type: ValueType,
    /// What holds when the key is not given, in the form in which it would be given; empty: nothing.
    pub default: &'static str,
    /// Meaning.
    pub doc: &'static str,
    /// Puts a checked value in its place.
    pub set: fn(&mut C, &Value),
}

impl<C> Key<C> {
    /// Parses the text and puts it in its place.
    ///
    /// # Errors
    /// When the text is not legal for this key; the error says what is.
    pub fn apply(&self, config: &mut C, text: &str) -> Result<(), ConfigError> {
        let value = self.value_type.parse(text).ok_or_else(|| ConfigError::IllegalValue {
            key: self.name.to_owned(),
            value: text.to_owned(),
            legal: self.value_type.legal(),
        })?;
        (self.set)(config, &value);
        Ok(())
    }
}

/// The three candidates nearest to what was written, by edit distance.
pub(super) fn nearest(
    key: &str,
    candidates: impl Iterator<Item = &'static str>,
) -> Vec<&'static str> {
    let mut ranked: Vec<_> = candidates.map(|name| (distance(key, name), name)).collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.into_iter().take(3).map(|(_, name)| name).collect()
}

fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_to_a_typo_is_the_one_meant() {
        let keys = ["linger.ms", "batch.size", "max.block.ms"];
        assert_eq!(nearest("lingerms", keys.into_iter())[0], "linger.ms");
    }

    #[test]
    fn a_word_is_found_in_any_letter_case() {
        assert_eq!(ValueType::Word(&["zstd"]).parse(" ZSTD "), Some(Value::Word("zstd")));
        assert_eq!(ValueType::Word(&["zstd"]).parse("brotli"), None);
    }

    #[test]
    fn one_wrong_word_spoils_a_list_of_words() {
        let words = ValueType::Words(&["range", "sticky"]);
        let both = Value::List(vec!["sticky".to_owned(), "range".to_owned()]);
        assert_eq!(words.parse("Sticky, range"), Some(both));
        assert_eq!(words.parse("sticky, mine"), None);
        assert_eq!(words.parse(" "), None);
    }

    #[test]
    fn a_number_outside_its_range_is_refused() {
        let number = ValueType::Number(1, 5, "requests");
        assert_eq!(number.parse("5"), Some(Value::Number(5)));
        assert_eq!(number.parse("6"), None);
        assert_eq!(number.parse("five"), None);
    }
}
