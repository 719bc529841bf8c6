//! Owns random commands and whole random logs for the property tests of this layer: few topics, producers and groups,
//! so that commands meet each other.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::subsequence;
use waymark_proto::ids::{
    ClusterId, NodeId, PartitionId, ReplicaId, ShardId, TopicId, TopicPartition,
};

use crate::state::batch::tests::batch;
use crate::state::command::{
    CatalogCommand, Command, CommitOffsets, Committer, LogStartRise, NodeEntry, OffsetCommit,
    PartitionSettings, Produce, ProduceItem,
};
use crate::state::groups::{
    Actor, Assignor, ChangeKind, ExpelCause, GroupChange, GroupEntry, Join, Limits, MemberId,
    Release, Subscription, TopicFacts,
};
use crate::state::holds::Hold;
use crate::state::shard::EntryAt;

/// Keeps bugs that another test plants out of this one.
pub(in crate::state) fn without_bugs() -> impl Drop {
    crate::mutants::seclude()
}

pub(in crate::state) fn topic(number: u8) -> TopicId {
    TopicId([number; 16])
}

fn any_topic() -> impl Strategy<Value = TopicId> {
    (1_u8..4).prop_map(topic)
}

fn place() -> impl Strategy<Value = TopicPartition> {
    (any_topic(), 0..3)
        .prop_map(|(topic, partition)| TopicPartition { topic, partition: PartitionId(partition) })
}

fn settings() -> impl Strategy<Value = PartitionSettings> {
    let holds = (subsequence(vec!["a".to_owned(), "b".to_owned()], 0..=2), option::of(0_i64..900));
    let sizes = (200_i64..2_000, 1_i64..50, option::of(0_i64..9), 80_i32..400);
    (sizes, any::<bool>(), holds, 0_u64..5).prop_map(
        |(
            (segment_bytes, segment_ms, limit, max_message_bytes),
            log_append_time,
            (hold_groups, hold_max_bytes),
            version,
        )| {
            PartitionSettings {
                segment_bytes,
                segment_ms,
                retention_bytes: limit,
                retention_ms: limit.map(|it| it * 7),
                max_message_bytes,
                log_append_time,
                hold_groups,
                hold_max_bytes,
                version,
            }
        },
    )
}

fn any_batch() -> impl Strategy<Value = Bytes> {
    let sequence = option::weighted(0.8, (1_i64..3, 0_i16..3, 0_i32..12));
    let good = (sequence, 1_i32..4, 61_usize..450);
    prop_oneof![
        20 => good.prop_map(|(sequence, count, size)| batch(sequence, count, size)),
        1 => vec(any::<u8>(), 0..90).prop_map(Bytes::from),
    ]
}

pub(in crate::state) fn produce() -> impl Strategy<Value = Command> {
    let expected = option::weighted(0.1, 0_i64..20);
    let item = (place(), expected, any_batch()).prop_map(|(at, expected_base_offset, batch)| {
        ProduceItem { at, expected_base_offset, batch }
    });
    (0_i64..200, vec(item, 0..6))
        .prop_map(|(append_time_ms, items)| Command::Produce(Produce { append_time_ms, items }))
}

fn group() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("ab"), Just("b"), Just("")].prop_map(str::to_owned)
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![Just(""), Just("m"), Just("n")].prop_map(str::to_owned)
}

fn commit() -> impl Strategy<Value = Command> {
    let conditions = (option::of(0_i64..4), option::of(0_i64..4));
    let item = (place(), -1_i64..6, option::of(0..3), option::of(word()), conditions).prop_map(
        |(at, offset, leader_epoch, metadata, (expected_offset, fencing_epoch))| OffsetCommit {
            at,
            offset,
            leader_epoch,
            metadata,
            expected_offset,
            fencing_epoch,
        },
    );
    let who = (word(), option::of(0_i32..6), 0_i64..200_000, 0_i32..3);
    (group(), who, vec(item, 0..4), any::<bool>(), 0_i64..5).prop_map(
        |(group, (name, epoch, commit_time_ms, cause), items, all_or_nothing, commit_seq)| {
            let committer = match epoch {
                Some(epoch) => Committer::Member { instance: Some(name.clone()), id: name, epoch },
                None => Committer::Outside { in_line: commit_seq % 2 == 1, name },
            };
            Command::CommitOffsets(CommitOffsets {
                group,
                committer,
                items,
                all_or_nothing,
                commit_seq,
                commit_time_ms,
                cause,
                note: String::new(),
                actor: Actor::default(),
            })
        },
    )
}

fn member() -> impl Strategy<Value = MemberId> {
    word().prop_map(MemberId::from)
}

fn facts() -> impl Strategy<Value = BTreeMap<TopicId, TopicFacts>> {
    let fact = (any_topic(), 0_i32..4).prop_map(|(topic, partitions)| {
        (topic, TopicFacts { name: format!("t{}", topic.0[0]), partitions })
    });
    vec(fact, 0..3).prop_map(|facts| facts.into_iter().collect())
}

