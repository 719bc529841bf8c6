//! The record service: plain records for callers without an encoder. The node builds and decodes the batches itself, so its
//! calls have low limits and a share of the processor of their own; below that they are the same calls as everyone's.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use waymark_proto::batch;
use waymark_proto::failure::{Failure, FailureCode};
use waymark_proto::ids::{PartitionId, TopicPartition};
use waymark_proto::v1;
use waymark_proto::v1::record_service_client::RecordServiceClient;
use waymark_proto::v1::record_service_server::RecordService;

use super::Api;
use super::admin::Topic;
use super::call::Call;
use super::convert::fields::{count, optional, or_default};
use super::convert::records::{
    MAX_RECORDS, Page, append_head, by_partition, compression, page, plain, producer, unreadable,
};
use super::convert::topics::topic_ref;
use super::logs::{Append, Appended, Batches, Marks, ReadAt};
use super::refusal::{invalid, refuse};
use super::spread::{ItemAnswer, ask_leaders};
use super::status::whole_call;

const RECORDS: usize = 500;
const BYTES: usize = 1 << 20;
const MAX_BYTES: usize = 16 << 20;
const MAX_WAIT: Duration = Duration::from_secs(60);
const ANSWERS_WAITING: usize = 2;
/// Batches that are built or taken apart at the same time: half of a small machine.
pub(super) const CODEC_PERMITS: usize = 2;

#[async_trait::async_trait]
impl RecordService for Api {
    async fn append(
        &self,
        request: Request<v1::AppendRequest>,
    ) -> Result<Response<v1::AppendResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let topic = async {
            append_head(&request)?;
            self.named(request.topic.as_ref()).await
        };
        let topic = topic.await.map_err(|failure| self.refused(&call, &failure))?;
        let given =
            optional("partition", request.partition).map_err(|failure| whole_call(&failure))?;
        let keyless = self.partition_for_keyless(&topic);
        let groups = by_partition(&request.records, given, topic.partitions, keyless);
        let parts: Vec<_> = groups.iter().map(|group| part(&request, &topic, group)).collect();
        let each = parts.iter().map(|part| self.append_part(&topic, part, call.deadline));
        let mut appended = join_all(each).await;
        ask_leaders(self, &call, &parts, &mut appended, |channel, parts| {
            Box::pin(append_elsewhere(RecordServiceClient::new(channel), parts))
        })
        .await?;
        for (answer, (_, records)) in appended.iter_mut().zip(groups) {
            answer.records = records.into_iter().filter_map(|at| i32::try_from(at).ok()).collect();
        }
        let topic = Some(topic_ref(&topic));
        Ok(Response::new(v1::AppendResponse { topic, appended, ..Default::default() }))
    }

    async fn read(
        &self,
        request: Request<v1::ReadRequest>,
    ) -> Result<Response<v1::ReadResponse>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let answer = async {
            let page = read_page(&request)?;
            let wait = optional("max_wait_ms", request.max_wait_ms)?.unwrap_or(0);
            let wait = Duration::from_millis(u64::from(wait.unsigned_abs()));
            if wait > MAX_WAIT {
                return Err(invalid("max_wait_ms", "at most 60000"));
            }
            let offset = count("offset", request.offset)?;
            let (topic, at) =
                self.named_partition(request.topic.as_ref(), request.partition).await?;
            let until = call.deadline_within(Some(wait));
            self.read_until(&topic, (at, offset), page, until).await
        };
        match answer.await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(failure) => Err(self.refused(&call, &failure)),
        }
    }

    type TailStream = ReceiverStream<Result<v1::ReadResponse, Status>>;

    async fn tail(
        &self,
        request: Request<v1::TailRequest>,
    ) -> Result<Response<Self::TailStream>, Status> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let begun = async {
            let from = optional("offset", request.offset)?;
            let (topic, at) =
                self.named_partition(request.topic.as_ref(), request.partition).await?;
            let from = match from {
                Some(from) => from,
                // What is not led here fails in the read, with a hint.
                None => self.logs().marks(at).map_or(0, |marks| marks.high_watermark),
            };
            let page = Page { records: RECORDS, bytes: BYTES };
            let first = self.read_until(&topic, (at, from), page, Instant::now()).await?;
            Ok((topic, at, first))
        };
        let (topic, at, first) =
            begun.await.map_err(|failure: Failure| self.refused(&call, &failure))?;
        let (out, answers) = mpsc::channel(ANSWERS_WAITING);
        let api = self.clone();
        tokio::spawn(async move { api.follow(topic, at, first, out).await });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

