//! The client's examples as a newcomer runs them: programs of their own, against a cluster of three processes. Each checks
//! itself; here counts how it ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::cluster::Cluster;

/// Two of them wait for a session of six seconds to end.
const LIMIT: Duration = Duration::from_secs(150);

/// The example from the same build as this test.
fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let build = this.ancestors().nth(2).unwrap();
    let path = build.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "no {}: build all with `cargo test --workspace`", path.display());
    path
}

/// Runs an example to its good end, and gives what it printed.
async fn run(name: &str, arguments: &[&Path]) -> String {
    let cluster = Cluster::start("").await;
    let mut command = Command::new(program(name));
    command.args(arguments).env("WAYMARK_BOOTSTRAP", cluster.addresses().join(","));
    command.kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} ended with {}\n{said}{complaint}", output.status);
    said
}

/// Real logs of this machine, where a variable names a folder with some; they are not ours to copy.
fn logs() -> Vec<PathBuf> {
    let Some(folder) = std::env::var_os("WAYMARK_TEST_LOGS") else { return Vec::new() };
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|it| it == "log")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_files_are_counted_and_archived_line_by_line() {
    let logs = logs();
    let paths: Vec<&Path> = logs.iter().map(PathBuf::as_path).collect();
    let said = run("log_aggregation", &paths).await;
    assert!(said.contains("every line was counted once and archived once"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_keep_their_sequence_while_members_come_and_go() {
    let said = run("orders", &[Path::new("200")]).await;
    assert!(said.contains("0 repeated when members joined and left"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trades_are_in_the_database_once_and_an_owner_of_the_past_is_refused() {
    let said = run("trades", &[Path::new("400")]).await;
    assert!(said.contains("refused") && said.contains("each once"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measurements_of_the_last_hour_are_added_up_by_the_minute() {
    let said = run("metrics", &[Path::new("10")]).await;
    assert!(said.contains("each complete and none older than an hour"), "{said}");
}