fn join() -> impl Strategy<Value = GroupChange> {
    let assignor =
        prop_oneof![Just(Assignor::Range), Just(Assignor::RoundRobin), Just(Assignor::Sticky)];
    let seat = (option::weighted(0.3, word()), any::<bool>());
    (member(), seat, facts(), option::weighted(0.2, assignor)).prop_map(
        |(member, (instance, takes_over), topics, assignor)| {
            let names = topics.values().map(|it| it.name.clone()).collect();
            GroupChange::Join(Join {
                member,
                instance,
                takes_over,
                rack: String::new(),
                subscription: Subscription { names, pattern: String::new() },
                topics,
                assignor,
                limits: Limits { session_ms: 1, processing_ms: 2, drain_ms: 3 },
            })
        },
    )
}

fn release() -> impl Strategy<Value = Release> {
    let fenced = (place(), 0_i64..6).prop_map(|(at, since)| (at, (1 << 32) + since));
    let offset = (place(), 0_i64..6).prop_map(|(at, offset)| OffsetCommit {
        at,
        offset,
        leader_epoch: None,
        metadata: None,
        expected_offset: None,
        fencing_epoch: None,
    });
    (member(), 0_i32..6, vec(fenced, 0..4), vec(offset, 0..3), 0_i64..5).prop_map(
        |(member, member_epoch, partitions, offsets, commit_seq)| Release {
            member,
            member_epoch,
            partitions,
            offsets,
            commit_seq,
        },
    )
}

fn group_change() -> impl Strategy<Value = GroupChange> {
    let cause = prop_oneof![
        Just(ExpelCause::Heartbeat),
        Just(ExpelCause::Progress),
        Just(ExpelCause::Operator)
    ];
    let fenced = (place(), 0_i64..6).prop_map(|(at, since)| (at, (1 << 32) + since));
    let kind = prop_oneof![Just(ChangeKind::Reset), Just(ChangeKind::Undo)];
    let members = vec((member(), btree_set(any_topic(), 0..3)), 0..2);
    prop_oneof![
        6 => join(),
        4 => release().prop_map(GroupChange::Release),
        1 => (release(), any::<bool>())
            .prop_map(|(release, to_return)| GroupChange::Leave { release, to_return }),
        1 => vec((member(), cause, 0_i64..9), 0..2)
            .prop_map(|members| GroupChange::Expel { members, note: String::new() }),
        2 => vec(fenced, 0..4).prop_map(|partitions| GroupChange::Overdue { partitions }),
        2 => (0_i32..6, facts(), members)
            .prop_map(|(seen, topics, members)| GroupChange::Topics { seen, topics, members }),
        2 => (vec((place(), option::of(0_i64..9)), 0..3), kind, option::of(0_i32..6))
            .prop_map(|(items, kind, seen)| GroupChange::Reset { items, kind, note: String::new(), seen }),
        1 => Just(GroupChange::Delete),
        1 => option::of(0_i64..200_000).prop_map(|at_ms| GroupChange::AnnounceExpiry { at_ms }),
        1 => Just(GroupChange::Expire),
    ]
}

fn of_group() -> impl Strategy<Value = Command> {
    (group(), 0_i64..200_000, group_change()).prop_map(|(group, time_ms, change)| {
        Command::Group(GroupEntry { group, time_ms, actor: Actor::default(), change })
    })
}

fn set_holds() -> impl Strategy<Value = Command> {
    let hold = (group(), place(), -1_i64..30, 0_u64..4);
    let hold = hold.prop_map(|(group, at, floor, term)| Hold { group, at, floor, term });
    (vec(hold, 0..4), any::<bool>()).prop_map(|(items, lower)| Command::SetHolds { items, lower })
}

fn of_shard() -> impl Strategy<Value = Command> {
    let open = (any_topic(), settings(), vec(-1_i32..3, 0..4)).prop_map(
        |(topic, settings, partitions)| Command::OpenPartitions { topic, settings, partitions },
    );
    let alter = (any_topic(), settings())
        .prop_map(|(topic, settings)| Command::AlterPartitions { topic, settings });
    let rise = (place(), -1_i64..30, option::of(0_i64..30));
    let rise = rise.prop_map(|(at, to, floor_seen)| LogStartRise { at, to, floor_seen });
    prop_oneof![
        8 => produce(),
        3 => open,
        1 => alter,
        1 => any_topic().prop_map(|topic| Command::ClosePartitions { topic }),
        2 => vec(rise, 0..3).prop_map(|items| Command::AdvanceLogStart { items }),
        2 => set_holds(),
        1 => (0_i64..200).prop_map(|last_append_before_ms| {
            Command::ExpireProducers { last_append_before_ms }
        }),
        4 => commit(),
        8 => of_group(),
        1 => (group(), vec(place(), 0..3)).prop_map(|(group, partitions)| {
            Command::DeleteOffsets { group, partitions, time_ms: 5, actor: Actor::default() }
        }),
        1 => any_topic().prop_map(|topic| Command::ForgetTopic { topic }),
    ]
}

