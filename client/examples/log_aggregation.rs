//! Log aggregation: the lines of several log files go into one topic, and two groups read all of them, each in its own way.
//! One counts levels and hosts; the other writes an archive that is, byte for byte, the files that were sent.
//!
//! ```sh
//! waymark dev                                                          # a cluster to talk to
//! cargo run -p waymark-client --example log_aggregation [FILE…]        # without files: generated lines
//! ```
//!
//! What to see: a key (here the file's name) keeps the lines of one source in order; each group gets every line once; the
//! members of a group share the work.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use waymark_client::{
    Client, Consumer, ConsumerConfig, OffsetReset, ProducerConfig, ProducerRecord,
};

mod stage;
use stage::{Outcome, ensure};

const PARTITIONS: i32 = 3;
const GENERATED_LINES: usize = 2_000;
const LEVELS: [&str; 7] = ["debug", "info", "notice", "warn", "error", "crit", "fatal"];

/// A log file: its name, and its lines with their ends.
struct Source {
    name: String,
    lines: Vec<Bytes>,
}

/// Makes the nth line of a file, in the style of a program's log.
type Style = fn(usize) -> String;

/// How often each level or host stands in each file.
type Counts = BTreeMap<String, BTreeMap<String, u64>>;

#[tokio::main]
async fn main() -> ExitCode {
    stage::run(aggregate()).await
}

async fn aggregate() -> Outcome {
    let sources = sources()?;
    let total = sources.iter().map(|source| source.lines.len()).sum();
    let client = Client::connect(stage::cluster()).await?;
    let topic = stage::fresh_topic(&client, "logs", PARTITIONS).await?;
    let archive = tempfile::tempdir()?;

    // Two groups: each gets every line. Within a group each line goes to one member.
    let (to_count, to_archive) = (Remaining::new(total), Remaining::new(total));
    let counters: Vec<_> = (0..3)
        .map(|_| tokio::spawn(count(client.clone(), topic.clone(), to_count.clone())))
        .collect();
    let archivers: Vec<_> = (0..2)
        .map(|_| {
            let folder = archive.path().to_owned();
            tokio::spawn(keep(client.clone(), topic.clone(), folder, to_archive.clone()))
        })
        .collect();

    // A producer per file, as if each came from a machine of its own.
    try_join_all(sources.iter().map(|source| send(&client, &topic, source))).await?;
    println!("sent {total} lines of {} files", sources.len());

    let mut counts = Counts::new();
    for counter in counters {
        for (source, marks) in counter.await?? {
            for (mark, times) in marks {
                *counts.entry(source.clone()).or_default().entry(mark).or_default() += times;
            }
        }
    }
    for archiver in archivers {
        archiver.await??;
    }
    report(&counts);
    check(&sources, &counts, archive.path())?;
    println!("every line was counted once and archived once, in the order of its file");
    Ok(())
}

/// Sends the lines of a file without waiting for each; its name as the key keeps them in order.
async fn send(client: &Client, topic: &str, source: &Source) -> Outcome {
    let producer = client.producer(ProducerConfig::default()).await?;
    let mut acknowledgements = Vec::new();
    for line in &source.lines {
        let record = ProducerRecord::new(topic).key(source.name.clone()).value(line.clone());
        acknowledgements.push(producer.send(record).await?);
    }
    try_join_all(acknowledgements).await?;
    Ok(())
}

/// A member of the group that counts.
async fn count(client: Client, topic: String, remaining: Remaining) -> Outcome<Counts> {
    let consumer = member_of(&client, &format!("{topic}-counters"), &topic).await?;
    let mut counts = Counts::new();
    while !remaining.is_nothing() {
        for record in consumer.poll(Duration::from_millis(100)).await? {
            let source = String::from_utf8_lossy(&record.key.unwrap_or_default()).into_owned();
            let mark = mark(&record.value.unwrap_or_default());
            *counts.entry(source).or_default().entry(mark).or_default() += 1;
            remaining.one_less();
        }
    }
    consumer.close(Duration::from_secs(10)).await?;
    Ok(counts)
}

/// A member of the group that archives: one file per source, in the order in which its lines were sent.
async fn keep(client: Client, topic: String, folder: PathBuf, remaining: Remaining) -> Outcome {
    let consumer = member_of(&client, &format!("{topic}-archive"), &topic).await?;
    while !remaining.is_nothing() {
        for record in consumer.poll(Duration::from_millis(100)).await? {
            let source = String::from_utf8_lossy(&record.key.unwrap_or_default()).into_owned();
            // Another member may have written before: a partition that moves is handed over exactly where it stands.
            let file = OpenOptions::new().create(true).append(true).open(folder.join(source));
            file?.write_all(&record.value.unwrap_or_default())?;
            remaining.one_less();
        }
    }
    consumer.close(Duration::from_secs(10)).await?;
    Ok(())
}

