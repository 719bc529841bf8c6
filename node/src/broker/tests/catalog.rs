//! A catalog as the state makes it, for tests that look at one.

use waymark_proto::ids::{ClusterId, NodeId, ReplicaId, ShardId, TopicId};

use crate::state::catalog::Catalog;
use crate::state::command::NodeEntry;
use crate::state::{CatalogCommand, Command, EntryAt, Reply, ShardState};

/// A topic id that is told from others by one number.
pub(in crate::broker) fn topic_id(number: u8) -> TopicId {
    TopicId([number.saturating_add(100); 16])
}

/// Topics 1, 2, 3 … of these names, with three partitions each, on a cluster of one node.
pub(in crate::broker) fn catalog_with(names: &[&str]) -> Catalog {
    let replica = ReplicaId { node: NodeId(1), incarnation: 0 };
    let node = NodeEntry {
        node: NodeId(1),
        rack: String::new(),
        client_address: "a:1".to_owned(),
        peer_address: "a:2".to_owned(),
    };
    let (cluster, producer_salt) = (ClusterId([7; 16]), 5);
    let shard = (vec![replica], NodeId(1));
    let mut commands = vec![
        CatalogCommand::FoundCluster { cluster, producer_salt, nodes: vec![node] },
        CatalogCommand::CreatePool { replication: 1, shards: vec![shard.clone(), shard] },
    ];
    commands.extend((1..).zip(names).map(|(number, name)| CatalogCommand::CreateTopic {
        topic: topic_id(number),
        name: (*name).to_owned(),
        partitions: 3,
        replication: 1,
        configs: Vec::new(),
        time_ms: 1,
    }));
    let mut state = ShardState::new(ShardId::CATALOG);
    for (index, command) in (1..).zip(commands) {
        let at = EntryAt { index, term: 1, leader: replica };
        let applied = state.apply(at, Command::Catalog(command));
        assert!(!matches!(applied.reply, Reply::Refused(_)), "{:?}", applied.reply);
    }
    state.catalog().cloned().expect("shard 0 has a catalog")
}
