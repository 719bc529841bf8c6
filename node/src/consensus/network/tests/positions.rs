//! Where offsets stand, asked over the network.

use waymark_proto::ids::{PartitionId, TopicId};

use super::super::{MOST_POSITIONS, PeerError};
use super::*;

/// A node's answer by which it is recognised.
pub(super) fn all_at_epoch(node: u32, asked: &[(TopicPartition, i64)]) -> Vec<OffsetStand> {
    let stand = |(at, offset): &(TopicPartition, i64)| OffsetStand {
        at: *at,
        offset: *offset,
        leader_epoch: i32::try_from(node).unwrap(),
        log_start: 0,
        high_watermark: 9,
        append_time_ms: Some(1),
        outlook: None,
        held: false,
    };
    asked.iter().map(stand).collect()
}

#[tokio::test(start_paused = true)]
async fn a_node_answers_for_as_many_offsets_as_a_question_may_have() {
    let _sound = sound();
    let nodes = Nodes::start(&NetworkOptions::default());
    let network = &nodes.node(1).network;
    let deadline = Instant::now() + Duration::from_secs(1);
    let place = |number: usize| {
        let partition = PartitionId(i32::try_from(number).unwrap());
        (TopicPartition { topic: TopicId([1; 16]), partition }, 5)
    };
    for count in [0, 1, MOST_POSITIONS] {
        let asked: Vec<_> = (0..count).map(place).collect();
        let told = network.positions(NodeId(2), &asked, deadline).await;
        assert_eq!(told, Ok(all_at_epoch(2, &asked)), "{count} offsets");
    }
    let asked: Vec<_> = (0..=MOST_POSITIONS).map(place).collect();
    let refused = network.positions(NodeId(2), &asked, deadline).await;
    assert!(matches!(refused, Err(PeerError::Unanswered { .. })), "{refused:?}");
    nodes.wires.cut();
    nodes.wires.listeners.lock().unwrap().remove(&address(2));
    let silent = network.positions(NodeId(2), &asked[..1], deadline).await;
    assert!(silent.is_err(), "{silent:?}");
}
