//! The member's own state: what updates change, and that messages say everything.

use super::*;

const TOPIC: [u8; 16] = [7; 16];

fn member() -> Member {
    let config = ConsumerConfig::default().group_id("g");
    Member::new(&config, None, "m".into(), Subscription::topics(["t"]))
}

fn assigned(partition: i32, fencing_epoch: i64) -> wire::AssignedPartition {
    wire::AssignedPartition {
        topic_id: Bytes::copy_from_slice(&TOPIC),
        topic: "t".to_owned(),
        partition: Some(partition),
        fencing_epoch,
        ..wire::AssignedPartition::default()
    }
}

fn update(epoch: i32, partitions: &[(i32, i64)]) -> wire::CoordinatorUpdate {
    let partitions = partitions.iter().map(|(partition, fencing)| assigned(*partition, *fencing));
    let assignment = Some(wire::Assignment { partitions: partitions.collect() });
    wire::CoordinatorUpdate {
        generation: epoch,
        member_epoch: epoch,
        assignment,
        ..wire::CoordinatorUpdate::default()
    }
}

fn begun(changes: &Changes) -> Vec<(i32, i64)> {
    changes.begin.iter().map(|begin| (begin.key.1, begin.fencing_epoch)).collect()
}

#[tokio::test]
async fn a_join_says_what_is_wanted_and_holds_nothing() {
    let message = member().message(None);
    assert_eq!((message.member_epoch, message.owned), (None, None));
    assert_eq!(message.subscription.unwrap().topics, ["t"]);
    assert_eq!((message.session_timeout_ms, message.drain_timeout_ms), (45_000, 30_000));
}

#[tokio::test]
async fn the_same_assignment_again_changes_nothing() {
    let (mut member, now) = (member(), Instant::now());
    let changes = member.take(&update(3, &[(0, 10), (1, 11)]), now);
    assert_eq!((begun(&changes), changes.answer), (vec![(0, 10), (1, 11)], true));
    let again = member.take(&update(3, &[(0, 10), (1, 11)]), now);
    assert!(again.begin.is_empty() && again.lost.is_empty() && !again.answer);
    assert_eq!(member.message(None).owned.unwrap().partitions.len(), 2);
}

#[tokio::test]
async fn a_greater_fencing_epoch_begins_again_and_a_smaller_one_is_old_news() {
    let (mut member, now) = (member(), Instant::now());
    member.take(&update(3, &[(0, 10), (1, 11)]), now);
    let changes = member.take(&update(4, &[(0, 12), (1, 11)]), now);
    assert_eq!(begun(&changes), [(0, 12)]);
    assert!(begun(&member.take(&update(4, &[(0, 10), (1, 11)]), now)).is_empty());
    assert_eq!(member.holdings[&(TOPIC, 0)].fencing_epoch, 12);
}

#[tokio::test]
async fn an_update_of_an_older_generation_is_ignored() {
    let (mut member, now) = (member(), Instant::now());
    member.take(&update(5, &[(0, 10)]), now);
    let changes = member.take(&update(4, &[]), now);
    assert!(changes.lost.is_empty() && !changes.answer);
    assert_eq!(member.epoch, Some(5));
}

#[tokio::test]
async fn what_was_given_up_is_told_until_it_is_known_and_then_is_no_loss() {
    let (mut member, now) = (member(), Instant::now());
    member.take(&update(3, &[(0, 10)]), now);
    let last = OffsetAndMetadata { offset: 42, ..OffsetAndMetadata::default() };
    member.give_up(&(TOPIC, 0), Some(last), 7);
    for _ in 0..2 {
        let message = member.message(None);
        assert_eq!(message.owned.unwrap().partitions.len(), 0);
        let last = &message.final_offsets[0];
        assert_eq!((last.offset, last.fencing_epoch, message.commit_seq), (Some(42), Some(10), 7));
    }
    // An update that crossed the message still lists it.
    assert!(begun(&member.take(&update(4, &[(0, 10)]), now)).is_empty());
    let topic_id = Bytes::copy_from_slice(&TOPIC);
    let topic = wire::TopicRef { name: String::new(), topic_id };
    let outcome =
        wire::OffsetResult { topic: Some(topic), partition: Some(0), ..Default::default() };
    let mut decided = update(4, &[(0, 10)]);
    decided.final_offsets = vec![outcome];
    for answers_nothing_of_it in [0, -1] {
        decided.answers = answers_nothing_of_it;
        member.take(&decided, now);
        assert_eq!(member.message(None).final_offsets.len(), 1, "a push decides nothing");
    }
    decided.answers = 1;
    member.take(&decided, now);
    assert!(member.message(None).final_offsets.is_empty(), "decided once");
    assert!(member.take(&update(5, &[]), now).lost.is_empty());
    assert!(member.holdings.is_empty());
}