impl ItemAnswer for v1::AppendedRecords {
    fn failure(&self) -> Option<&v1::Failure> {
        self.failure.as_ref()
    }

    fn set_failure(&mut self, failure: v1::Failure) {
        self.failure = Some(failure);
    }
}

/// The records of one partition as a call of their own, for whichever node leads it.
fn part(
    request: &v1::AppendRequest,
    topic: &Topic,
    group: &(i32, Vec<usize>),
) -> v1::AppendRequest {
    let (partition, records) = group;
    v1::AppendRequest {
        topic: Some(topic_ref(topic)),
        partition: Some(*partition),
        records: records.iter().filter_map(|at| request.records.get(*at).cloned()).collect(),
        ..request.clone()
    }
}

async fn append_elsewhere(
    mut client: RecordServiceClient<tonic::transport::Channel>,
    parts: Request<Vec<v1::AppendRequest>>,
) -> Result<Vec<v1::AppendedRecords>, Status> {
    let (metadata, _, parts) = parts.into_parts();
    let mut appended = Vec::with_capacity(parts.len());
    for part in parts {
        let request = Request::from_parts(metadata.clone(), http::Extensions::new(), part);
        let answer = client.append(request).await?.into_inner().appended;
        appended.extend(answer.into_iter().take(1));
    }
    Ok(appended)
}

fn read_page(request: &v1::ReadRequest) -> Result<Page, Failure> {
    let records = or_default("max_records", request.max_records, RECORDS)?;
    if records > MAX_RECORDS {
        return Err(invalid("max_records", "at most 10000"));
    }
    let bytes = or_default("max_bytes", request.max_bytes, BYTES)?.min(MAX_BYTES);
    Ok(Page { records, bytes })
}

impl Api {
    /// Records without a key may go anywhere: to a partition that this node leads, so that they need no hop.
    fn partition_for_keyless(&self, topic: &Topic) -> i32 {
        let places = self.admin().places(topic.id);
        let here = places.iter().filter(|place| place.leader == Some(self.node()));
        let here: Vec<i32> = here.map(|place| place.partition.0).collect();
        let draw = self.parts.random.next_u64();
        let pick = |count: usize| usize::try_from(draw % count.max(1) as u64).unwrap_or(0);
        let anywhere =
            || i32::try_from(pick(topic.partitions.unsigned_abs() as usize)).unwrap_or(0);
        here.get(pick(here.len())).copied().unwrap_or_else(anywhere)
    }

    async fn append_part(
        &self,
        topic: &Topic,
        part: &v1::AppendRequest,
        deadline: Instant,
    ) -> v1::AppendedRecords {
        let partition = part.partition.unwrap_or(0);
        let at = TopicPartition { topic: topic.id, partition: PartitionId(partition) };
        let outcome = async {
            let batch = self.encoded(part).await?;
            let expected_base_offset = part.expected_base_offset;
            let append = Append { at, leader_epoch: None, expected_base_offset, deadline, batch };
            self.logs().append(append)?.await
        };
        answer(partition, outcome.await)
    }

    async fn encoded(&self, part: &v1::AppendRequest) -> Result<Bytes, Failure> {
        let now = self.parts.clock.now_ms();
        let records = part.records.iter().map(|record| plain(record, now));
        let records = records.collect::<Result<Vec<_>, _>>()?;
        let (codec, producer) = (compression(part.compression)?, producer(part.producer.as_ref())?);
        let _turn = self.codec.acquire().await;
        batch::encode(&records, codec, producer)
            .map_err(|error| refuse(FailureCode::InvalidArgument, error.to_string()))
    }

