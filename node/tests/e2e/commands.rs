//! The commands that the README shows, run as its reader runs them: by the one binary, against processes.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::sharing::Turn;

/// Runs `waymark` with these words to its end, with these lines on standard input.
pub(crate) fn waymark(cluster: &Cluster, words: &str, lines: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waymark"));
    command.args(words.split(' ')).env("WAYMARK_BOOTSTRAP", cluster.addresses().join(","));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What a command that succeeds prints.
pub(crate) fn said(cluster: &Cluster, words: &str, lines: &str) -> String {
    let ran = waymark(cluster, words, lines);
    assert!(ran.status.success(), "{words}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_readme_do_what_it_says() {
    let cluster = Cluster::start("").await;
    said(&cluster, "topic create orders --partitions 3", "");
    let lines: String = (1..=1_000).map(|line| format!("{line}\n")).collect();
    said(&cluster, "produce orders -", &lines);
    let first = said(&cluster, "consume orders --from beginning -n 5 -f %p@%o:%v\\n", "");
    assert_eq!(first.lines().count(), 5);
    assert!(first.lines().all(|line| line.contains('@')), "{first}");
    let all = said(&cluster, "consume orders --group billing -e", "");
    let mut numbers: Vec<u32> = all.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=1_000).collect::<Vec<u32>>());
    assert_eq!(said(&cluster, "consume orders --group billing -e", ""), "", "it goes on");
    let described = said(&cluster, "group describe billing", "");
    assert!(described.contains("orders"), "{described}");
    said(&cluster, "group reset billing --to earliest", "");
    assert_eq!(said(&cluster, "consume orders --group billing -n 7", "").lines().count(), 7);
    let explained = said(&cluster, "group explain billing", "");
    assert!(explained.contains("joined") && explained.contains("left for good"), "{explained}");
    assert_eq!(said(&cluster, "consume orders --group billing -e", "").lines().count(), 993);
    let shown = said(&cluster, "offsets show billing", "");
    assert!(shown.contains("orders") && shown.contains("lag 0"), "{shown}");
    let described: Value =
        serde_json::from_str(&said(&cluster, "cluster describe --output json", "")).unwrap();
    assert_eq!(described["nodes"].as_array().map(Vec::len), Some(3), "{described}");
    assert!(said(&cluster, "cluster verify orders", "").contains("all replicas are identical"));
    let refused = waymark(&cluster, "consume nothing", "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("waymark topic create nothing"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demonstration_keeps_every_promise_and_counts() {
    let _turn = Turn::wait();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_waymark"));
    let ran = demo.args(["demo", "--records", "2000", "--output", "json"]).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8(ran.stdout).unwrap();
    let report: Value = serde_json::from_str(said.trim()).unwrap();
    for (count, expected) in [
        ("acknowledged", 2_010),
        ("read", 2_010),
        ("lost", 0),
        ("duplicated", 0),
        ("out_of_order", 0),
    ] {
        assert_eq!(report[count], expected, "{count} of {report}");
    }
    let group = &report["group"];
    for (count, expected) in [("lost", 0), ("repeated_planned", 0), ("two_owners", 0)] {
        assert_eq!(group[count], expected, "{count} of {report}");
    }
    assert_eq!(group["repeated_after_kill"], group["uncommitted_at_kill"], "{report}");
    assert_eq!(group["read"], group["records"], "{report}");
    assert!(group["records"].as_u64() > Some(1_000), "{report}");
    assert_eq!(group["explained"], true, "{report}");
}
