//! Owns what a subscription means just now: names and patterns against the topics that this node's catalog knows. What it
//! finds goes into the group's log as data (S16). Never asks another node: a topic that is heard of later is picked up then.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicId;

use crate::broker::Core;
use crate::broker::refusal::failure;
use crate::state::catalog::{TopicEntry, TopicPhase};
use crate::state::groups::{Subscription, TopicFacts};

/// Memory that one compiled pattern may take, bytes.
const PATTERN_BYTES: usize = 1 << 20;

/// A pattern that whole names match.
pub(super) fn whole(pattern: &str) -> Result<Option<Regex>, Failure> {
    if pattern.is_empty() {
        return Ok(None);
    }
    let anchored = format!("^(?:{pattern})$");
    let built = regex::RegexBuilder::new(&anchored).size_limit(PATTERN_BYTES).build();
    let invalid = |error: regex::Error| {
        failure(FailureCode::InvalidPattern, format!("the pattern {pattern:?}: {error}"))
    };
    built.map(Some).map_err(invalid)
}

impl Core {
    /// Topics that a subscription names or matches.
    pub(super) fn topics_of(
        &self,
        subscription: &Subscription,
    ) -> Result<BTreeMap<TopicId, TopicFacts>, Failure> {
        let pattern = whole(&subscription.pattern)?;
        self.catalog(|catalog| {
            let meant = catalog.topics().filter(|topic| {
                subscription.names.contains(&topic.name)
                    || pattern.as_ref().is_some_and(|it| it.is_match(&topic.name))
            });
            meant.filter_map(facts).collect()
        })
    }

    /// Those of some topics that nobody has deleted.
    pub(super) fn topics_still_there(
        &self,
        ids: &BTreeSet<TopicId>,
    ) -> Result<BTreeMap<TopicId, TopicFacts>, Failure> {
        self.catalog(|catalog| {
            let there = ids.iter().filter_map(|id| catalog.topic(*id));
            there.filter_map(facts).collect()
        })
    }
}

/// `None`: it is being deleted.
fn facts(topic: &TopicEntry) -> Option<(TopicId, TopicFacts)> {
    let partitions = i32::try_from(topic.partition_shards.len()).unwrap_or(i32::MAX);
    let facts = (topic.id, TopicFacts { name: topic.name.clone(), partitions });
    (topic.phase != TopicPhase::Deleting).then_some(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names_and_a_bad_one_is_named() {
        let matches = |name| whole("orders|log-.*").unwrap().unwrap().is_match(name);
        assert!(matches("orders") && matches("log-1"));
        assert!(!matches("orders-2") && !matches("old-log-1"));
        let failure = whole("(").unwrap_err();
        assert_eq!(failure.code, FailureCode::InvalidPattern);
        assert!(failure.message.contains('('), "{}", failure.message);
        assert!(whole("").unwrap().is_none());
    }

    #[test]
    fn a_pattern_that_would_take_all_memory_is_refused() {
        assert!(whole("((a{1000}){1000}){1000}").is_err());
    }
}
