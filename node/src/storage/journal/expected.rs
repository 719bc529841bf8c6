//! Owns what is known of a journal before it is opened, and the refusal when another one is found, or none (S10, S11): a
//! node that forgot its votes must not vote again. It only looks, so a refusal leaves every byte as it was.

use super::files::slots;
use super::recovery::Recovered;
use super::{DIR, JournalError};
use crate::mutants;
use crate::storage::disk::Disk;

/// What a journal must turn out to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expected {
    /// Anything: it is taken as it is found, or born.
    #[default]
    Anything,
    /// Nobody's: no replica has anything in it. It is born when there is none.
    Unused,
    /// Not born now. Which one it is was not written down.
    Existing,
    /// Not born now, and the one with this id.
    Id(u64),
}

impl Expected {
    fn exists(self) -> bool {
        let exists = matches!(self, Self::Existing | Self::Id(_));
        exists && !mutants::planted!("lost-journal-is-born")
    }

    /// A folder that is missing or empty; looked at before it is made anew.
    pub(super) async fn check_folder(self, disk: &dyn Disk) -> Result<(), JournalError> {
        let failed = |source| JournalError::Io { path: DIR.to_owned(), source };
        if self.exists() && slots(disk).await.map_err(failed)?.is_empty() {
            return Err(JournalError::Lost { what: "holds no file of it" });
        }
        Ok(())
    }

    /// What recovery found.
    pub(super) fn check(self, recovered: &Recovered) -> Result<(), JournalError> {
        match (self, recovered.journal) {
            (Self::Existing | Self::Id(_), None) if self.exists() => {
                Err(JournalError::Lost { what: "has files, but no flush in them is readable" })
            }
            (Self::Id(expected), Some(found)) if found != expected => {
                Err(JournalError::Foreign { found, expected })
            }
            (Self::Unused, _) if !recovered.logs.replicas.is_empty() => Err(JournalError::Unowned),
            _ => Ok(()),
        }
    }
}