pub(in crate::state) fn found(nodes: u32) -> CatalogCommand {
    let node = |node| NodeEntry {
        node: NodeId(node),
        rack: String::new(),
        client_address: format!("n{node}:1"),
        peer_address: format!("n{node}:2"),
    };
    let nodes = (1..=nodes).map(node).collect();
    CatalogCommand::FoundCluster { cluster: ClusterId([9; 16]), producer_salt: 5, nodes }
}

pub(in crate::state) fn pool(replication: u32, shards: u32) -> CatalogCommand {
    let replica = |node| ReplicaId { node: NodeId(node), incarnation: 1 };
    let shard = |number| {
        let initializer = NodeId(number % replication + 1);
        ((1..=replication).map(replica).collect(), initializer)
    };
    CatalogCommand::CreatePool { replication, shards: (0..shards).map(shard).collect() }
}

fn pair() -> impl Strategy<Value = (String, String)> {
    let key = prop_oneof![Just("retention.ms"), Just("segment.bytes"), Just("flush.ms")];
    let value = prop_oneof![Just("100000"), Just("65536"), Just("x")];
    (key, value).prop_map(|(key, value)| (key.to_owned(), value.to_owned()))
}

fn any_replica() -> impl Strategy<Value = ReplicaId> {
    (1_u32..5, 0_u32..4)
        .prop_map(|(node, incarnation)| ReplicaId { node: NodeId(node), incarnation })
}

fn of_catalog() -> impl Strategy<Value = Command> {
    let create = (any_topic(), group(), 0_i32..5, 1_u32..4, vec(pair(), 0..2)).prop_map(
        |(topic, name, partitions, replication, configs)| CatalogCommand::CreateTopic {
            topic,
            name,
            partitions,
            replication,
            configs,
            time_ms: 4,
        },
    );
    let op = (pair(), any::<bool>()).prop_map(|((key, value), set)| (key, set.then_some(value)));
    let alter = (any_topic(), vec(op, 0..3), option::weighted(0.2, 0_u64..4)).prop_map(
        |(topic, ops, expected_version)| CatalogCommand::AlterTopic {
            topic,
            ops,
            expected_version,
        },
    );
    let step = (any_topic(), 0_u64..5)
        .prop_map(|(topic, version)| CatalogCommand::TopicStep { topic, version });
    let add = (any_topic(), 0..8)
        .prop_map(|(topic, total)| CatalogCommand::AddPartitions { topic, total });
    prop_oneof![
        1 => Just(found(3)),
        1 => (1_u32..5, 0_u32..4).prop_map(|(replication, shards)| pool(replication, shards)),
        1 => (0_u32..9).prop_map(|shard| CatalogCommand::ShardBorn { shard: ShardId(shard) }),
        6 => create,
        3 => step,
        2 => alter,
        2 => add,
        2 => any_topic().prop_map(|topic| CatalogCommand::DeleteTopic { topic }),
        1 => (0_u32..9, 1_u32..5).prop_map(|(shard, node)| {
            CatalogCommand::PreferLeader { shard: ShardId(shard), node: NodeId(node) }
        }),
        1 => (1_u32..5, 0_u64..3).prop_map(|(node, journal)| {
            CatalogCommand::AdmitDisk { node: NodeId(node), journal }
        }),
        1 => (0_u32..9, any_replica(), any::<bool>()).prop_map(|(shard, old, votes)| {
            CatalogCommand::ReplaceReplica { shard: ShardId(shard), old, votes }
        }),
        1 => (0_u32..9, any_replica()).prop_map(|(shard, replica)| {
            CatalogCommand::ReplicaReplaced { shard: ShardId(shard), replica }
        }),
        1 => (1_u32..4, -1_i32..1_000).prop_map(|(node, count)| {
            CatalogCommand::AllocateProducerIds { node: NodeId(node), count }
        }),
    ]
    .prop_map(Command::Catalog)
}

/// Any command at all.
pub(in crate::state) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![3 => of_shard(), 2 => of_catalog()]
}

/// A log of shard 0 that begins with what lets later commands do something; leaders change on the way.
pub(in crate::state) fn log(
    command: impl Strategy<Value = Command>,
) -> impl Strategy<Value = Vec<(EntryAt, Command)>> {
    let open = |number| Command::OpenPartitions {
        topic: topic(number),
        settings: crate::state::topic_config::TopicConfig::default().settings(1),
        partitions: vec![0, 1, 2],
    };
    let mut start: Vec<Command> = vec![
        Command::Catalog(found(3)),
        Command::Catalog(pool(3, 3)),
        Command::Catalog(pool(1, 2)),
    ];
    start.extend([open(1), open(2)]);
    vec((command, 0_u64..10), 0..60).prop_map(move |random| {
        let start = start.clone().into_iter().map(|command| (command, 1));
        let mut term = 1;
        let place = |(index, (command, luck)): (u64, (Command, u64))| {
            term += u64::from(luck == 0);
            let leader = ReplicaId { node: NodeId(1), incarnation: u32::from(luck == 9) };
            (EntryAt { index, term, leader }, command)
        };
        (0..).zip(start.chain(random)).map(place).collect()
    })
}
