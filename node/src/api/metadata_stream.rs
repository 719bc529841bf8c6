//! One watch of the metadata: the whole at first, then what changed, as often as it changes but not more often than a
//! client could use. Owns what the client was last told. Never polls.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use waymark_proto::v1;

use super::Api;
use super::status::whole_call;

/// Changes within this time travel together: an election moves many partitions at once.
const GATHER: Duration = Duration::from_millis(20);
/// A look at the metadata that failed is repeated after this.
const AGAIN: Duration = Duration::from_millis(500);
const MESSAGES_WAITING: usize = 2;

type Messages = mpsc::Sender<Result<v1::GetMetadataResponse, Status>>;

/// Serves a watch until the client ends it.
pub(super) fn open(
    api: &Api,
    request: v1::WatchMetadataRequest,
) -> ReceiverStream<Result<v1::GetMetadataResponse, Status>> {
    let (out, messages) = mpsc::channel(MESSAGES_WAITING);
    let api = api.clone();
    tokio::spawn(async move { watch(&api, request, out).await });
    ReceiverStream::new(messages)
}

async fn watch(api: &Api, request: v1::WatchMetadataRequest, out: Messages) {
    let mut version = api.admin().metadata_version();
    let mut told = Told::default();
    loop {
        version.mark_unchanged();
        match api.metadata(request.topics.clone(), request.all_topics).await {
            Ok(whole) => {
                if let Some(news) = told.news(whole)
                    && out.send(Ok(news)).await.is_err()
                {
                    return;
                }
            }
            Err(failure) if told.nothing() => {
                let _ = out.send(Err(whole_call(&failure))).await;
                return;
            }
            Err(_) => sleep(AGAIN).await,
        }
        tokio::select! {
            changed = version.changed() => if changed.is_err() { return },
            () = out.closed() => return,
        }
        sleep(GATHER).await;
    }
}

/// What the client knows.
#[derive(Debug, Default)]
struct Told {
    nodes: Option<Vec<v1::Node>>,
    /// By name and id as told; as many as the client watches.
    topics: BTreeMap<(String, Bytes), v1::TopicMetadata>,
}

impl Told {
    fn nothing(&self) -> bool {
        self.nodes.is_none()
    }

    /// What of this is new to the client; topics that are gone are told once, as not found. `None`: nothing.
    fn news(&mut self, mut whole: v1::GetMetadataResponse) -> Option<v1::GetMetadataResponse> {
        let mut gone = std::mem::take(&mut self.topics);
        let mut news = Vec::new();
        for topic in whole.topics {
            let key = (topic.name.clone(), topic.topic_id.clone());
            if gone.remove(&key).as_ref() != Some(&topic) {
                news.push(topic.clone());
            }
            self.topics.insert(key, topic);
        }
        let dead = gone.into_values().filter(|topic| topic.failure.is_none());
        news.extend(dead.map(|topic| v1::TopicMetadata {
            partitions: Vec::new(),
            failure: Some(not_found(&topic.name)),
            ..topic
        }));
        let same_nodes = self.nodes.as_ref() == Some(&whole.nodes);
        if same_nodes && news.is_empty() {
            return None;
        }
        self.nodes = Some(whole.nodes.clone());
        whole.topics = news;
        Some(whole)
    }
}

fn not_found(name: &str) -> v1::Failure {
    let message = format!("topic {name:?} was deleted");
    super::refusal::refuse(waymark_proto::failure::FailureCode::TopicNotFound, message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, leader_epoch: i32) -> v1::TopicMetadata {
        let partition = v1::PartitionMetadata { leader_epoch, ..Default::default() };
        v1::TopicMetadata {
            name: name.to_owned(),
            partitions: vec![partition],
            ..Default::default()
        }
    }

    fn metadata(topics: Vec<v1::TopicMetadata>) -> v1::GetMetadataResponse {
        v1::GetMetadataResponse { topics, ..Default::default() }
    }

    #[test]
    fn the_first_message_is_the_whole_and_the_next_only_what_changed() {
        let mut told = Told::default();
        let first = told.news(metadata(vec![topic("a", 1), topic("b", 1)])).expect("the whole");
        assert_eq!(first.topics.len(), 2);
        assert_eq!(told.news(metadata(vec![topic("a", 1), topic("b", 1)])), None);
        let next = told.news(metadata(vec![topic("a", 1), topic("b", 2)])).expect("a new leader");
        assert_eq!(next.topics, [topic("b", 2)]);
    }

    #[test]
    fn a_deleted_topic_is_told_once() {
        let mut told = Told::default();
        told.news(metadata(vec![topic("a", 1)]));
        let gone = told.news(metadata(Vec::new())).expect("the deletion");
        assert_eq!(
            gone.topics[0].failure.as_ref().map(v1::Failure::code),
            Some(v1::FailureCode::TopicNotFound)
        );
        assert_eq!(told.news(metadata(Vec::new())), None);
    }
}
