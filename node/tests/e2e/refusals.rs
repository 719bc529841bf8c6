//! Data directories that a process must not take: it ends with an error that says what to do, and every byte in the
//! directory is as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use prost::Message;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use waymark_proto::stored::StoredIdentity;

use crate::cluster::{LOOK_AGAIN, PATIENCE, serves};
use crate::sharing::{Turn, free_ports};

/// Bytes of the header that a flush of the journal begins with, its checksum last.
const HEADER: usize = 96;
/// Every flush begins at a multiple of this.
const BLOCK: usize = 4096;

/// A machine on which nodes run that are clusters of their own.
struct Machine {
    folder: TempDir,
    _turn: Turn,
}

/// A process that runs a node. It ends with its handle.
struct Process {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has judged.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    async fn ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !serves(&self.address).await {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the node ended by itself: {ended:?}");
            assert!(Instant::now() < deadline, "the node is not ready");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Its exit code and what it said.
    async fn end(&mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), fs::read_to_string(&self.log).unwrap());
            }
            assert!(
                Instant::now() < deadline,
                "the node runs on a directory that it must not take"
            );
            sleep(LOOK_AGAIN).await;
        }
    }
}

impl Machine {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), _turn: Turn::wait() }
    }

    /// The data directory of a node that ran, and was killed.
    async fn with_node(node: u32) -> (Self, PathBuf) {
        let machine = Self::new();
        let data = machine.folder.path().join("data");
        machine.start(node, &data, &[]).ready().await;
        (machine, data)
    }

    /// Starts a node at free ports on a data directory, with these words before its command.
    fn start(&self, node: u32, data: &Path, before: &[&str]) -> Process {
        let [port, peer] = free_ports();
        let (client, peer) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{peer}"));
        let config = self.folder.path().join(format!("{port}.toml"));
        let log = config.with_extension("log");
        let text = format!(
            "[node]\nid = {node}\ndata = {data:?}\n[listen]\nclient = \"{client}\"\npeer = \"{peer}\"\n\
             [metrics]\naddress = \"off\"\n[journal]\nfile_bytes = \"1 MiB\"\nflush_bytes = \"64 KiB\"\n\
             [broker]\nentry_bytes = \"16 KiB\"\n\
             [[cluster.nodes]]\nid = {node}\nclient = \"{client}\"\npeer = \"{peer}\"\n"
        );
        fs::write(&config, text).unwrap();
        let words = [env!("CARGO_BIN_EXE_waymark"), "node", "--until-stdin-closes", "--config"];
        let words: Vec<&str> = before.iter().copied().chain(words).collect();
        let child = Command::new(words[0])
            .args(&words[1..])
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Process { child, address: client, log }
    }

    /// Starts a node that must not take the directory. What it says names all of these words.
    async fn refuses(&self, node: u32, data: &Path, words: &[&str]) {
        self.refuses_behind(&[], (node, data), words).await;
    }

    async fn refuses_behind(&self, before: &[&str], (node, data): (u32, &Path), words: &[&str]) {
        let bytes = all_bytes(data);
        let mut process = self.start(node, data, before);
        let (code, said) = process.end().await;
        let error = said.lines().rfind(|line| line.starts_with("error: ")).unwrap_or_default();
        assert_eq!(code, Some(1), "{said}");
        for word in words {
            assert!(error.contains(word), "no {word:?} in: {error}");
        }
        assert!(all_bytes(data) == bytes, "something was written: {error}");
    }
}

/// Every file under a folder, by path.
fn all_bytes(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.insert(path.clone(), Vec::new());
            all.append(&mut all_bytes(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            all.insert(path, bytes);
        }
    }
    all
}

fn journal_files(data: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(data.join("journal")).unwrap();
    files.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_never_share_a_data_directory() {
    let machine = Machine::new();
    let data = machine.folder.path().join("data");
    let mut owner = machine.start(1, &data, &[]);
    owner.ready().await;
    let (code, said) = machine.start(1, &data, &[]).end().await;
    assert_eq!(code, Some(1), "{said}");
    let lock = data.join("LOCK").display().to_string();
    for word in ["another process", &lock, "fuser", "a directory of its own"] {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    owner.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_of_another_node_is_refused() {
    let (machine, data) = Machine::with_node(1).await;
    machine.refuses(2, &data, &["belongs to node 1", "node.data", "node.id"]).await;
    machine.start(1, &data, &[]).ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_of_a_newer_version_is_refused() {
    let (machine, data) = Machine::with_node(1).await;
    let path = data.join("identity");
    let ours = fs::read(&path).unwrap();
    let mut stored = StoredIdentity::decode(&ours[4..]).unwrap();
    stored.format_version += 2;
    let body = stored.encode_to_vec();
    let crc = crc32c::crc32c(&body).to_le_bytes();
    fs::write(&path, [&crc[..], &body].concat()).unwrap();
    machine
        .refuses(1, &data, &["identity has format 4", "newer version", "start that version"])
        .await;
    fs::write(&path, ours).unwrap();
    machine.start(1, &data, &[]).ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_of_a_newer_version_is_refused() {
    let (machine, data) = Machine::with_node(1).await;
    let before = all_bytes(&data);
    let mut raised = 0;
    for path in journal_files(&data) {
        let mut bytes = fs::read(&path).unwrap();
        for block in bytes.chunks_exact_mut(BLOCK) {
            for at in [0, BLOCK - HEADER] {
                let header = &mut block[at..at + HEADER];
                if header.starts_with(b"WAYMARKJ") {
                    header[8] += 1;
                    let crc = crc32c::crc32c(&header[..HEADER - 4]);
                    header[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
                    raised += 1;
                }
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    assert!(raised > 0);
    machine.refuses(1, &data, &[".wal has format 2", "newer version", "start that version"]).await;
    for path in journal_files(&data) {
        fs::write(&path, &before[&path]).unwrap();
    }
    machine.start(1, &data, &[]).ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_without_its_journal_is_refused_and_taken_again_once_it_is_back() {
    let (machine, data) = Machine::with_node(1).await;
    let (journal, aside) = (data.join("journal"), machine.folder.path().join("aside"));
    let words = ["\"journal\"", "voted and acknowledged", "never an older copy", "replaced"];
    fs::rename(&journal, &aside).unwrap();
    machine.refuses(1, &data, &words).await;
    fs::create_dir(&journal).unwrap();
    machine.refuses(1, &data, &words).await;
    fs::write(journal.join("00000000.wal"), vec![0; 1 << 20]).unwrap();
    machine.refuses(1, &data, &words).await;
    fs::remove_dir_all(&journal).unwrap();
    fs::rename(&aside, &journal).unwrap();
    machine.start(1, &data, &[]).ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_cannot_be_written_is_refused() {
    let (machine, data) = Machine::with_node(1).await;
    // In a name space of its own, so that nothing is left mounted. Permissions alone would not stop root.
    let mount = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    let data_path = data.display().to_string();
    let read_only = ["unshare", "--mount", "sh", "-c", mount, &data_path];
    let tried = Command::new(read_only[0]).args(&read_only[1..]).arg("true").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        eprintln!("not tried: this system lets nobody mount a directory read-only here");
        return;
    }
    let words = ["node.data", "Read-only file system", "give it another directory"];
    machine.refuses_behind(&read_only, (1, &data), &words).await;
    machine.start(1, &data, &[]).ready().await;
}
