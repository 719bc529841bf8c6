//! Commands from their words to their output, against a node in a box.

use clap::Parser;
use tokio_util::sync::CancellationToken;
use waymark_client::FailureCode as Code;
use waymark_client::cli::{self, Call, Exit, Output};
use waymark_proto::v1::RetryClass as Class;

use crate::fake::{Fake, Fault, TOPIC};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    call: Call,
}

/// How the command ended, what it printed, and its error.
async fn waymark(fake: &Fake, words: &[&str]) -> (Exit, String, String) {
    let mut all = vec!["waymark"];
    all.extend(words);
    all.extend(["--bootstrap", "dead:1,alive:1", "--timeout", "5s"]);
    let Arguments { call: Call { command, mut global } } = Arguments::try_parse_from(all).unwrap();
    global.dial = Some(fake.config().dial);
    let (mut out, captured) = Output::captured(global.output);
    let interrupt = CancellationToken::new();
    let outcome = cli::execute(command, &global, &mut out, interrupt).await;
    drop(out);
    let (exit, error) = match outcome {
        Ok(exit) => (exit, String::new()),
        Err(failure) => (failure.exit(), failure.to_string()),
    };
    (exit, captured.text(), error)
}

/// A file with these bytes that goes away with the test.
struct Lines(std::path::PathBuf);

impl Lines {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("waymark-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // A file that is left in the temporary folder is no failure.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn lines_come_back_as_they_were_sent() {
    let fake = Fake::start(1);
    let lines = Lines::new("back", b"first\n\nthird\r\nlast without line feed");
    let (exit, out, error) = waymark(&fake, &["produce", TOPIC, lines.path()]).await;
    assert_eq!((exit, error.as_str()), (Exit::Done, ""));
    assert!(out.starts_with("4 records acknowledged, "), "{out}");
    assert!(out.contains("p99"), "{out}");
    let (exit, out, _) = waymark(&fake, &["consume", TOPIC, "-e"]).await;
    assert_eq!(exit, Exit::Done);
    assert_eq!(out, "first\n\nthird\r\nlast without line feed\n");
}

#[tokio::test]
async fn keys_headers_and_places_are_printed_as_the_format_says() {
    let fake = Fake::start(2);
    let lines = Lines::new("keys", b"a:1\nb:2\n");
    let words = ["produce", TOPIC, lines.path(), "--key-separator", ":", "-p", "1", "-H", "h=x"];
    assert_eq!(waymark(&fake, &words).await.0, Exit::Done);
    let words = ["consume", TOPIC, "-e", "-f", "%t/%p@%o %k=%v %h\\n"];
    let (_, out, _) = waymark(&fake, &words).await;
    assert_eq!(out, "t/1@0 a=1 h=x\nt/1@1 b=2 h=x\n");
    let words = ["consume", TOPIC, "-n", "1", "--from", "1", "-p", "1", "--output", "json"];
    let (_, out, _) = waymark(&fake, &words).await;
    let record: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&record["key"], &record["offset"]), (&"b".into(), &1.into()));
}

#[tokio::test]
async fn a_member_goes_on_after_what_was_printed_and_not_after_what_was_fetched() {
    let fake = Fake::start(1);
    let lines = Lines::new("group", b"0\n1\n2\n3\n");
    waymark(&fake, &["produce", TOPIC, lines.path()]).await;
    let one = ["consume", TOPIC, "--group", "g", "-n", "1"];
    assert_eq!(waymark(&fake, &one).await, (Exit::Done, "0\n".to_owned(), String::new()));
    assert!(fake.lock().group.members.is_empty(), "it has left");
    assert_eq!(waymark(&fake, &one).await.1, "1\n");
    let unseen = ["consume", TOPIC, "--group", "g", "-e", "--no-commit"];
    assert_eq!(waymark(&fake, &unseen).await.1, "2\n3\n");
    let rest = ["consume", TOPIC, "--group", "g", "-e"];
    assert_eq!(waymark(&fake, &rest).await.1, "2\n3\n", "nothing had been committed");
    assert_eq!(waymark(&fake, &rest).await.1, "");
    let back = ["offsets", "commit", "g", TOPIC, "--to", "beginning"];
    let (exit, _, error) = waymark(&fake, &back).await;
    assert_eq!((exit, error.as_str()), (Exit::Done, ""));
    assert_eq!(waymark(&fake, &rest).await.1, "0\n1\n2\n3\n");
}

#[tokio::test]
async fn named_partitions_are_read_without_joining_and_committed_on_demand() {
    let fake = Fake::start(2);
    let lines = Lines::new("manual", b"0\n1\n2\n");
    waymark(&fake, &["produce", TOPIC, lines.path(), "-p", "1"]).await;
    let look = ["consume", TOPIC, "--group", "g", "-p", "1", "-n", "2"];
    let commit = ["consume", TOPIC, "--group", "g", "-p", "1", "-n", "2", "--commit"];
    assert_eq!(waymark(&fake, &look).await.1, "0\n1\n");
    assert_eq!(waymark(&fake, &commit).await.1, "0\n1\n", "looking commits nothing");
    let rest = ["consume", TOPIC, "--group", "g", "-p", "1", "-e"];
    assert_eq!(waymark(&fake, &rest).await.1, "2\n");
    assert_eq!(fake.lock().group.heard.len(), 0, "nobody has joined");
}

