//! Owns the points at which a machine can be made to die: between two steps of the journal, of a segment or of a checkpoint.
//! Each is recognised by a call to the disk and by its path, so that the product needs to know nothing of it. Never decides
//! who dies, or when.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use super::os_error;

/// Bytes of a journal frame without a payload, as a vote is; its checksum stands in front.
const FRAME: usize = 44;
/// Where a frame says what it is, and that it is a vote.
const FACT_AT: usize = 8;
const FACT_VOTE: u8 = 2;
/// … and that it was written before (S3).
const FLAGS_AT: usize = 10;
const CARRIED: u8 = 1;

/// What a disk is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call<'a> {
    /// A file that was not there is made.
    Create,
    /// Bytes are written.
    Write(&'a [u8]),
    /// A file is synced.
    Sync,
    /// A file gets another name; the path is the one it had.
    Rename,
    /// A file goes.
    Remove,
    /// The names in a folder are synced.
    SyncNames,
}

/// How far the call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing of it is done.
    Before,
    /// It is done, and whoever asked has not been told.
    After,
}

/// A moment in the life of a disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) call: Call<'a>,
    pub(super) path: &'a str,
    pub(super) stage: Stage,
    /// A manifest is being pulled for the replica whose file this is.
    pub(super) pulling: bool,
}

/// Where a machine dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// A flush of the journal is written and not synced.
    JournalWritten,
    /// It is synced, and nobody knows yet.
    JournalSynced,
    /// A new vote is synced and not sent.
    VoteSaved,
    /// A new journal file is full of zeros, and its name is not durable.
    JournalFileMade,
    /// A segment has a file, and nothing in it.
    SegmentMade,
    /// A segment was to be synced.
    SegmentUnsynced,
    /// A segment is synced, and the checkpoint that waits for it is not written.
    SegmentSynced,
    /// A checkpoint is written and synced, and still has its temporary name.
    CheckpointWritten,
    /// It has its name, and the folder is not synced.
    CheckpointRenamed,
    /// The first of the files that no checkpoint names is gone.
    SegmentRemoved,
    /// A piece of a manifest is pulled, not synced, and others are not here yet.
    PulledInPart,
}