/// Joins a group. Offsets are committed by themselves: asking for more records says that those before are finished.
async fn member_of(client: &Client, group: &str, topic: &str) -> Outcome<Consumer> {
    let config = ConsumerConfig::default().group_id(group).auto_offset_reset(OffsetReset::Earliest);
    let consumer = client.consumer(config)?;
    consumer.subscribe([topic]).await?;
    Ok(consumer)
}

/// Lines that no member of a group has handled yet.
#[derive(Clone)]
struct Remaining(Arc<AtomicUsize>);

impl Remaining {
    fn new(lines: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(lines)))
    }

    fn one_less(&self) {
        // A line too many must not make it wrap round: the check at the end finds what is wrong.
        let _ =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |lines| lines.checked_sub(1));
    }

    fn is_nothing(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// What a line counts as: its level, else the first host that it names by address.
fn mark(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let words = || {
        line.split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
            .map(|word| word.trim_matches('.'))
            .filter(|word| !word.is_empty())
    };
    let level = words().map(str::to_ascii_lowercase).find(|word| LEVELS.contains(&word.as_str()));
    let host = || words().find(|word| word.parse::<Ipv4Addr>().is_ok()).map(str::to_owned);
    level.or_else(host).unwrap_or_else(|| "other".to_owned())
}

fn report(counts: &Counts) {
    for (source, marks) in counts {
        let mut marks: Vec<_> = marks.iter().collect();
        marks.sort_by(|a, b| b.1.cmp(a.1));
        let top: Vec<_> =
            marks.iter().take(4).map(|(mark, times)| format!("{mark} {times}")).collect();
        println!("  {source}: {}", top.join(", "));
    }
}

/// The counts are those of the files themselves, and the archive is the files.
fn check(sources: &[Source], counts: &Counts, archive: &Path) -> Outcome {
    for source in sources {
        let name = &source.name;
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for line in &source.lines {
            *expected.entry(mark(line)).or_default() += 1;
        }
        ensure(counts.get(name) == Some(&expected), || {
            format!(
                "{name} was not counted line by line: {:?} is not {expected:?}",
                counts.get(name)
            )
        })?;
        let sent = source.lines.concat();
        let kept = std::fs::read(archive.join(name))?;
        ensure(kept == sent, || {
            format!("the archive of {name} ({} bytes) is not the file ({})", kept.len(), sent.len())
        })?;
    }
    Ok(())
}

/// The files named as arguments, or three that are generated.
fn sources() -> Outcome<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    for path in std::env::args().skip(1).map(PathBuf::from) {
        let content =
            std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        ensure(!content.is_empty(), || format!("{name} is empty"))?;
        ensure(sources.iter().all(|other| other.name != name), || {
            format!("two files are named {name}: they could not be told apart")
        })?;
        sources.push(Source { name, lines: lines(&content) });
    }
    if sources.is_empty() {
        let styles: [(&str, Style); 3] =
            [("apache.log", apache), ("hdfs.log", hdfs), ("openssh.log", openssh)];
        for (name, line) in styles {
            let content: String = (0..GENERATED_LINES).map(line).collect();
            sources.push(Source { name: name.to_owned(), lines: lines(content.as_bytes()) });
        }
    }
    Ok(sources)
}

/// Lines with their ends, so that together they are the file again.
fn lines(content: &[u8]) -> Vec<Bytes> {
    content.split_inclusive(|byte| *byte == b'\n').map(Bytes::copy_from_slice).collect()
}

fn apache(n: usize) -> String {
    let time = format!("Sun Dec 04 {:02}:{:02}:{:02} 2005", n / 3600 % 24, n / 60 % 60, n % 60);
    match n % 5 {
        0 => format!("[{time}] [error] mod_jk child workerEnv in error state {}\n", n % 9),
        1 => format!("[{time}] [error] [client 192.0.2.{}] Directory index forbidden\n", n % 250),
        _ => {
            format!("[{time}] [notice] jk2_init() Found child {} in scoreboard slot 7\n", 6000 + n)
        }
    }
}

fn hdfs(n: usize) -> String {
    let level = if n.is_multiple_of(25) { "WARN" } else { "INFO" };
    let block = n.wrapping_mul(0x9e37_79b9);
    format!(
        "081109 {n:06} 148 {level} dfs.DataNode$PacketResponder: PacketResponder {} for block blk_{block} terminating\n",
        n % 3
    )
}

fn openssh(n: usize) -> String {
    let host = format!("198.51.100.{}", n % 7);
    let port = 30_000 + n;
    format!(
        "Dec 10 06:55:{:02} gate sshd[{}]: Failed password for root from {host} port {port} ssh2\r\n",
        n % 60,
        24_000 + n / 3
    )
}
