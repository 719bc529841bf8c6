//! A disk in memory that loses what was not synced. Owns what a power cut, a failing sync, a full disk and rot do to
//! files; it never touches a real file, and everything it does follows from its seed.
//!
//! Each file has a view (what reads see) and a durable content; a sync brings the writes issued before it over. Names live
//! in folders likewise: a created, renamed or removed name is durable once its folder is synced. [`SimDisk::power_off`]
//! makes every handle fail at once, so that dying tasks cannot write; [`SimDisk::crash`] then decides what survives;
//! [`SimDisk::attach`] gives the handle of the next life.

mod content;
mod faults;
mod handles;
mod mishaps;
mod missing;
mod points;
mod rot;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub use self::points::Point;

use self::content::{Change, Inode, SECTOR, keep_prefix, keep_some};
pub use self::faults::{Crash, Faults};
use self::missing::Missing;
use self::points::{Call, Stage, Trap};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(u64),
}

/// One step in a folder: names set or removed together.
type NameChange = Vec<(String, Option<Node>)>;

#[derive(Debug)]
struct State {
    names: BTreeMap<String, Node>,
    durable_names: BTreeMap<String, Node>,
    /// Steps not synced yet, oldest first.
    name_changes: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Bytes of all files in view.
    used: u64,
    /// Files that somebody holds open, of all lives.
    open: usize,
    /// Raised by a power cut; handles of earlier lives fail.
    generation: u64,
    /// Calls until the power goes by itself.
    calls_left: Option<u64>,
    /// Where the power goes by itself.
    trap: Trap,
    faults: Faults,
    /// Syncs that hang, of all lives.
    hanging: usize,
    rng: StdRng,
}

/// A disk, or one life's handle of it. A clone is the same handle.
#[derive(Debug, Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    generation: u64,
}

