//! Says of which source evidence is: the commit of the checkout that the simulation was built from, and whether anything in
//! it was changed since. Owns the questions to git, asked when evidence is written; what cannot be told is unknown.

use std::fmt;
use std::process::Command;

/// Where this crate was built.
const HERE: &str = env!("CARGO_MANIFEST_DIR");
/// All of the checkout but the evidence itself, which is written before it is committed.
const ALL_BUT_EVIDENCE: [&str; 3] = ["--", ":(top)", ":(top,exclude)tests/EVIDENCE.md"];

/// The source of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// Its commit; `None`: unknown.
    pub commit: Option<String>,
    /// Whether files differ from it.
    pub is_changed: bool,
}

impl Checkout {
    /// Of the sources of this program, as they are now.
    #[must_use]
    pub fn now() -> Self {
        let commit = git(&["rev-parse", "HEAD"]);
        let status = git(&[&["status", "--porcelain"], &ALL_BUT_EVIDENCE[..]].concat());
        Self { commit, is_changed: status.is_none_or(|it| !it.is_empty()) }
    }
}

impl fmt::Display for Checkout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.commit, self.is_changed) {
            (None, _) => f.write_str("an unknown commit"),
            (Some(commit), false) => write!(f, "commit `{commit}`, with nothing changed"),
            (Some(commit), true) => {
                write!(f, "commit `{commit}`, with changes that are in no commit")
            }
        }
    }
}

/// What git says; `None` when it cannot be asked, or there is no checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(["-C", HERE]).args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_called_unknown() {
        let unknown = Checkout { commit: None, is_changed: true };
        assert_eq!(unknown.to_string(), "an unknown commit");
        let clean = Checkout { commit: Some("0123".to_owned()), is_changed: false };
        assert_eq!(clean.to_string(), "commit `0123`, with nothing changed");
        assert_eq!(git(&["no-such-command"]), None);
    }
}
