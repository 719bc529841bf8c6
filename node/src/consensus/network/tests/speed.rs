//! How fast entries go through, over real sockets: a number to look at, not a check.

use futures::{StreamExt, stream};
use openraft::network::RaftNetworkV2;
use tokio_stream::wrappers::TcpListenerStream;
use waymark_proto::transport::TcpDial;

use super::*;

const ENTRY: u32 = 256 << 10;
const ENTRIES: u32 = 8000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn appends_over_loopback() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peers = configured();
    peers[1].peer_address = listener.local_addr().unwrap().to_string();
    let options = NetworkOptions::default();
    let of = |node| Network::new(NodeId(node), peers.clone(), Arc::new(TcpDial), options.clone());
    let (near, far) = (of(1), of(2));
    near.set_cluster(CLUSTER);
    let host =
        Arc::new(FakeHost { node: 2, cluster: Mutex::new(Some(CLUSTER)), ..FakeHost::default() });
    host.replicas.lock().unwrap().insert(0, Arc::default());
    let routes = far.routes(Arc::clone(&host) as Arc<dyn PeerHost>);
    let serving = server(Purpose::Peer).add_routes(routes);
    let incoming = TcpListenerStream::new(listener);
    let _server = AbortOnDropHandle::new(tokio::spawn(async move {
        serving.serve_with_incoming(incoming).await.unwrap();
    }));
    let mut way = near.factory(ShardId(0), replica(1));
    let mut way = way.new_client(RaftNode(replica(2)), &EmptyNode {}).await;
    let payload = entry(0, ENTRY as usize).payload;
    for batch in [1, 4_u32] {
        let payload = payload.clone();
        let input = (0..ENTRIES / batch).map(move |number| AppendEntriesRequest {
            vote: leader_vote(1),
            prev_log_id: u64::from(number * batch).checked_sub(1).map(log_id),
            entries: (0..batch)
                .map(|i| Entry {
                    log_id: log_id(u64::from(number * batch + i)),
                    payload: payload.clone(),
                })
                .collect(),
            leader_commit: None,
        });
        let start = Instant::now();
        let output = way.stream_append(stream::iter(input), option()).await.unwrap();
        let answers = output.filter(|answer| std::future::ready(answer.is_ok())).count().await;
        let seconds = start.elapsed().as_secs_f64();
        let mebibytes = f64::from(ENTRIES) * f64::from(ENTRY) / f64::from(1 << 20);
        eprintln!("{batch} entries a request: {answers} answers, {:.0} MiB/s", mebibytes / seconds);
    }
}