fn os_error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl SimDisk {
    /// An empty disk; all that chance decides follows from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            used: 0,
            open: 0,
            generation: 0,
            calls_left: None,
            trap: Trap::default(),
            faults: Faults::default(),
            hanging: 0,
            rng: StdRng::seed_from_u64(seed),
        };
        Self { state: Arc::new(Mutex::new(state)), generation: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another handle, which works as long as the power stays on.
    #[must_use]
    pub fn attach(&self) -> Self {
        let generation = self.lock().generation;
        Self { state: Arc::clone(&self.state), generation }
    }

    /// The handle of the next life: what the one before held open does not work any more, also where it ended by itself.
    #[must_use]
    pub fn attach_anew(&self) -> Self {
        self.lock().generation += 1;
        self.attach()
    }

    /// A disk of its own with the same content, to try something on: healthy, and as quick as it can be.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = self.lock();
        let copy = State {
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            name_changes: state.name_changes.clone(),
            inodes: state.inodes.clone(),
            next_inode: state.next_inode,
            used: state.used,
            open: 0,
            generation: state.generation,
            trap: Trap::default(),
            calls_left: None,
            faults: Faults::default(),
            hanging: 0,
            rng: state.rng.clone(),
        };
        Self { state: Arc::new(Mutex::new(copy)), generation: self.generation }
    }

    /// From now on every call of every handle fails.
    pub fn power_off(&self) {
        let mut state = self.lock();
        state.generation += 1;
        state.calls_left = None;
    }

    /// The power goes by itself after so many more calls.
    pub fn power_off_after(&self, calls: u64) {
        self.lock().calls_left = Some(calls);
    }

    /// The power goes by itself at a point, after it was passed so many times; `None`: not any more.
    pub fn set_trap(&self, at: Option<(Point, u32)>) {
        self.lock().trap.set(at);
    }

    /// Where the power went by itself, until a trap is set anew.
    #[must_use]
    pub fn sprung(&self) -> Option<Point> {
        self.lock().trap.sprung()
    }

    /// Whether the power went since this handle was attached.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.lock().generation != self.generation
    }

    /// What goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Power off, and decides what survives.
    pub fn crash(&self, mode: Crash) {
        self.power_off();
        let mut state = self.lock();
        let State { inodes, rng, .. } = &mut *state;
        for inode in inodes.values_mut() {
            let dirty = std::mem::take(&mut inode.dirty);
            match mode {
                Crash::LoseAll => {}
                Crash::KeepAll => inode.durable = inode.view.clone(),
                Crash::TornPrefix => keep_prefix(&mut inode.durable, &dirty, rng),
                Crash::Shuffle => keep_some(&mut inode.durable, &dirty, rng),
            }
            inode.view = inode.durable.clone();
            inode.missing = Missing::default();
        }
        let steps = std::mem::take(&mut state.name_changes);
        let kept = match mode {
            Crash::LoseAll => 0,
            Crash::KeepAll => steps.len(),
            Crash::TornPrefix | Crash::Shuffle => state.rng.random_range(0..=steps.len()),
        };
        for step in &steps[..kept] {
            set_names(&mut state.durable_names, step);
        }
        state.drop_lost_names();
    }

    /// All that is in view is durable from now on, whatever the syncs were worth.
    pub fn write_back(&self) {
        let mut state = self.lock();
        for inode in state.inodes.values_mut() {
            for change in std::mem::take(&mut inode.dirty) {
                inode.settle(&change);
                inode.drained += 1;
            }
        }
        for step in std::mem::take(&mut state.name_changes) {
            set_names(&mut state.durable_names, &step);
        }
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used
    }

    /// Files that are open now.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.lock().open
    }

    /// Another disk in its place, empty, with the same faults. The handles of this life fail.
    pub fn replace(&self) {
        self.power_off();
        let mut state = self.lock();
        state.names.clear();
        state.durable_names.clear();
        state.name_changes.clear();
        state.inodes.clear();
        state.used = 0;
    }

    /// All files with their length in view, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<(String, u64)> {
        let state = self.lock();
        let length = |number: &u64| state.inodes.get(number).map_or(0, |inode| inode.view.len);
        let files = state.names.iter().filter_map(|(path, node)| match node {
            Node::File(number) => Some((path.clone(), length(number))),
            Node::Folder => None,
        });
        files.collect()
    }

    /// As `call`, for what changes names.
    fn call_to_change(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.call()?;
        if state.faults.read_only { Err(os_error(libc::EROFS)) } else { Ok(state) }
    }

    /// The state, if this handle's power is still on. Every call comes through here once.
    fn call(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        match &mut state.calls_left {
            Some(0) => {
                state.calls_left = None;
                state.generation += 1;
            }
            Some(left) => *left -= 1,
            None => {}
        }
        if state.generation == self.generation { Ok(state) } else { Err(os_error(libc::EIO)) }
    }

    async fn sync_where(&self, chosen: impl Fn(u64) -> bool, path: &str) -> io::Result<()> {
        // A sync covers what was written before it was issued; a crash may land in the time that it takes.
        let (covered, latency, fails, lies) = {
            let mut state = self.call()?;
            state.pass(Call::Sync, path, Stage::Before)?;
            let chosen = state.inodes.iter().filter(|(number, _)| chosen(**number));
            let covered: Vec<_> = chosen
                .map(|(number, inode)| (*number, inode.drained + inode.dirty.len()))
                .collect();
            let Faults { sync_errors, sync_lies, .. } = state.faults;
            let latency = state.sync_latency(path);
            let (fails, lies) = (state.strikes(sync_errors, path), state.strikes(sync_lies, path));
            (covered, latency, fails, lies)
        };
        self.take(latency).await;
        let mut state = self.call()?;
        let generation = state.generation;
        for (number, upto) in covered {
            let Some(inode) = state.inodes.get_mut(&number) else { continue };
            if lies {
                continue;
            }
            // Another sync may have covered some of it meanwhile; what came after this one began stays.
            let count = upto.saturating_sub(inode.drained);
            inode.drained += count;
            let changes: Vec<Change> = inode.dirty.drain(..count).collect();
            for change in changes {
                if fails {
                    inode.miss(&change, generation);
                } else {
                    inode.settle(&change);
                }
            }
        }
        if fails {
            return Err(os_error(libc::EIO));
        }
        state.pass(Call::Sync, path, Stage::After)
    }
}

fn set_names(names: &mut BTreeMap<String, Node>, step: &NameChange) {
    for (path, node) in step {
        match node {
            Some(node) => names.insert(path.clone(), *node),
            None => names.remove(path),
        };
    }
}

impl State {
    fn rename_step(&mut self, step: NameChange) {
        set_names(&mut self.names, &step);
        self.name_changes.push(step);
    }

    /// After a crash: what is durable is all there is, and a name in a folder that was lost is lost too.
    fn drop_lost_names(&mut self) {
        let names = std::mem::take(&mut self.durable_names);
        for (path, node) in names {
            let parent = parent(&path);
            if parent.is_empty() || self.durable_names.get(parent) == Some(&Node::Folder) {
                self.durable_names.insert(path, node);
            }
        }
        self.names = self.durable_names.clone();
        let live: BTreeSet<u64> = self.names.values().filter_map(Node::inode).collect();
        self.inodes.retain(|number, _| live.contains(number));
        self.used = self.inodes.values().map(|inode| inode.view.len).sum();
    }

