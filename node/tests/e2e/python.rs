//! A client of another language, generated from the contract with stock tools, and what such a client can find out by
//! itself. Where the stock tools cannot be had, the test says so and ends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::timeout;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};
use waymark_proto::transport::{Purpose, TcpDial, channel};

use crate::cluster::Cluster;

const PROGRAM: &str = include_str!("python_client.py");
/// The services that a client of any language may call, besides health and reflection.
const SERVICES: [&str; 6] = [
    "waymark.v1.ClusterService",
    "waymark.v1.FetchService",
    "waymark.v1.OffsetService",
    "waymark.v1.ProduceService",
    "waymark.v1.RecordService",
    "waymark.v1.TopicService",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_client_generated_with_stock_tools_works_against_any_node() {
    let folder = tempfile::tempdir().unwrap();
    let python = match stock_python(folder.path()) {
        Ok(python) => python,
        Err(why) => {
            eprintln!("skipped: Python's gRPC tools cannot be installed here: {why}");
            return;
        }
    };
    generate(&python, folder.path());
    std::fs::write(folder.path().join("client.py"), PROGRAM).unwrap();
    let cluster = Cluster::start("").await;
    for address in cluster.addresses() {
        let ran =
            Command::new(&python).arg("client.py").arg(&address).current_dir(&folder).output();
        let ran = ran.unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "{address}: {}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(said.trim(), "read 10 records, committed offset 10");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_lists_the_services() {
    let cluster = Cluster::start("").await;
    for address in cluster.addresses() {
        let names = timeout(Duration::from_secs(10), services(&address)).await.unwrap();
        for service in SERVICES {
            assert!(names.iter().any(|name| name == service), "{service} is not among {names:?}");
        }
    }
}

/// The services that a node tells of.
async fn services(address: &str) -> Vec<String> {
    let channel = channel(std::sync::Arc::new(TcpDial), address, Purpose::Client).unwrap();
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(ListServiceResponse { service })) =
        answer.message_response
    else {
        panic!("not a list of services: {answer:?}");
    };
    service.into_iter().map(|service| service.name).collect()
}

/// A Python with gRPC's own code generator, in a folder of its own.
fn stock_python(folder: &Path) -> Result<PathBuf, String> {
    let environment = folder.join("python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let python = environment.join("bin/python");
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--retries", "1"]).args([
        "--timeout",
        "20",
        "grpcio",
        "grpcio-tools",
    ]))?;
    Ok(python)
}

fn generate(python: &Path, folder: &Path) {
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/proto");
    let package = contract.join("waymark/v1");
    let files = std::fs::read_dir(&package).unwrap().map(|entry| entry.unwrap().path());
    let mut command = Command::new(python);
    command.args(["-m", "grpc_tools.protoc", "-I"]).arg(&contract);
    command.args(["--python_out=.", "--grpc_python_out=."]).args(files).current_dir(folder);
    run(&mut command).unwrap();
}

/// Runs a program to its end; the error is the last line that it said.
fn run(command: &mut Command) -> Result<(), String> {
    let ran = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(said.trim().lines().next_back().unwrap_or("it said nothing").to_owned())
}
