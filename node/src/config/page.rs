//! Owns the page of all settings at their defaults, each with its meaning and legal range. `deploy/node.toml` is this page,
//! and a test holds the two together.

use std::fmt::Write;

use super::{ClusterSection, Config};
use crate::config::section::Section;

const OPENING: &str = "\
# Every setting of a Waymark node at its default. A file needs only what differs.
# Sizes are written \"64 MiB\", times \"500 ms\", \"30 s\" or \"5 min\". The environment wins over the file: WAYMARK_JOURNAL_FILE_BYTES
# stands for file_bytes in [journal].
";

const NODES: &str = "\
# All nodes, in the same order everywhere. `client` and `peer` are how clients and the other nodes reach a node; replicas of a
# shard prefer different racks. Without a list the node is a cluster of its own. For three nodes:
#
# [[cluster.nodes]]
# id = 1
# rack = \"a\"
# client = \"waymark-1:7001\"
# peer = \"waymark-1:7101\"
#
# and the same for nodes 2 and 3.
nodes = []
";

/// The text of `deploy/node.toml`.
#[must_use]
pub fn commented_defaults() -> String {
    let mut page = OPENING.to_owned();
    for (name, about, knobs) in Config::chapters() {
        page.push('\n');
        comment(&mut page, about);
        // Writing to a String cannot fail.
        let _ = writeln!(page, "[{name}]");
        for knob in knobs {
            page.push('\n');
            comment(&mut page, knob.about);
            let _ = writeln!(page, "# Legal: {}.\n{} = {}", knob.legal, knob.key, knob.default);
        }
        if name == ClusterSection::NAME {
            page.push('\n');
            page.push_str(NODES);
        }
    }
    page
}

fn comment(page: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(page, "#{line}");
    }
}
