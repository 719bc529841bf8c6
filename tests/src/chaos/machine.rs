//! One machine of a chaos run: a real node process, its folder, and the file system below it where that is a small one of
//! its own. Owns what is done to a process and to its disk from outside. Never looks into either.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::ground::call;

/// Filled up by a fault, away from the node's own files.
const FILLER: &str = "filler";
/// Written at once while a disk is filled.
const CHUNK: usize = 1 << 20;

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    /// With the configuration, the log and, below `disk`, everything that a node keeps.
    folder: PathBuf,
    process: Option<Child>,
    frozen: bool,
}

impl Machine {
    /// # Errors
    /// When the folder, or its own file system of so many mebibytes, cannot be made.
    pub(super) fn new(folder: PathBuf, own_disk_mib: Option<u32>) -> io::Result<Self> {
        let disk = folder.join("disk");
        fs::create_dir_all(&disk)?;
        if let Some(mib) = own_disk_mib {
            call(&format!("mount -t tmpfs -o size={mib}m none {}", disk.display()))?;
        }
        Ok(Self { folder, process: None, frozen: false })
    }

    /// Below which a node keeps its data.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("disk/data")
    }

    /// Its configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("node.toml")
    }

    /// What the node said.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("node.log")
    }

    /// Starts the node, unless it runs.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn start(&mut self, mut program: Command) -> io::Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        program.args(["node", "--until-stdin-closes", "--config"]).arg(self.config());
        let child = program.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn()?;
        self.process = Some(child);
        Ok(())
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    ///
    /// # Errors
    /// When there is no such process any more.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.frozen = false;
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.kill()?;
        process.wait().map(drop)
    }

    /// SIGSTOP: it stands still, its connections stay open.
    ///
    /// # Errors
    /// When there is no such process any more.
    pub(super) fn freeze(&mut self) -> io::Result<()> {
        self.frozen = true;
        self.signal(Signal::STOP)
    }

    /// It goes on where it stood.
    ///
    /// # Errors
    /// When there is no such process any more.
    pub(super) fn thaw(&mut self) -> io::Result<()> {
        self.frozen = false;
        self.signal(Signal::CONT)
    }

    /// How it ended, if it did so by itself.
    ///
    /// # Errors
    /// When that cannot be asked.
    pub(super) fn ended(&mut self) -> io::Result<Option<String>> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let status = process.try_wait()?;
        if status.is_some() {
            self.process = None;
        }
        Ok(status.map(|status| status.to_string()))
    }

    /// Takes every free byte of its file system but so many.
    ///
    /// # Errors
    /// When the disk says anything else than that it is full.
    pub(super) fn fill(&self, free: u64) -> io::Result<()> {
        use io::Write as _;
        let mut filler = File::create(self.filler())?;
        let chunk = vec![0x5a; CHUNK];
        loop {
            match filler.write_all(&chunk) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    let taken = filler.metadata()?.len();
                    return filler.set_len(taken.saturating_sub(free));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives them back.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn make_room(&self) -> io::Result<()> {
        fs::remove_file(self.filler())
    }

    /// Everything that the node kept is gone.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(super) fn lose_data(&self) -> io::Result<()> {
        fs::remove_dir_all(self.data())
    }

    /// The last lines that the node said.
    pub(super) fn last_words(&self, lines: usize) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn filler(&self) -> PathBuf {
        Path::new(&self.folder).join("disk").join(FILLER)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = self.process.as_ref().and_then(|it| i32::try_from(it.id()).ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { return Ok(()) };
        kill_process(pid, signal).map_err(io::Error::from)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A process that stands still cannot end by itself.
        let _ = self.kill();
    }
}
