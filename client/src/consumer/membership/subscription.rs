//! Owns what a consumer wants to read of its group's topics. Matching patterns is the coordinator's.

use waymark_proto::v1 as wire;

use crate::error::{Error, Result};

/// Topics by name and by pattern; both add up. A topic that does not exist is no error: it is read once it does.
///
/// ```
/// use waymark_client::Subscription;
/// let subscription = Subscription::topics(["orders", "returns"]).and_pattern("audit-.*");
/// assert_eq!(subscription.names(), ["orders", "returns"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    topics: Vec<String>,
    pattern: Option<String>,
}

impl Subscription {
    /// These topics.
    pub fn topics<S: Into<String>>(topics: impl IntoIterator<Item = S>) -> Self {
        let mut topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        topics.sort_unstable();
        topics.dedup();
        Self { topics, pattern: None }
    }

    /// All topics whose whole name matches, now and later. RE2 syntax; the coordinator matches.
    pub fn pattern(pattern: impl Into<String>) -> Self {
        Self::default().and_pattern(pattern)
    }

    /// These topics and all whose whole name matches.
    #[must_use]
    pub fn and_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }

    /// The topics named.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.topics
    }

    /// The pattern, if there is one.
    #[must_use]
    pub fn regex(&self) -> Option<&str> {
        self.pattern.as_deref()
    }

    pub(in crate::consumer) fn check(&self) -> Result<()> {
        let names_nothing =
            self.topics.iter().all(String::is_empty) && self.regex().is_none_or(str::is_empty);
        if names_nothing { Err(Error::EmptySubscription) } else { Ok(()) }
    }

    pub(super) fn to_wire(&self) -> wire::Subscription {
        wire::Subscription {
            topics: self.topics.clone(),
            pattern: self.pattern.clone().unwrap_or_default(),
        }
    }
}