    /// Reads records; at the end of the partition it waits for more until then.
    async fn read_until(
        &self,
        topic: &Topic,
        (at, offset): (TopicPartition, i64),
        page: Page,
        until: Instant,
    ) -> Result<v1::ReadResponse, Failure> {
        let mut from = offset;
        loop {
            let read = self.logs().read(read_at(at, from, page.bytes)).await?;
            let (seen, next) = (read.marks, read.next_offset);
            let answer = self.decoded(topic, (at, from), read, page).await?;
            let done = !answer.records.is_empty() || Instant::now() >= until;
            if done {
                return Ok(answer);
            }
            // Batches without a record for this caller: go on behind them before waiting.
            if next > from && next < seen.high_watermark {
                from = next;
                continue;
            }
            from = next;
            if timeout_at(until, self.logs().changed(at, seen)).await.is_err() {
                return Ok(answer);
            }
        }
    }

    async fn decoded(
        &self,
        topic: &Topic,
        (at, offset): (TopicPartition, i64),
        read: Batches,
        limits: Page,
    ) -> Result<v1::ReadResponse, Failure> {
        let Batches { bytes, next_offset, marks } = read;
        let records = {
            let _turn = self.codec.acquire().await;
            batch::decode(bytes).map_err(|error| unreadable(&error))?
        };
        let (records, next) = page(records, (offset, next_offset), limits);
        Ok(read_response(topic, at, (records, next), marks))
    }

    /// Reads again and again until the client ends it or a read fails.
    async fn follow(
        &self,
        topic: Topic,
        at: TopicPartition,
        first: v1::ReadResponse,
        out: mpsc::Sender<Result<v1::ReadResponse, Status>>,
    ) {
        let page = Page { records: RECORDS, bytes: BYTES };
        let mut next = first.next_offset.unwrap_or(0);
        if out.send(Ok(first)).await.is_err() {
            return;
        }
        loop {
            let until = Instant::now() + MAX_WAIT;
            let read = self.read_until(&topic, (at, next), page, until);
            let answer = tokio::select! {
                answer = read => answer,
                () = out.closed() => return,
            };
            let failed = answer.is_err();
            next = answer.as_ref().ok().and_then(|answer| answer.next_offset).unwrap_or(next);
            let told = out.send(answer.map_err(|failure| whole_call(&failure))).await;
            if failed || told.is_err() {
                return;
            }
        }
    }
}

fn read_at(at: TopicPartition, offset: i64, max_bytes: usize) -> ReadAt {
    ReadAt { at, offset, leader_epoch: None, last_fetched_epoch: None, max_bytes }
}

fn read_response(
    topic: &Topic,
    at: TopicPartition,
    (records, next): (Vec<v1::LogRecord>, i64),
    marks: Marks,
) -> v1::ReadResponse {
    v1::ReadResponse {
        topic: Some(topic_ref(topic)),
        partition: Some(at.partition.0),
        records,
        next_offset: Some(next),
        high_watermark: marks.high_watermark,
        log_start_offset: marks.log_start,
        throttle_ms: 0,
        failure: None,
    }
}

fn answer(partition: i32, outcome: Result<Appended, Failure>) -> v1::AppendedRecords {
    let partition = Some(partition);
    match outcome {
        Ok(appended) => v1::AppendedRecords {
            partition,
            base_offset: Some(appended.receipt.base_offset),
            record_count: appended.receipt.record_count,
            append_time_ms: appended.receipt.append_time_ms,
            duplicate: appended.receipt.duplicate,
            achieved: v1::Durability::QuorumFsync.into(),
            read_token: appended.read_token,
            ..v1::AppendedRecords::default()
        },
        Err(failure) => v1::AppendedRecords {
            partition,
            failure: Some(failure.into()),
            ..v1::AppendedRecords::default()
        },
    }
}
