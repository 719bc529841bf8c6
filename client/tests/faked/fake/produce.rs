//! The fake's produce side: sequence checks as CONTRACT §5.2 has them, and the faults.

use std::pin::Pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use waymark_proto::v1 as wire;
use wire::{FailureCode as Code, RetryClass as Class};

use super::{Fake, Fault, Inner, TOPIC_ID, base_sequence, failure, producer, record_count};

/// `None`: no answer. `Err`: the stream breaks.
type Verdict = Result<Option<wire::BatchReceipt>, Status>;

#[tonic::async_trait]
impl wire::produce_service_server::ProduceService for Fake {
    async fn produce(
        &self,
        _: Request<wire::ProduceRequest>,
    ) -> Result<Response<wire::ProduceResponse>, Status> {
        Err(Status::unimplemented("streams only"))
    }

    type ProduceStreamStream =
        Pin<Box<dyn Stream<Item = Result<wire::ProduceResponse, Status>> + Send>>;

    async fn produce_stream(
        &self,
        request: Request<Streaming<wire::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStreamStream>, Status> {
        let (answers, receiver) = mpsc::channel(64);
        let (fake, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                for batch in request.batches {
                    while fake.lock().held {
                        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    }
                    let verdict = fake.lock().judge(&batch);
                    let answer = match verdict {
                        Ok(None) => continue,
                        Ok(Some(receipt)) => Ok(wire::ProduceResponse {
                            receipts: vec![receipt],
                            throttle_ms: fake.lock().throttle_ms,
                            ..Default::default()
                        }),
                        Err(status) => Err(status),
                    };
                    fake.bell.notify_waiters();
                    let broken = answer.is_err();
                    if answers.send(answer).await.is_err() || broken {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn init_producer(
        &self,
        _: Request<wire::InitProducerRequest>,
    ) -> Result<Response<wire::InitProducerResponse>, Status> {
        let mut inner = self.lock();
        inner.next_producer += 1;
        let producer_id = inner.next_producer;
        Ok(Response::new(wire::InitProducerResponse {
            producer_id: Some(producer_id),
            producer_epoch: Some(0),
            ..Default::default()
        }))
    }
}

impl Inner {
    fn judge(&mut self, batch: &wire::ProduceBatch) -> Verdict {
        let partition = batch.partition.unwrap();
        self.arrived.push((partition, batch.batch.clone()));
        let refuse = |failure| wire::BatchReceipt {
            tag: batch.tag,
            failure: Some(failure),
            ..Default::default()
        };
        if batch.topic_id != self.made_anew.unwrap_or(TOPIC_ID).as_slice() {
            return Ok(Some(refuse(failure(Code::NoLeader, Class::Reroute))));
        }
        match self.faults.pop_front() {
            Some(Fault::Refuse(code, class)) => return Ok(Some(refuse(failure(code, class)))),
            Some(Fault::Break) => return Err(Status::unavailable("planned")),
            Some(Fault::Swallow) => return Ok(None),
            Some(Fault::AppendAndBreak) => {
                let _ = self.append(partition, &batch.batch);
                return Err(Status::unavailable("planned"));
            }
            Some(Fault::ForgetProducer) => {
                self.logs.entry(partition).or_default().producers.clear();
            }
            None => {}
        }
        Ok(Some(match self.append(partition, &batch.batch) {
            Ok((base_offset, duplicate)) => {
                let mut receipt = wire::BatchReceipt {
                    tag: batch.tag,
                    base_offset: Some(base_offset),
                    record_count: record_count(&batch.batch),
                    duplicate,
                    ..Default::default()
                };
                receipt.set_achieved(wire::Durability::QuorumFsync);
                receipt
            }
            Err(failure) => refuse(failure),
        }))
    }

    /// Base offset and whether it was there already.
    pub fn append(&mut self, partition: i32, batch: &Bytes) -> Result<(i64, bool), wire::Failure> {
        let log = self.logs.entry(partition).or_default();
        let (sequence, count, who) = (base_sequence(batch), record_count(batch), producer(batch));
        if who.0 >= 0 {
            let newest = log.producers.keys().filter(|(id, _)| *id == who.0).map(|(_, e)| *e).max();
            if newest.is_some_and(|epoch| epoch > who.1) {
                return Err(failure(Code::ProducerFenced, Class::Fenced));
            }
            match log.producers.get(&who) {
                None if sequence != 0 => return Err(failure(Code::UnknownProducer, Class::Fenced)),
                None => {}
                Some(known) => {
                    if let Some(same) = known.iter().find(|k| (k.0, k.1) == (sequence, count)) {
                        return Ok((same.2, true));
                    }
                    let expected = known.last().map_or(0, |last| last.0 + last.1);
                    if sequence != expected {
                        let mut failure = failure(Code::OutOfOrderSequence, Class::Fenced);
                        failure.expected = Some(i64::from(expected));
                        return Err(failure);
                    }
                }
            }
        }
        let base = log.next_offset;
        if who.0 >= 0 {
            log.producers.entry(who).or_default().push((sequence, count, base));
        }
        log.next_offset += i64::from(count);
        let mut stored = BytesMut::from(&batch[..]);
        (&mut stored[..8]).put_i64(base);
        (&mut stored[12..16]).put_i32(1);
        log.batches.push((base, stored.freeze()));
        Ok((base, false))
    }
}
