//! The fake's fetch side: cursors, credit, and one batch per frame so that every rule has many chances to be broken.

use std::collections::BTreeMap;
use std::pin::Pin;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use waymark_proto::v1 as wire;
use wire::{FailureCode as Code, RetryClass as Class};

use super::{Fake, Inner, failure};

#[derive(Debug, Default)]
struct Cursors {
    open: BTreeMap<i32, (i32, i64)>,
    paused: Vec<i32>,
    credit: i64,
    seq: i64,
    removed: Vec<i32>,
}

#[tonic::async_trait]
impl wire::fetch_service_server::FetchService for Fake {
    async fn fetch(
        &self,
        _: Request<wire::FetchRequest>,
    ) -> Result<Response<wire::FetchResponse>, Status> {
        Err(Status::unimplemented("streams only"))
    }

    type FetchStreamStream = Pin<Box<dyn Stream<Item = Result<wire::FetchFrame, Status>> + Send>>;

    async fn fetch_stream(
        &self,
        request: Request<Streaming<wire::FetchControl>>,
    ) -> Result<Response<Self::FetchStreamStream>, Status> {
        let (frames, receiver) = mpsc::channel(4);
        let (fake, mut controls) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let mut cursors = Cursors::default();
            let mut tick = tokio::time::interval(std::time::Duration::from_millis(1));
            loop {
                tokio::select! {
                    control = controls.message() => match control {
                        Ok(Some(control)) => cursors.apply(control, &fake),
                        _ => return,
                    },
                    _ = tick.tick() => {}
                }
                for frame in cursors.serve(&fake) {
                    if frames.send(Ok(frame)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl Cursors {
    fn apply(&mut self, control: wire::FetchControl, fake: &Fake) {
        for id in &control.remove {
            self.open.remove(id);
            self.removed.push(*id);
        }
        for add in &control.add {
            let position = add.position.clone().unwrap();
            self.open.insert(add.cursor, (position.partition.unwrap(), position.offset.unwrap()));
        }
        self.paused.extend(&control.pause);
        self.paused.retain(|id| !control.resume.contains(id));
        self.credit += control.credit_bytes;
        self.seq = control.control_seq;
        fake.lock().controls.push(control);
    }

    fn serve(&mut self, fake: &Fake) -> Vec<wire::FetchFrame> {
        let mut inner = fake.lock();
        let mut frames = Vec::new();
        if inner.stale_after_remove {
            for id in std::mem::take(&mut self.removed) {
                let stale = inner.logs.values().flat_map(|log| &log.batches).next();
                let batches = stale.map(|(_, bytes)| bytes.clone()).unwrap_or_default();
                self.credit -= i64::try_from(batches.len()).unwrap();
                frames.push(self.frame(wire::CursorData {
                    cursor: id,
                    batches,
                    ..Default::default()
                }));
            }
        }
        let ids: Vec<i32> = self.open.keys().copied().collect();
        for id in ids.into_iter().filter(|id| !self.paused.contains(id)).collect::<Vec<_>>() {
            if self.credit > 0 {
                frames.extend(self.serve_one(id, &mut inner));
            }
        }
        frames
    }

    fn serve_one(&mut self, id: i32, inner: &mut Inner) -> Option<wire::FetchFrame> {
        let (partition, offset) = self.open[&id];
        let log = inner.logs.entry(partition).or_default();
        if offset < log.log_start || offset > log.next_offset {
            self.open.remove(&id);
            let mut failure = failure(Code::OffsetOutOfRange, Class::Fix);
            failure.log_start_offset = Some(log.log_start);
            failure.high_watermark = Some(log.next_offset);
            let failure = Some(failure);
            return Some(self.frame(wire::CursorData {
                cursor: id,
                failure,
                ..Default::default()
            }));
        }
        let after = |(base, bytes): &&(i64, bytes::Bytes)| {
            base + i64::from(super::record_count(bytes)) > offset
        };
        let (base, bytes) = log.batches.iter().find(after)?.clone();
        let next = base + i64::from(super::record_count(&bytes));
        self.open.insert(id, (partition, next));
        let size = i64::try_from(bytes.len()).unwrap();
        self.credit -= size;
        let high_watermark = log.next_offset;
        inner.sent_bytes += size;
        Some(self.frame(wire::CursorData {
            cursor: id,
            next_offset: Some(next),
            high_watermark,
            batches: bytes,
            ..Default::default()
        }))
    }

    fn frame(&self, data: wire::CursorData) -> wire::FetchFrame {
        wire::FetchFrame { data: vec![data], applied_control_seq: self.seq, ..Default::default() }
    }
}
