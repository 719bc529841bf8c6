//! What the edge must know of each call: whether any node answers it, and whether it changes something. Owns that table.

/// A call's nature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Method {
    /// For logs.
    pub(super) name: &'static str,
    /// Any node answers it, if need be through the node that leads.
    pub(super) any_node: bool,
    /// After a deadline its outcome is unknown.
    pub(super) changes: bool,
    /// Answered before the cluster is formed.
    pub(super) unformed: bool,
}

const fn read(name: &'static str) -> Method {
    Method { name, any_node: true, changes: false, unformed: false }
}

const fn change(name: &'static str) -> Method {
    Method { name, any_node: true, changes: true, unformed: false }
}

const fn at_leader(name: &'static str, changes: bool) -> Method {
    Method { name, any_node: false, changes, unformed: false }
}

/// Who this node is, which it always knows.
const SERVER_INFO: Method =
    Method { name: "get_server_info", any_node: false, changes: false, unformed: true };

/// Calls that it does not know are taken for changes that stay here.
const UNKNOWN: Method = at_leader("unknown", true);

/// Sorted by path.
const METHODS: [(&str, Method); 41] = [
    ("/waymark.v1.ClusterService/DescribeCluster", read("describe_cluster")),
    ("/waymark.v1.ClusterService/FindCoordinators", read("find_coordinators")),
    ("/waymark.v1.ClusterService/GetHealth", read("get_health")),
    ("/waymark.v1.ClusterService/GetMetadata", read("get_metadata")),
    ("/waymark.v1.ClusterService/GetServerInfo", SERVER_INFO),
    ("/waymark.v1.ClusterService/TransferLeaders", change("transfer_leaders")),
    ("/waymark.v1.ClusterService/VerifyReplicas", read("verify_replicas")),
    ("/waymark.v1.ClusterService/WatchMetadata", at_leader("watch_metadata", false)),
    ("/waymark.v1.FetchService/Fetch", at_leader("fetch", false)),
    ("/waymark.v1.FetchService/FetchStream", at_leader("fetch_stream", false)),
    ("/waymark.v1.GroupService/DeleteGroups", change("delete_groups")),
    ("/waymark.v1.GroupService/DescribeGroups", read("describe_groups")),
    ("/waymark.v1.GroupService/GetLag", read("get_lag")),
    ("/waymark.v1.GroupService/Heartbeat", change("heartbeat")),
    ("/waymark.v1.GroupService/ListGroupEvents", read("list_group_events")),
    ("/waymark.v1.GroupService/ListGroups", read("list_groups")),
    ("/waymark.v1.GroupService/ListOffsetHistory", read("list_offset_history")),
    ("/waymark.v1.GroupService/RemoveMembers", change("remove_members")),
    ("/waymark.v1.GroupService/ResetOffsets", change("reset_offsets")),
    ("/waymark.v1.GroupService/Session", at_leader("session", true)),
    ("/waymark.v1.GroupService/UndoOffsets", change("undo_offsets")),
    ("/waymark.v1.OffsetService/CommitOffsets", change("commit_offsets")),
    ("/waymark.v1.OffsetService/DeleteOffsets", change("delete_offsets")),
    ("/waymark.v1.OffsetService/EpochEndOffsets", read("epoch_end_offsets")),
    ("/waymark.v1.OffsetService/FetchOffsets", read("fetch_offsets")),
    ("/waymark.v1.OffsetService/ListOffsets", read("list_offsets")),
    ("/waymark.v1.ProduceService/InitProducer", change("init_producer")),
    ("/waymark.v1.ProduceService/Produce", at_leader("produce", true)),
    ("/waymark.v1.ProduceService/ProduceStream", at_leader("produce_stream", true)),
    ("/waymark.v1.RecordService/Append", change("append")),
    ("/waymark.v1.RecordService/Read", read("read")),
    ("/waymark.v1.RecordService/Tail", read("tail")),
    ("/waymark.v1.TopicService/AddPartitions", change("add_partitions")),
    ("/waymark.v1.TopicService/AlterConfigs", change("alter_configs")),
    ("/waymark.v1.TopicService/CreateTopics", change("create_topics")),
    ("/waymark.v1.TopicService/DeleteRecords", change("delete_records")),
    ("/waymark.v1.TopicService/DeleteTopics", change("delete_topics")),
    ("/waymark.v1.TopicService/DescribeConfigs", read("describe_configs")),
    ("/waymark.v1.TopicService/DescribeTopics", read("describe_topics")),
    ("/waymark.v1.TopicService/ListPartitions", read("list_partitions")),
    ("/waymark.v1.TopicService/ListTopics", read("list_topics")),
];

/// The nature of the call at a path.
pub(super) fn method(path: &str) -> Method {
    METHODS.iter().find(|(known, _)| *known == path).map_or(UNKNOWN, |(_, method)| *method)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// Every call of the public contract stands in the table, or a new one would silently stay on this node.
    #[test]
    fn the_table_knows_every_call_of_the_contract() {
        let all = prost_types::FileDescriptorSet::decode(waymark_proto::DESCRIPTORS)
            .expect("the descriptors that the build made");
        let public = all.file.iter().filter(|file| file.package() == "waymark.v1");
        for (file, service) in public.flat_map(|f| f.service.iter().map(move |s| (f, s))) {
            for rpc in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), rpc.name());
                assert_ne!(method(&path), UNKNOWN, "{path}");
            }
        }
    }
}
