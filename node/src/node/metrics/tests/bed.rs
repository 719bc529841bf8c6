//! One node alone, on a real disk and real sockets, and what a watcher is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::unfold;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use waymark_client::{Client, ClientConfig};
use waymark_proto::transport::{BoxedIo, TcpDial};

use super::page::Page;
use crate::config::Config;
use crate::env::{Env, Random, SystemClock};
use crate::node::{self, Doors, Incoming, MetricsDoor, NodeError, ProcessUsage};
use crate::storage::real_disk::RealDisk;
use crate::storage::tables::MemoryTables;

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(super) struct Bed {
    client: SocketAddr,
    metrics: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), NodeError>>,
    _folder: TempDir,
}

/// What any process might use.
fn usage() -> Option<ProcessUsage> {
    Some(ProcessUsage {
        cpu: Duration::from_millis(1500),
        resident_bytes: 1 << 20,
        virtual_bytes: 1 << 30,
        threads: 3,
        open_files: 17,
        most_files: Some(1024),
    })
}

async fn door() -> (SocketAddr, Incoming) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let connections = unfold(listener, |listener| async {
        let accepted = listener.accept().await;
        Some((accepted.map(|(stream, remote)| BoxedIo::new(stream, Some(remote))), listener))
    });
    (address, Box::pin(connections))
}

impl Bed {
    pub(super) async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let ((client, clients), (peer, peers)) = (door().await, door().await);
        let (metrics, watchers) = door().await;
        let settings = format!(
            "[listen]\nclient = \"{client}\"\npeer = \"{peer}\"\n[journal]\nfile_bytes = \"8 MiB\"\n\
             [consensus]\ncheckpoint_interval = \"200 ms\"\n"
        );
        let config = Config::parse(&settings, []).expect("legal settings");
        let env = Env {
            clock: Arc::new(SystemClock),
            random: Arc::new(Random::from_os()),
            disk: Arc::new(RealDisk::open(folder.path()).expect("a disk")),
            tables: Arc::new(MemoryTables::default()),
            dial: Arc::new(TcpDial),
        };
        let doors = Doors {
            client: clients,
            peer: peers,
            metrics: Some(MetricsDoor { incoming: watchers, usage }),
        };
        let (stop, stopped) = oneshot::channel();
        let running = async move {
            let stopped = async { drop(stopped.await) };
            node::run(&config, env, doors, stopped).await
        };
        let ended = tokio::spawn(running);
        Self { client, metrics, stop, ended, _folder: folder }
    }

    /// A node that serves, and a client of it.
    pub(super) async fn ready() -> (Self, Client) {
        let bed = Self::start().await;
        let ready = async {
            while bed.get("/health").await.status != 200 {
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(PATIENCE, ready).await.expect("a node that gets ready");
        let client = Client::connect(ClientConfig::new([bed.client.to_string()])).await;
        (bed, client.expect("a client"))
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    pub(super) async fn ask(&self, method: &str, path: &str) -> Answer {
        let mut stream = TcpStream::connect(self.metrics).await.expect("somebody listens");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: node\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer { status: status.expect("a status"), head: head.to_owned(), body: body.to_owned() }
    }

    pub(super) async fn page(&self) -> Page {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        Page::parse(&answer.body)
    }

    /// The first page that is as wanted.
    pub(super) async fn page_with(&self, wanted: impl Fn(&Page) -> bool) -> Page {
        let seen = async {
            loop {
                let page = self.page().await;
                if wanted(&page) {
                    return page;
                }
                sleep(LOOK_AGAIN).await;
            }
        };
        timeout(PATIENCE, seen).await.expect("a page as wanted")
    }

    pub(super) async fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.ended.await.expect("no panic").expect("a clean end");
        assert!(TcpStream::connect(self.metrics).await.is_err(), "the listener is gone");
    }
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}
