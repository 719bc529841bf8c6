//! Bits that flip in the files of a node, behind its back. Owns where: one bit in a few files of each kind. Never repairs.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

/// Files of one kind that are hurt at once.
const MOST: usize = 3;
/// The journal is written in blocks of so many bytes; those after its end are zero.
const BLOCK: usize = 4096;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Segments,
    Checkpoints,
    Journal,
    Tables,
    Identity,
}

/// Which part of a file: two nodes that rot at once keep what the other one loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    All,
    FirstHalf,
    SecondHalf,
}

impl Kind {
    /// Several files of it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Segments => "segments",
            Self::Checkpoints => "checkpoints",
            Self::Journal => "journal files",
            Self::Tables => "tables",
            Self::Identity => "identities",
        }
    }

    fn is_of(self, file: &Path) -> bool {
        let path = file.to_string_lossy();
        match self {
            Self::Segments => path.ends_with(".log") && path.contains("/shards/"),
            Self::Checkpoints => path.ends_with("/checkpoint"),
            Self::Journal => path.ends_with(".wal"),
            Self::Tables => path.ends_with("/tables/db"),
            Self::Identity => path.ends_with("/identity"),
        }
    }
}

/// All files of a kind.
///
/// # Errors
/// When a folder cannot be read, other than because the node has just removed it.
pub(super) fn files(data: &Path, kind: Kind) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(data, &mut files)?;
    files.retain(|file| kind.is_of(file));
    files.sort();
    Ok(files)
}

/// Flips a bit in some files of a kind; returns in how many.
///
/// # Errors
/// When a file cannot be read or written, other than because the node has just removed it.
pub(super) fn rot(data: &Path, kind: Kind, part: Part, random: &mut SmallRng) -> io::Result<usize> {
    let mut files = files(data, kind)?;
    files.shuffle(random);
    let mut hurt = 0;
    for file in files {
        if hurt == MOST {
            break;
        }
        match flip(&file, kind, part, random) {
            Ok(true) => hurt += 1,
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hurt)
}

fn flip(path: &Path, kind: Kind, part: Part, random: &mut SmallRng) -> io::Result<bool> {
    let len = match kind {
        Kind::Journal => written(path)?,
        _ => fs::metadata(path)?.len(),
    };
    let range = match part {
        Part::All => 0..len,
        Part::FirstHalf => 0..len / 2,
        Part::SecondHalf => len / 2..len,
    };
    if range.is_empty() {
        return Ok(false);
    }
    let file: File = OpenOptions::new().read(true).write(true).open(path)?;
    let at = random.random_range(range);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << random.random_range(0..8);
    file.write_all_at(&byte, at)?;
    Ok(true)
}

/// How much of a journal file is not zero.
fn written(path: &Path) -> io::Result<u64> {
    let bytes = fs::read(path)?;
    let blocks = bytes.chunks(BLOCK).rposition(|block| block.iter().any(|it| *it != 0));
    Ok(blocks.map_or(0, |last| (last as u64 + 1) * BLOCK as u64).min(bytes.len() as u64))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match fs::metadata(&path) {
            // What was damaged is kept there.
            Ok(it) if it.is_dir() && !path.ends_with("damaged") => collect(&path, files)?,
            Ok(it) if it.is_file() => files.push(path),
            Ok(_) => {}
            // It went away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn one_bit_flips_in_files_of_the_kind_and_in_the_part_alone() {
        let folder = tempfile::tempdir().unwrap();
        let shard = folder.path().join("shards/2-0/topic");
        fs::create_dir_all(&shard).unwrap();
        fs::write(shard.join("0.log"), vec![0; 1000]).unwrap();
        fs::write(folder.path().join("identity"), vec![0; 30]).unwrap();
        let mut random = SmallRng::seed_from_u64(1);
        for _ in 0..20 {
            let before = fs::read(shard.join("0.log")).unwrap();
            assert_eq!(
                rot(folder.path(), Kind::Segments, Part::SecondHalf, &mut random).unwrap(),
                1
            );
            let after = fs::read(shard.join("0.log")).unwrap();
            let differ: Vec<usize> = (0..1000).filter(|at| before[*at] != after[*at]).collect();
            assert!(differ.len() == 1 && differ[0] >= 500, "{differ:?}");
        }
        assert_eq!(fs::read(folder.path().join("identity")).unwrap(), vec![0; 30]);
        assert_eq!(rot(folder.path(), Kind::Journal, Part::All, &mut random).unwrap(), 0);
    }
}
