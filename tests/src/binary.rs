//! Finds the programs of this workspace that `cargo test --workspace` built beside the tests, so that tests of real
//! processes run what was just compiled. It never builds anything.

use std::path::{Path, PathBuf};

/// The program of this name from the same build as the running test.
///
/// # Panics
/// When it was not built; the message says how.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("the system knows which program runs");
    let found = this.ancestors().skip(1).take(2).find_map(|dir| program_in(dir, name));
    assert!(
        found.is_some(),
        "no program `{name}` beside {}: build all with `cargo test --workspace`",
        this.display()
    );
    found.unwrap_or_default()
}

fn program_in(dir: &Path, name: &str) -> Option<PathBuf> {
    let path = dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    path.is_file().then_some(path)
}
