//! Owns finding topics: by name, by id, in pages. That a topic does not exist is said only after a look at the newest
//! catalog (S14).

use std::time::Duration;

use tokio::time::Instant;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::TopicId;

use super::about;
use crate::broker::Core;
use crate::broker::admin::{NamedTopic, Topic};
use crate::state::catalog::{Catalog, TopicEntry, TopicPhase};

/// A look at the newest catalog that a lookup needs takes at most this long.
const BARRIER_TIME: Duration = Duration::from_secs(5);

impl From<&TopicEntry> for Topic {
    fn from(entry: &TopicEntry) -> Self {
        Self {
            id: entry.id,
            name: entry.name.clone(),
            partitions: i32::try_from(entry.partition_shards.len()).unwrap_or(i32::MAX),
            replication: i32::try_from(entry.replication).unwrap_or(i32::MAX),
            version: i64::try_from(entry.version).unwrap_or(i64::MAX),
            configs: entry.configs.clone(),
        }
    }
}

impl Core {
    pub(in crate::broker) async fn topic(&self, named: &NamedTopic) -> Result<Topic, Failure> {
        if let Ok(topic) = self.catalog(|catalog| find(catalog, named))? {
            return Ok(topic);
        }
        self.catalog_barrier(Instant::now() + BARRIER_TIME).await?;
        self.catalog(|catalog| find(catalog, named))?
    }

    pub(in crate::broker) fn topic_name(&self, topic: TopicId) -> Option<String> {
        self.catalog(|catalog| catalog.topic(topic).map(|it| it.name.clone())).ok().flatten()
    }

    pub(in crate::broker) fn topics_after(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Topic>, Failure> {
        self.catalog(|catalog| page(catalog, after, limit))
    }
}

fn page(catalog: &Catalog, after: &str, limit: usize) -> Vec<Topic> {
    let rest = catalog.topics_from(after).skip_while(|topic| topic.name == after);
    rest.take(limit).map(Topic::from).collect()
}

fn find(catalog: &Catalog, named: &NamedTopic) -> Result<Topic, Failure> {
    let entry = match (&named.name, named.id) {
        (_, Some(id)) => catalog.topic(id).filter(|topic| topic.phase != TopicPhase::Deleting),
        (Some(name), None) => catalog.topic_named(name),
        (None, None) => None,
    };
    let same_name = |name: &String| entry.is_none_or(|entry| entry.name == *name);
    let replaced = named.name.as_ref().filter(|name| catalog.topic_named(name).is_some());
    match entry {
        Some(entry) if named.name.as_ref().is_none_or(same_name) => Ok(Topic::from(entry)),
        // The id is of another topic, or of one that is gone while its name is taken again.
        Some(_) => Err(mismatch(named)),
        None if replaced.is_some() => Err(mismatch(named)),
        None => Err(not_found(named)),
    }
}

fn mismatch(named: &NamedTopic) -> Failure {
    let message = "the topic of this name has another id: it was created anew";
    about(shown(named), FailureCode::TopicIdMismatch, message)
}

fn not_found(named: &NamedTopic) -> Failure {
    let message = format!("topic {} does not exist", shown(named));
    about(shown(named), FailureCode::TopicNotFound, message)
}

fn shown(named: &NamedTopic) -> String {
    let id = || named.id.map(|id| id.to_string()).unwrap_or_default();
    named.name.clone().unwrap_or_else(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::tests::catalog::{catalog_with, topic_id};

    fn named(name: Option<&str>, id: Option<u8>) -> NamedTopic {
        NamedTopic { name: name.map(str::to_owned), id: id.map(topic_id) }
    }

    fn code(catalog: &Catalog, name: Option<&str>, id: Option<u8>) -> Option<FailureCode> {
        find(catalog, &named(name, id)).err().map(|failure| failure.code)
    }

    #[test]
    fn a_topic_is_found_by_name_by_id_and_by_both() {
        let catalog = catalog_with(&["a", "b"]);
        for (name, id) in [(Some("b"), None), (None, Some(2)), (Some("b"), Some(2))] {
            assert_eq!(find(&catalog, &named(name, id)).unwrap().name, "b");
        }
    }

    #[test]
    fn a_name_and_an_id_that_do_not_agree_are_told_apart_from_nothing() {
        let catalog = catalog_with(&["a", "b"]);
        assert_eq!(code(&catalog, Some("a"), Some(2)), Some(FailureCode::TopicIdMismatch));
        assert_eq!(code(&catalog, Some("a"), Some(9)), Some(FailureCode::TopicIdMismatch));
        assert_eq!(code(&catalog, Some("c"), Some(9)), Some(FailureCode::TopicNotFound));
        assert_eq!(code(&catalog, None, Some(9)), Some(FailureCode::TopicNotFound));
        assert_eq!(code(&catalog, Some("c"), None), Some(FailureCode::TopicNotFound));
    }

    #[test]
    fn pages_together_hold_every_topic_once_in_the_order_of_names() {
        let names = ["a", "aa", "b", "c", "d"];
        let catalog = catalog_with(&names);
        for size in 1..7 {
            let mut seen: Vec<String> = Vec::new();
            loop {
                let after = seen.last().cloned().unwrap_or_default();
                let page = page(&catalog, &after, size);
                if page.is_empty() {
                    break;
                }
                seen.extend(page.into_iter().map(|topic| topic.name));
            }
            assert_eq!(seen, names);
        }
    }

    #[test]
    fn a_page_goes_on_after_a_name_that_is_gone() {
        let catalog = catalog_with(&["a", "c"]);
        assert_eq!(page(&catalog, "b", 9).len(), 1);
    }
}