    fn change(&mut self, number: u64, path: &str, change: Change) -> io::Result<()> {
        if self.faults.read_only {
            return Err(os_error(libc::EROFS));
        }
        let Faults { write_errors, short_writes, .. } = self.faults;
        if self.strikes(write_errors, path) {
            self.miss(number, &change);
            return Err(os_error(libc::EIO));
        }
        if self.strikes(short_writes, path)
            && let Change::Write(offset, data) = &change
        {
            let whole_sectors = self.rng.random_range(0..=data.len() / SECTOR);
            let part = data.slice(..whole_sectors * SECTOR);
            self.miss(number, &change);
            self.take_in(number, Change::Write(*offset, part))?;
            return Err(os_error(libc::EIO));
        }
        let written = match &change {
            Change::Write(_, data) => Some(data.clone()),
            Change::SetLen(_) => None,
        };
        self.take_in(number, change)?;
        written.map_or(Ok(()), |data| self.pass(Call::Write(&data), path, Stage::After))
    }

    /// From here on reads see it.
    fn take_in(&mut self, number: u64, change: Change) -> io::Result<()> {
        let Some(inode) = self.inodes.get_mut(&number) else { return Ok(()) };
        let old = inode.view.len;
        let new = match &change {
            Change::Write(offset, data) => old.max(offset + data.len() as u64),
            Change::SetLen(len) => *len,
        };
        let used = self.used - old + new;
        if new > old && self.faults.capacity.is_some_and(|capacity| used > capacity) {
            return Err(os_error(libc::ENOSPC));
        }
        self.used = used;
        inode.view.apply(&change);
        inode.dirty.push(change);
        Ok(())
    }
}

