//! Groups over the wire: a session hears what concerns its member and nothing else, lists join what all nodes know, resets
//! land inside of the log.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use waymark_proto::failure::FailureCode;
use waymark_proto::v1;
use waymark_proto::v1::group_service_client::GroupServiceClient;

use super::fake::at;
use super::world::{Served, World};
use crate::broker::groups::seam::{Assigned, Reason, Revoked};

fn update(member_epoch: Option<i32>) -> v1::MemberUpdate {
    v1::MemberUpdate {
        group_id: "g".to_owned(),
        member_id: "m".to_owned(),
        member_epoch,
        subscription: Some(v1::Subscription::default()),
        ..v1::MemberUpdate::default()
    }
}

fn held(partition: i32, revoked: bool) -> Assigned {
    Assigned {
        at: at(partition),
        topic: "t".to_owned(),
        fencing_epoch: 5,
        committed: Some((9, None)),
        revoked: revoked.then_some(Revoked { left_ms: 100, reason: Reason::Joined }),
    }
}

type Session = (mpsc::Sender<v1::MemberUpdate>, Streaming<v1::CoordinatorUpdate>);

async fn session(node: &Served) -> Session {
    let (updates, messages) = mpsc::channel(8);
    updates.send(update(None)).await.unwrap();
    let mut client = GroupServiceClient::new(node.channel.clone());
    let answers = client.session(ReceiverStream::new(messages)).await.unwrap().into_inner();
    (updates, answers)
}

async fn next(answers: &mut Streaming<v1::CoordinatorUpdate>) -> v1::CoordinatorUpdate {
    timeout(Duration::from_secs(5), answers.message()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn a_session_is_told_what_is_new_to_its_member_and_nothing_else() {
    let node = World::default().serve(1, &[0]);
    let (updates, mut answers) = session(&node).await;
    assert!(next(&mut answers).await.assignment.unwrap().partitions.is_empty());
    node.groups.give("m", vec![held(0, false)]);
    let given = next(&mut answers).await;
    assert_eq!(given.assignment.unwrap().partitions[0].committed_offset, Some(9));
    node.groups.give("somebody else", vec![held(1, false)]);
    node.groups.give("m", vec![held(0, true)]);
    let asked_back = next(&mut answers).await;
    assert_eq!(asked_back.revoke.len(), 1, "the change between was none for this member");
    updates.send(update(Some(asked_back.member_epoch))).await.unwrap();
    assert_eq!(next(&mut answers).await.failure, None);
}

#[tokio::test]
async fn an_answer_carries_the_number_of_its_message_and_a_push_carries_none() {
    let node = World::default().serve(1, &[0]);
    let (updates, mut answers) = session(&node).await;
    next(&mut answers).await;
    let numbered = |message_number| v1::MemberUpdate { message_number, ..update(Some(1)) };
    updates.send(numbered(7)).await.unwrap();
    assert_eq!(next(&mut answers).await.answers, 7);
    node.groups.give("m", vec![held(0, false)]);
    assert_eq!(next(&mut answers).await.answers, 0);
    let bad = v1::MemberUpdate { session_timeout_ms: 1, ..numbered(8) };
    updates.send(bad.clone()).await.unwrap();
    let refused = next(&mut answers).await;
    assert!(refused.failure.is_some() && refused.answers == 8, "{refused:?}");
    let mut unary = GroupServiceClient::new(node.channel.clone());
    for (message, number) in [(numbered(9), 9), (bad, 8)] {
        assert_eq!(unary.heartbeat(message).await.unwrap().into_inner().answers, number);
    }
    node.groups.expel("m");
    let expelled = next(&mut answers).await;
    assert!(expelled.failure.is_some() && expelled.answers == 0, "{expelled:?}");
}

#[tokio::test]
async fn an_expelled_member_is_told_and_its_session_ends_without_being_a_leave() {
    let node = World::default().serve(1, &[0]);
    let (_updates, mut answers) = session(&node).await;
    next(&mut answers).await;
    assert_eq!(node.groups.sessions(), 1);
    node.groups.expel("m");
    let failure = next(&mut answers).await.failure.unwrap();
    assert_eq!(failure.code(), FailureCode::MemberFenced);
    assert!(answers.message().await.unwrap().is_none());
    assert_eq!(node.groups.sessions(), 0);
}

#[tokio::test]
async fn a_bad_message_is_answered_and_the_session_goes_on() {
    let node = World::default().serve(1, &[0]);
    let (updates, mut answers) = session(&node).await;
    next(&mut answers).await;
    updates.send(v1::MemberUpdate { session_timeout_ms: 1, ..update(Some(1)) }).await.unwrap();
    assert_eq!(next(&mut answers).await.failure.unwrap().code(), FailureCode::InvalidTimeout);
    updates.send(update(Some(1))).await.unwrap();
    assert_eq!(next(&mut answers).await.failure, None);
}

#[tokio::test]
async fn the_caller_is_what_the_node_knows_of_it() {
    let node = World::default().serve(1, &[0]);
    let mut request = tonic::Request::new(update(None));
    request.metadata_mut().insert("waymark-client-id", "billing".parse().unwrap());
    GroupServiceClient::new(node.channel.clone()).heartbeat(request).await.unwrap();
    let caller = node.groups.callers().pop().unwrap();
    assert_eq!((&*caller.member, &*caller.client_id), ("m", "billing"));
}

#[tokio::test]
async fn a_reset_lands_inside_of_the_log_and_a_dry_run_changes_nothing() {
    let node = World::default().serve(1, &[0]);
    let target = v1::ResetTarget {
        partition: Some(v1::PartitionRef {
            topic: Some(v1::TopicRef { name: "orders".to_owned(), ..v1::TopicRef::default() }),
            partition: Some(0),
        }),
        to: v1::ResetTo::Offset.into(),
        offset: Some(1_000),
        ..v1::ResetTarget::default()
    };
    let request = |dry_run| v1::ResetOffsetsRequest {
        group_id: "g".to_owned(),
        targets: vec![target.clone()],
        dry_run,
        note: String::new(),
        seen_generation: Some(6),
    };
    let mut client = GroupServiceClient::new(node.channel.clone());
    let dry = client.reset_offsets(request(true)).await.unwrap().into_inner();
    assert!(dry.moves[0].adjusted.contains("beyond the log"), "{dry:?}");
    assert_eq!((dry.generation, node.groups.moves().len()), (None, 0));
    let done = client.reset_offsets(request(false)).await.unwrap().into_inner();
    assert_eq!((done.generation, done.members), (Some(7), 2));
    assert_eq!(node.groups.moves()[0].to, done.moves[0].after);
    assert_eq!(node.groups.seen(), Some(6), "a late copy of the call is told from a new one by it");
}