#[tokio::test]
async fn a_member_that_is_interrupted_commits_and_leaves() {
    let fake = Fake::start(2);
    let lines = Lines::new("interrupted", b"0\n1\n2\n");
    waymark(&fake, &["produce", TOPIC, lines.path(), "-p", "0"]).await;
    let interrupt = CancellationToken::new();
    let words = ["waymark", "consume", TOPIC, "--group", "g", "-q", "--bootstrap", "alive:1"];
    let Arguments { call: Call { command, mut global } } =
        Arguments::try_parse_from(words).unwrap();
    global.dial = Some(fake.config().dial);
    let (mut out, captured) = Output::captured(global.output);
    let consuming = cli::execute(command, &global, &mut out, interrupt.clone());
    let stopping = async {
        while captured.text() != "0\n1\n2\n" {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        interrupt.cancel();
    };
    let (outcome, ()) = tokio::join!(consuming, stopping);
    assert_eq!(outcome.unwrap_err().exit(), Exit::Interrupted);
    let inner = fake.lock();
    assert!(inner.group.members.is_empty(), "it has left");
    assert_eq!(inner.committed.get(&("g".to_owned(), 0)), Some(&3));
}

#[tokio::test]
async fn what_a_member_cannot_do_says_what_to_do_instead() {
    let fake = Fake::start(1);
    let words = ["consume", TOPIC, "--group", "g", "--from", "beginning"];
    let (exit, _, error) = waymark(&fake, &words).await;
    assert_eq!(exit, Exit::Unusable);
    assert!(error.contains("waymark group reset g"), "{error}");
    let words = ["consume", TOPIC, "--group", "g", "--session-timeout", "1s"];
    let (exit, _, error) = waymark(&fake, &words).await;
    assert_eq!(exit, Exit::Unusable);
    assert!(error.contains("session.timeout.ms"), "{error}");
    fake.lock().group.faults.push_back(crate::fake::failure(Code::InvalidPattern, Class::Fix));
    let words = ["consume", "--pattern", "((", "--group", "g"];
    assert_eq!(waymark(&fake, &words).await.0, Exit::Unusable);
    let words = ["consume", "nope", "--group", "g"];
    assert!(waymark(&fake, &words).await.2.contains("waymark topic create nope"));
}

#[tokio::test]
async fn offsets_of_a_topic_are_one_object() {
    let fake = Fake::start(2);
    let lines = Lines::new("offsets", b"a\nb\n");
    waymark(&fake, &["produce", TOPIC, lines.path(), "-p", "1"]).await;
    let (exit, out, _) = waymark(&fake, &["offsets", "list", TOPIC, "--output", "json"]).await;
    assert_eq!(exit, Exit::Done);
    let rows =
        r#"[{"partition":0,"earliest":0,"latest":0},{"partition":1,"earliest":0,"latest":2}]"#;
    assert_eq!(out, format!("{{\"topic\":\"t\",\"partitions\":{rows}}}\n"));
}

#[tokio::test]
async fn a_missing_topic_says_how_to_make_it() {
    let fake = Fake::start(1);
    let lines = Lines::new("missing", b"a\n");
    for words in [&["consume", "nope"][..], &["produce", "nope", lines.path()]] {
        let (exit, _, error) = waymark(&fake, words).await;
        assert_eq!(exit, Exit::Refused, "{error}");
        assert!(error.contains("waymark topic create nope"), "{error}");
    }
}

#[tokio::test]
async fn a_record_that_was_refused_is_named_by_its_line_and_counted() {
    let fake = Fake::start(1);
    fake.faults([Fault::Refuse(Code::PolicyViolation, Class::Fix)]);
    let lines = Lines::new("refused", b"a\n");
    let (exit, out, error) =
        waymark(&fake, &["produce", TOPIC, lines.path(), "--output", "json"]).await;
    assert_eq!(exit, Exit::Refused);
    assert!(error.contains("line 1"), "{error}");
    let summary: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&summary["records"], &summary["failed"]), (&0.into(), &1.into()));
}

#[tokio::test]
async fn silence_is_told_from_refusal() {
    let fake = Fake::start(1);
    let words = ["topic", "list", "--bootstrap", "dead:1", "--timeout", "50ms"];
    let mut all = vec!["waymark"];
    all.extend(words);
    let Arguments { call: Call { command, mut global } } = Arguments::try_parse_from(all).unwrap();
    global.dial = Some(fake.config().dial);
    let (mut out, _) = Output::captured(global.output);
    let token = CancellationToken::new();
    let outcome = cli::execute(command, &global, &mut out, token).await;
    let failure = outcome.unwrap_err();
    assert_eq!(failure.exit(), Exit::Unreachable, "{failure}");
    assert!(failure.to_string().contains("--bootstrap"), "{failure}");
}

#[tokio::test]
async fn a_setting_that_does_not_exist_is_named_but_its_value_is_not() {
    let fake = Fake::start(1);
    let words = ["consume", TOPIC, "-X", "sasl.pasword=hunter2"];
    let (exit, _, error) = waymark(&fake, &words).await;
    assert_eq!(exit, Exit::Unusable);
    assert!(error.contains("sasl.pasword") && !error.contains("hunter2"), "{error}");
}