impl Node {
    fn inode(&self) -> Option<u64> {
        match self {
            Self::Folder => None,
            Self::File(number) => Some(*number),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waymark_node::storage::disk::{Disk, DiskFile, OpenMode};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_not_synced_is_lost_with_the_power() {
        let disk = SimDisk::new(1);
        disk.create_dir("a").await.unwrap();
        let file = disk.open("a/b", OpenMode::Write).await.unwrap();
        file.write_at(0, vec![Bytes::from_static(b"one")]).await.unwrap();
        file.sync().await.unwrap();
        file.write_at(3, vec![Bytes::from_static(b"two")]).await.unwrap();
        disk.sync_dir("").await.unwrap();
        disk.sync_dir("a").await.unwrap();
        disk.rename("a/b", "a/c").await.unwrap();
        disk.crash(Crash::LoseAll);
        assert!(file.len().await.is_err(), "a handle of the life before");
        let disk = disk.attach();
        assert_eq!(disk.list("a").await.unwrap(), ["b"]);
        let file = disk.open("a/b", OpenMode::Read).await.unwrap();
        assert_eq!(file.read_at(0, 99).await.unwrap(), "one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_in_a_folder_that_was_never_synced_is_lost() {
        let disk = SimDisk::new(1);
        disk.create_dir("a").await.unwrap();
        let file = disk.open("a/b", OpenMode::Write).await.unwrap();
        file.sync().await.unwrap();
        disk.sync_dir("a").await.unwrap();
        disk.crash(Crash::LoseAll);
        assert_eq!(disk.files(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_takes_no_more_and_gives_back_what_was_replaced_or_removed() {
        let disk = SimDisk::new(1);
        let write = async |path: &str, bytes: usize| {
            let file = disk.open(path, OpenMode::Write).await?;
            file.write_at(0, vec![Bytes::from(vec![1; bytes])]).await
        };
        write("a", 60).await.unwrap();
        disk.set_faults(Faults { capacity: Some(100), ..Faults::default() });
        assert_eq!(write("b", 41).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        write("b", 40).await.unwrap();
        assert_eq!(disk.space().await.unwrap().free, 0);
        disk.rename("b", "a").await.unwrap();
        assert_eq!(disk.used(), 40, "the name of the other file was taken");
        disk.remove("a").await.unwrap();
        assert_eq!((disk.used(), disk.space().await.unwrap().free), (0, 100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shorter_file_grows_with_zeros_and_a_failed_sync_loses_what_it_covered() {
        let disk = SimDisk::new(1);
        let file = disk.open("f", OpenMode::Write).await.unwrap();
        file.write_at(0, vec![Bytes::from_static(b"abcdef")]).await.unwrap();
        file.set_len(2).await.unwrap();
        file.set_len(4).await.unwrap();
        assert_eq!(file.read_at(0, 99).await.unwrap(), &b"ab\0\0"[..]);
        disk.sync_dir("").await.unwrap();
        disk.set_faults(Faults { sync_errors: 1.0, ..Faults::default() });
        file.sync().await.unwrap_err();
        disk.set_faults(Faults::default());
        file.sync().await.unwrap();
        disk.crash(Crash::LoseAll);
        assert_eq!(disk.files(), [("f".to_owned(), 0)]);
    }

    /// A file with some durable bytes, to which then something goes wrong.
    async fn prepared(faults: Faults) -> (SimDisk, Arc<dyn DiskFile>) {
        let disk = SimDisk::new(1);
        let file = disk.open("f", OpenMode::Write).await.unwrap();
        file.write_at(0, vec![Bytes::from(vec![0; 8192])]).await.unwrap();
        disk.sync_all().await.unwrap();
        assert!(disk.has_durable("f", 8192) && !disk.has_durable("f", 8193), "its length counts");
        disk.set_faults(faults);
        (disk, file)
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_failed_sync_covered_is_not_durable_before_it_is_written_again() {
        let (disk, file) = prepared(Faults { sync_errors: 1.0, ..Faults::default() }).await;
        file.write_at(8, vec![Bytes::from_static(b"lost")]).await.unwrap();
        assert!(!disk.has_durable("f", 12));
        file.sync().await.unwrap_err();
        assert!(!disk.has_durable("f", 12) && disk.has_durable("f", 8));
        disk.set_faults(Faults::default());
        file.sync().await.unwrap();
        assert!(!disk.has_durable("f", 12), "the second sync had nothing to bring over");
        file.write_at(8, vec![Bytes::from_static(b"told")]).await.unwrap();
        file.sync().await.unwrap();
        assert!(disk.has_durable("f", 12));
    }

    #[tokio::test(start_paused = true)]
    async fn a_life_goes_by_what_the_one_before_left_in_view_also_where_it_failed_to_grow() {
        let (disk, file) = prepared(Faults { sync_errors: 1.0, ..Faults::default() }).await;
        file.set_len(16_384).await.unwrap();
        assert!(!disk.has_durable("f", 16_384));
        file.sync().await.unwrap_err();
        assert!(!disk.has_durable("f", 16_384) && disk.has_durable("f", 8192));
        let next = disk.attach_anew();
        assert!(next.has_durable("f", 16_384) && !next.has_durable("f", 16_385));
        file.sync().await.unwrap_err();
        disk.crash(Crash::LoseAll);
        assert_eq!(disk.files(), [("f".to_owned(), 8192)], "and the disk goes by what it has");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_failed_write_was_to_hold_is_not_durable() {
        for faults in [
            Faults { write_errors: 1.0, ..Faults::default() },
            Faults { short_writes: 1.0, ..Faults::default() },
        ] {
            let (disk, file) = prepared(faults).await;
            // No whole sectors: the end of it is never there.
            file.write_at(512, vec![Bytes::from(vec![7; 1100])]).await.unwrap_err();
            disk.set_faults(Faults::default());
            file.sync().await.unwrap();
            assert!(!disk.has_durable("f", 8192) && disk.has_durable("f", 512));
            let disk = disk.attach();
            disk.power_off();
            assert!(disk.has_durable("f", 8192), "the next life goes by what it finds");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_write_leaves_its_first_sectors_and_fails() {
        let disk = SimDisk::new(1);
        disk.set_faults(Faults { short_writes: 1.0, ..Faults::default() });
        let data = Bytes::from(vec![7; 4 * SECTOR]);
        let mut lengths = BTreeSet::new();
        for number in 0..20 {
            let file = disk.open(&format!("f{number}"), OpenMode::Write).await.unwrap();
            file.write_at(0, vec![data.clone()]).await.unwrap_err();
            lengths.insert(file.len().await.unwrap());
        }
        assert!(lengths.iter().all(|it| it.is_multiple_of(SECTOR as u64)), "{lengths:?}");
        assert!(lengths.len() > 2, "{lengths:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trap_takes_the_power_between_a_flush_and_its_sync() {
        let disk = SimDisk::new(1);
        disk.create_dir("journal").await.unwrap();
        let file = disk.open("journal/00000000.wal", OpenMode::Write).await.unwrap();
        disk.sync_all().await.unwrap();
        disk.set_trap(Some((Point::JournalWritten, 0)));
        file.write_at(0, vec![Bytes::from_static(&[0; 8])]).await.unwrap();
        file.write_at(0, vec![Bytes::from_static(b"a flush")]).await.unwrap_err();
        assert!(disk.is_off());
        assert_eq!(disk.sprung(), Some(Point::JournalWritten));
        disk.crash(Crash::LoseAll);
        assert_eq!(disk.files(), [("journal/00000000.wal".to_owned(), 0)]);
    }
}