#[tokio::test]
async fn an_answer_decides_nothing_that_was_given_up_after_its_message() {
    let (mut member, now) = (member(), Instant::now());
    member.take(&update(3, &[(0, 10)]), now);
    member.give_up(&(TOPIC, 0), Some(42.into()), 7);
    let first = member.message(None).message_number;
    // A reset has crossed the message: the partition begins again, and is given up again.
    member.take(&update(4, &[(0, 11)]), now);
    member.give_up(&(TOPIC, 0), Some(5.into()), 8);
    let topic = wire::TopicRef { topic_id: Bytes::copy_from_slice(&TOPIC), ..Default::default() };
    let outcome =
        wire::OffsetResult { topic: Some(topic), partition: Some(0), ..Default::default() };
    let mut answer = update(5, &[(0, 11)]);
    (answer.answers, answer.final_offsets) = (first, vec![outcome]);
    member.take(&answer, now);
    let second = member.message(None);
    assert_eq!(second.final_offsets[0].offset, Some(5));
    assert!(second.message_number > first);
    answer.answers = second.message_number;
    member.take(&answer, now);
    assert!(member.message(None).final_offsets.is_empty());
}

#[tokio::test]
async fn a_push_that_crosses_final_offsets_does_not_silence_them() {
    let (mut member, now) = (member(), Instant::now());
    member.take(&update(3, &[(0, 10)]), now);
    member.give_up(&(TOPIC, 0), Some(42.into()), 7);
    let said = member.message(None).message_number;
    // Taken away before the message came: the verdict on it is still to be heard.
    assert!(member.take(&update(4, &[]), now).lost.is_empty());
    assert_eq!(member.message(None).final_offsets.len(), 1);
    let answer = wire::CoordinatorUpdate { answers: said, ..update(4, &[]) };
    member.take(&answer, now);
    assert!(member.message(None).final_offsets.is_empty());
    assert!(member.holdings.is_empty());
}

#[tokio::test]
async fn messages_are_numbered_and_no_number_comes_twice() {
    let mut member = member();
    let numbers: Vec<i64> = (0..2).map(|_| member.message(None).message_number).collect();
    assert_eq!(numbers, [1, 2]);
    member.begin_anew("m2".into());
    assert_eq!(member.goodbye().message_number, 3);
}

#[tokio::test]
async fn what_goes_missing_is_lost() {
    let (mut member, now) = (member(), Instant::now());
    member.take(&update(3, &[(0, 10), (1, 11)]), now);
    assert_eq!(member.take(&update(4, &[(1, 11)]), now).lost, [(TOPIC, 0)]);
    let mut unchanged = update(5, &[]);
    unchanged.assignment = None;
    assert!(member.take(&unchanged, now).lost.is_empty(), "absent is not empty");
}

#[tokio::test]
async fn a_repeated_revoke_does_not_move_the_deadline() {
    let (mut member, now) = (member(), Instant::now());
    let mut revoking = update(3, &[(0, 10)]);
    revoking.revoke.push(wire::Revoke {
        topic_id: Bytes::copy_from_slice(&TOPIC),
        partition: Some(0),
        deadline_ms: 1000,
        ..wire::Revoke::default()
    });
    assert_eq!(member.take(&revoking, now).revoked, [(TOPIC, 0)]);
    let later = now + Duration::from_millis(900);
    assert!(member.take(&revoking, later).revoked.is_empty());
    let deadline = now + Duration::from_secs(1);
    assert_eq!(member.holdings[&(TOPIC, 0)].phase, Phase::Draining { deadline });
}

#[tokio::test]
async fn who_has_a_seat_keeps_its_partitions_when_it_leaves() {
    let config = ConsumerConfig::default().group_id("g").instance_id("seat");
    let mut member = Member::new(&config, None, "m".into(), Subscription::topics(["t"]));
    member.take(&update(3, &[(0, 10)]), Instant::now());
    member.give_up(&(TOPIC, 0), Some(5.into()), 7);
    let goodbye = member.goodbye();
    assert_eq!(goodbye.leave(), wire::Leave::WillReturn);
    assert!(goodbye.owned.is_none() && goodbye.final_offsets.is_empty());
    assert_eq!(member.left_at().len(), 1);
}

#[tokio::test]
async fn who_leaves_claims_what_it_has_given_up_until_it_says_goodbye() {
    let (mut member, now) = (member(), Instant::now());
    member.take(&update(3, &[(0, 10), (1, 11)]), now);
    member.leaves = true;
    let last = OffsetAndMetadata { offset: 42, ..OffsetAndMetadata::default() };
    member.give_up(&(TOPIC, 0), Some(last), 7);
    let message = member.message(None);
    assert_eq!(message.owned.unwrap().partitions.len(), 2, "else it would get it back");
    assert_eq!(message.final_offsets.len(), 1, "where it stopped is stored meanwhile");
    assert_eq!(member.held().count(), 1);
    let goodbye = member.goodbye();
    assert_eq!((goodbye.leave(), goodbye.final_offsets.len()), (wire::Leave::ForGood, 1));
}