impl Point {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::JournalWritten,
        Self::JournalSynced,
        Self::VoteSaved,
        Self::JournalFileMade,
        Self::SegmentMade,
        Self::SegmentUnsynced,
        Self::SegmentSynced,
        Self::CheckpointWritten,
        Self::CheckpointRenamed,
        Self::SegmentRemoved,
        Self::PulledInPart,
    ];

    /// The names of all, as in a batch's table.
    pub const NAMES: [&str; 11] = [
        "point-journal-written",
        "point-journal-synced",
        "point-vote-saved",
        "point-journal-file",
        "point-segment-made",
        "point-segment-unsynced",
        "point-segment-synced",
        "point-checkpoint-new",
        "point-checkpoint-named",
        "point-segment-removed",
        "point-pulled-in-part",
    ];

    /// As in a batch's table.
    #[must_use]
    pub fn name(self) -> &'static str {
        // The order is that of the variants; a test says so.
        Self::NAMES[self as usize]
    }

    fn is_at(self, moment: Moment<'_>, votes: &BTreeSet<String>) -> bool {
        let Moment { call, path, stage, pulling } = moment;
        let journal = path.starts_with("journal/");
        let segment = path.starts_with("shards/") && path.ends_with(".log");
        let fresh_checkpoint = path.ends_with("/checkpoint.new");
        let (before, after) = (stage == Stage::Before, stage == Stage::After);
        match (self, call) {
            // A file that is being prepared is written too, with zeros.
            (Self::JournalWritten, Call::Write(bytes)) => after && journal && is_flush(bytes),
            (Self::JournalSynced, Call::Sync) => after && journal,
            (Self::VoteSaved, Call::Sync) => after && votes.contains(path),
            (Self::JournalFileMade, Call::SyncNames) => before && path == "journal",
            (Self::SegmentMade, Call::Create) | (Self::SegmentRemoved, Call::Remove) => {
                after && segment
            }
            (Self::SegmentUnsynced, Call::Sync) => before && segment,
            (Self::SegmentSynced, Call::Sync) => after && segment,
            (Self::CheckpointWritten, Call::Rename) => before && fresh_checkpoint,
            (Self::CheckpointRenamed, Call::Rename) => after && fresh_checkpoint,
            (Self::PulledInPart, Call::Write(_)) => after && segment && pulling,
            _ => false,
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn is_flush(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|byte| *byte != 0)
}

/// A vote for the first time is somewhere in these bytes.
fn holds_vote(bytes: &[u8]) -> bool {
    bytes.windows(FRAME).any(|frame| {
        frame[FACT_AT] == FACT_VOTE
            && frame[FLAGS_AT] & CARRIED == 0
            && frame[4..8] == [0; 4]
            && frame[..4] == crc32c::crc32c(&frame[4..]).to_le_bytes()
    })
}

/// A point that waits for its moment, and the one that was met.
#[derive(Debug, Default)]
pub(super) struct Trap {
    /// Which, and how many times more its moment passes by.
    set: Option<(Point, u32)>,
    sprung: Option<Point>,
    /// Journal files with a vote that no sync covers; kept only while somebody waits for one.
    votes: BTreeSet<String>,
}

impl Trap {
    pub(super) fn set(&mut self, at: Option<(Point, u32)>) {
        *self = Self { set: at, ..Self::default() };
    }

    /// Whether it asks who pulls.
    pub(super) fn is_about_pulls(&self) -> bool {
        self.set.is_some_and(|(point, _)| point == Point::PulledInPart)
    }

    pub(super) fn sprung(&self) -> Option<Point> {
        self.sprung
    }

    /// An error when this is the moment; the power is to go.
    pub(super) fn pass(&mut self, moment: Moment<'_>) -> io::Result<()> {
        let Some((point, passes)) = &mut self.set else { return Ok(()) };
        if *point == Point::VoteSaved
            && let Call::Write(bytes) = moment.call
            && moment.path.starts_with("journal/")
            && holds_vote(bytes)
        {
            self.votes.insert(moment.path.to_owned());
        }
        if !point.is_at(moment, &self.votes) {
            return Ok(());
        }
        self.votes.clear();
        if *passes > 0 {
            *passes -= 1;
            return Ok(());
        }
        let point = *point;
        self.set = None;
        self.sprung = Some(point);
        // Counted as what nodes reach is.
        tracing::trace!(target: "reached", state = point.name());
        Err(os_error(libc::EIO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(trap: &mut Trap, call: Call<'_>, path: &str, stage: Stage) -> bool {
        trap.pass(Moment { call, path, stage, pulling: false }).is_ok()
    }

    #[test]
    fn every_point_has_its_name() {
        for (place, point) in Point::ALL.into_iter().enumerate() {
            assert_eq!(point as usize, place);
        }
    }

    #[test]
    fn a_point_lets_its_moment_pass_as_often_as_it_was_told() {
        let mut trap = Trap::default();
        trap.set(Some((Point::CheckpointRenamed, 1)));
        let path = "shards/1-0/checkpoint.new";
        assert!(passes(&mut trap, Call::Rename, path, Stage::Before));
        assert!(passes(&mut trap, Call::Rename, path, Stage::After));
        assert!(passes(&mut trap, Call::Rename, "identity.new", Stage::After));
        assert!(!passes(&mut trap, Call::Rename, path, Stage::After));
        assert_eq!(trap.sprung(), Some(Point::CheckpointRenamed));
        assert!(passes(&mut trap, Call::Rename, path, Stage::After));
    }

    #[test]
    fn a_piece_of_a_pull_is_told_from_a_piece_of_the_log() {
        let mut trap = Trap::default();
        trap.set(Some((Point::PulledInPart, 0)));
        let path = "shards/1-0/AQEBAQEBAQEBAQEBAQEBAQ.1/00000000000000000000.log";
        assert!(passes(&mut trap, Call::Write(&[1]), path, Stage::After));
        let (call, stage) = (Call::Write(&[1]), Stage::After);
        trap.pass(Moment { call, path, stage, pulling: true }).unwrap_err();
        assert_eq!(trap.sprung(), Some(Point::PulledInPart));
    }

    #[test]
    fn a_vote_is_found_in_its_flush_and_only_the_first_time() {
        let mut frame = [0; FRAME];
        frame[FACT_AT] = FACT_VOTE;
        let sealed = |mut frame: [u8; FRAME]| {
            let sum = crc32c::crc32c(&frame[4..]);
            frame[..4].copy_from_slice(&sum.to_le_bytes());
            let mut flush = vec![1; 133];
            flush.extend(frame);
            flush
        };
        assert!(holds_vote(&sealed(frame)));
        let mut trap = Trap::default();
        trap.set(Some((Point::VoteSaved, 0)));
        let path = "journal/00000001.wal";
        assert!(passes(&mut trap, Call::Sync, path, Stage::After));
        assert!(passes(&mut trap, Call::Write(&sealed(frame)), path, Stage::After));
        assert!(!passes(&mut trap, Call::Sync, path, Stage::After));
        frame[FLAGS_AT] = CARRIED;
        assert!(!holds_vote(&sealed(frame)));
    }
}
