//! What this machine lets a chaos run do. Owns the way into namespaces of its own, in which every link, mount and process of
//! the run lives, so that nothing of it is left when it ends, however it ends. What may not be made here is said.

use std::env;
use std::io;
use std::process::{Command, ExitStatus, Stdio};

/// Set for the process that runs inside.
const INSIDE: &str = "WAYMARK_CHAOS_INSIDE";
/// The namespaces of a run: links, mounts, processes. Who is not root needs one of users too.
const OWN: [&str; 3] = ["--net", "--mount", "--pid"];
const AS_USER: [&str; 2] = ["--user", "--map-root-user"];

/// Where a run takes place.
#[derive(Debug)]
pub(super) enum Ground {
    /// In namespaces of its own: links can be cut and slowed, file systems made.
    Own,
    /// Among everybody's processes, on loopback; and why.
    Shared(String),
    /// A process inside has run, and ended so.
    Ran(ExitStatus),
}

/// Runs this program again inside namespaces, if this process is not inside yet and some can be made.
///
/// # Errors
/// When the program cannot be started again.
pub(super) fn enter() -> io::Result<Ground> {
    if env::var_os(INSIDE).is_some() {
        return Ok(Ground::Own);
    }
    let way = match way_in() {
        Ok(way) => way,
        Err(reason) => return Ok(Ground::Shared(reason)),
    };
    // Whoever ends this process ends all processes inside.
    let inside = Command::new("unshare")
        .args(way)
        .args(["--fork", "--kill-child", "--mount-proc", "--"])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()?;
    Ok(Ground::Ran(inside))
}

/// The arguments that make namespaces here; or why there are none.
fn way_in() -> Result<Vec<&'static str>, String> {
    let as_root = OWN.to_vec();
    let as_user = [&AS_USER[..], &OWN[..]].concat();
    let mut reason = String::new();
    for way in [as_root, as_user] {
        let tried = Command::new("unshare")
            .args(&way)
            .args(["--fork", "--mount-proc", "--", "ip", "link", "add", "probe", "type", "bridge"])
            .stdin(Stdio::null())
            .output();
        match tried {
            Ok(output) if output.status.success() => return Ok(way),
            Ok(output) => reason = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => reason = format!("unshare: {error}"),
        }
    }
    Err(reason)
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started, or says no; with its own words.
pub(super) fn call(line: &str) -> io::Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{line}: {}", said.trim())))
}
