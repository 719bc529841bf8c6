"""Creates a topic, appends, reads and commits, on whatever node it is given. Usage: client.py HOST:PORT"""
import sys

import grpc
from waymark.v1 import offsets_pb2 as offsets, offsets_pb2_grpc, records_pb2 as records, records_pb2_grpc
from waymark.v1 import topics_pb2 as topics, topics_pb2_grpc, types_pb2 as types

channel = grpc.insecure_channel(sys.argv[1])
name = "from-python-" + sys.argv[1].rpartition(":")[2]
topic = types.TopicRef(name=name)
created = topics_pb2_grpc.TopicServiceStub(channel).CreateTopics(
    topics.CreateTopicsRequest(topics=[topics.NewTopic(name=name, partitions=3)]))
assert not created.results[0].HasField("failure"), created
log = records_pb2_grpc.RecordServiceStub(channel)
sent = [records.LogRecord(key=b"key%d" % i, value=b"value%d" % i) for i in range(10)]
appended = log.Append(records.AppendRequest(topic=topic, partition=1, records=sent))
assert not appended.HasField("failure") and not appended.appended[0].HasField("failure"), appended
read = log.Read(records.ReadRequest(topic=topic, partition=1, offset=0))
assert [(r.offset, r.key, r.value) for r in read.records] == [(i, r.key, r.value) for i, r in enumerate(sent)], read
table = offsets_pb2_grpc.OffsetServiceStub(channel)
committed = table.CommitOffsets(offsets.CommitOffsetsRequest(
    group_id="python", offsets=[offsets.OffsetCommit(topic=topic, partition=1, offset=read.next_offset)]))
assert not committed.HasField("failure") and not committed.results[0].HasField("failure"), committed
found = table.FetchOffsets(offsets.FetchOffsetsRequest(
    group_id="python", partitions=[types.PartitionRef(topic=topic, partition=1)]))
assert found.offsets[0].offset == 10, found
print("read", len(read.records), "records, committed offset", found.offsets[0].offset)
