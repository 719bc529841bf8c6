//! Who may use whom: `api → broker → consensus → storage → state → proto`, to the right only, and the crates that belong
//! to one layer. It reads paths in the code; it never resolves a name as the compiler does.

use crate::source::{Finding, RustFile, is_ident};

/// From the edge to the core; a layer uses what stands after it.
const LAYERS: [&str; 5] = ["api", "broker", "consensus", "storage", "state"];
/// Usable by every layer but `state`; they use each other and no layer.
const LEAVES: [&str; 4] = ["env", "config", "metrics", "mutants"];
/// See everything: the composition root and the command line.
const TOPS: [&str; 4] = ["node", "commands", "main", "lib"];
/// What would make two replicas with the same log differ.
const IMPURE: [&str; 9] =
    ["tokio", "async", "await", "HashMap", "HashSet", "Instant", "SystemTime", "rand", "futures"];

pub(crate) fn check(file: &RustFile) -> Vec<Finding> {
    let mut findings = owned_crates(file);
    let Some(module) = node_module(file.path()) else { return findings };
    let top = module.first().map_or("lib", String::as_str);
    for (offset, target) in paths_from_root(file, &module) {
        if let Some(cure) = forbidden(top, &target) {
            findings.push(file.finding(offset, cure));
        }
    }
    if top == "state" {
        findings.extend(impurities(file));
    }
    findings
}

/// Services of `api/` share by way of the broker, never by calling each other.
pub(crate) fn check_api_siblings(files: &[RustFile]) -> Vec<Finding> {
    let services: Vec<String> = files
        .iter()
        .filter(|file| file.path().starts_with("node/src/api/") && file.code.contains("_server::"))
        .filter_map(|file| node_module(file.path())?.get(1).cloned())
        .collect();
    let mut findings = Vec::new();
    for file in files {
        let Some(module) = node_module(file.path()) else { continue };
        if module.first().is_none_or(|top| top != "api") || module.len() < 2 {
            continue;
        }
        for service in services.iter().filter(|service| **service != module[1]) {
            for path in [format!("crate::api::{service}"), format!("super::{service}")] {
                for offset in file.words(&path) {
                    findings.push(file.finding(
                        offset,
                        format!("one service of api uses another, `{service}`: move what they share to the broker"),
                    ));
                }
            }
        }
    }
    findings
}

/// The path of a module of the node crate, without `mod.rs`.
fn node_module(path: &str) -> Option<Vec<String>> {
    let inside = path.strip_prefix("node/src/")?.strip_suffix(".rs")?;
    let mut module: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    Some(module)
}

fn forbidden(from: &str, to: &str) -> Option<String> {
    let known =
        |name: &str| LAYERS.contains(&name) || LEAVES.contains(&name) || TOPS.contains(&name);
    if !known(from) {
        return Some(format!(
            "`{from}` is neither a layer nor a leaf: move it into one, or name it in tests/tests/tidy/layers.rs"
        ));
    }
    if TOPS.contains(&from) || from == to || !known(to) {
        return None;
    }
    let rank = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let rule = "api → broker → consensus → storage → state → proto";
    match (rank(from), rank(to)) {
        (Some(from_rank), Some(to_rank)) if to_rank > from_rank => None,
        (_, None) if from == "state" && to != "mutants" => Some(format!(
            "`state` uses `{to}`: it is pure and may use `mutants` alone; pass the value in the command"
        )),
        (_, None) if LEAVES.contains(&to) => None,
        // The environment is where the seams meet: it names the traits of the disk and of the tables.
        (None, Some(_)) if from == "env" && to == "storage" => None,
        _ => Some(format!(
            "`{from}` uses `{to}`, which is not to its right in {rule}: turn the dependency round"
        )),
    }
}

/// Every path that starts at the crate's root, as the first name after it, with its offset.
fn paths_from_root(file: &RustFile, module: &[String]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for offset in file.words("crate") {
        let before = file.code[..offset].trim_end();
        if !before.ends_with("::") && !before.ends_with('$') {
            names_after(&file.code, offset + "crate".len(), &mut found);
        }
    }
    for offset in file.words("super") {
        if file.code[..offset].trim_end().ends_with("::") {
            continue;
        }
        let mut end = offset + "super".len();
        let mut ups = 1;
        while file.code[end..].starts_with("::super") {
            ups += 1;
            end += "::super".len();
        }
        let is_root_file = module.len() == 1 && (module[0] == "lib" || module[0] == "main");
        let depth = if is_root_file { 0 } else { module.len() };
        let nested = usize::from(file.tests.iter().any(|range| range.contains(&offset)));
        if ups == depth + nested {
            names_after(&file.code, end, &mut found);
        }
    }
    found
}

/// The names right after `::`, also those of a group in braces.
fn names_after(code: &str, at: usize, found: &mut Vec<(usize, String)>) {
    let Some(rest) = code[at..].strip_prefix("::") else { return };
    let start = at + 2;
    if !rest.starts_with('{') {
        found.push((start, ident(rest)));
        return;
    }
    let (mut depth, mut expects_name) = (0, false);
    for (index, byte) in rest.bytes().enumerate() {
        match byte {
            b'{' => {
                depth += 1;
                expects_name = depth == 1;
            }
            b'}' if depth == 1 => return,
            b'}' => depth -= 1,
            b',' => expects_name = depth == 1,
            _ if expects_name && is_ident(byte) => {
                found.push((start + index, ident(&rest[index..])));
                expects_name = false;
            }
            _ => {}
        }
    }
}

fn ident(text: &str) -> String {
    text.bytes().take_while(|byte| is_ident(*byte)).map(char::from).collect()
}

fn impurities(file: &RustFile) -> Vec<Finding> {
    let cure = |word: &str| {
        format!(
            "`{word}` in `state`: replicas would differ; decide from the command alone, keep maps sorted"
        )
    };
    IMPURE
        .iter()
        .flat_map(|word| file.words(word).map(move |offset| (offset, *word)))
        .filter(|(offset, _)| !file.is_test(*offset))
        .map(|(offset, word)| file.finding(offset, cure(word)))
        .collect()
}

/// A crate, or a module of one, that a single place may name.
struct Owned {
    name: &'static str,
    owner: &'static str,
    allowed: fn(&RustFile) -> bool,
}

const OWNED: [Owned; 5] = [
    Owned {
        name: "openraft",
        owner: "node/src/consensus",
        allowed: |file| file.path().starts_with("node/src/consensus/") || in_tests(file),
    },
    Owned {
        name: "sled",
        owner: "node/src/storage",
        allowed: |file| in_storage(file) || in_tests(file),
    },
    Owned { name: "rustix::fs", owner: "node/src/storage", allowed: in_storage },
    Owned {
        name: "std::fs",
        owner: "node/src/storage and the command line",
        allowed: |file| in_storage(file) || in_tests(file) || file.is_command_line(),
    },
    Owned {
        name: "tokio::fs",
        owner: "the command line",
        allowed: |file| in_tests(file) || file.is_command_line(),
    },
];

fn in_storage(file: &RustFile) -> bool {
    file.path().starts_with("node/src/storage/")
}

fn in_tests(file: &RustFile) -> bool {
    file.path().starts_with("tests/") || file.path().ends_with("/build.rs")
}

fn owned_crates(file: &RustFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for owned in OWNED.iter().filter(|owned| !(owned.allowed)(file)) {
        let cure =
            format!("only {} may name `{}`: go through its interface", owned.owner, owned.name);
        for offset in file.words(owned.name).filter(|offset| !file.is_test(*offset)) {
            findings.push(file.finding(offset, cure.clone()));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&RustFile::new(path, text)).len()
    }

    #[test]
    fn a_layer_may_use_what_is_to_its_right() {
        assert_eq!(findings("node/src/broker/a.rs", "use crate::storage::{self, disk};"), 0);
        assert_eq!(
            findings("node/src/api/a.rs", "use crate::{broker::Broker, config::Config};"),
            0
        );
        assert_eq!(findings("node/src/storage/mod.rs", "use crate::storage::disk::Disk;"), 0);
        assert_eq!(findings("node/src/node.rs", "use crate::{api, state};"), 0);
    }

    #[test]
    fn a_layer_that_uses_its_left_is_found() {
        assert_eq!(findings("node/src/storage/a.rs", "use crate::consensus::Shard;"), 1);
        assert_eq!(findings("node/src/storage/a.rs", "use crate::{state::X, broker::{a, b}};"), 1);
        assert_eq!(findings("node/src/state/mod.rs", "fn f() { crate::storage::open(); }"), 1);
        assert_eq!(
            findings("node/src/storage/journal/a.rs", "use super::super::super::broker::B;"),
            1
        );
        assert_eq!(findings("node/src/storage/mod.rs", "use super::api;"), 1);
        assert_eq!(findings("node/src/config.rs", "use crate::broker::B;"), 1);
        assert_eq!(findings("node/src/stuff.rs", "use crate::env::Env;"), 1);
    }

    #[test]
    fn state_uses_no_leaf_but_mutants() {
        assert_eq!(findings("node/src/state/a.rs", "use crate::mutants;"), 0);
        assert_eq!(findings("node/src/state/a.rs", "use crate::config::Config;"), 1);
    }

    #[test]
    fn what_makes_replicas_differ_is_found_in_state() {
        assert_eq!(findings("node/src/state/a.rs", "use std::collections::HashMap;"), 1);
        assert_eq!(findings("node/src/state/a.rs", "async fn f() {}"), 1);
        assert_eq!(findings("node/src/state/a.rs", "// an Instant\nlet a = \"HashMap\";"), 0);
    }

    #[test]
    fn a_crate_is_named_by_its_owner_alone() {
        assert_eq!(findings("node/src/consensus/a.rs", "use openraft::Raft;"), 0);
        assert_eq!(findings("node/src/broker/a.rs", "use openraft::Raft;"), 1);
        assert_eq!(findings("node/src/consensus/a.rs", "let db = sled::open();"), 1);
        assert_eq!(findings("node/src/node.rs", "std::fs::read(a);"), 1);
        assert_eq!(findings("client/src/cli/a.rs", "std::fs::read(a);"), 0);
        assert_eq!(findings("client/examples/a.rs", "std::fs::read(a);"), 0);
        assert_eq!(findings("client/src/producer.rs", "tokio::fs::read(a);"), 1);
    }

    #[test]
    fn a_service_that_calls_another_is_found() {
        let files = [
            RustFile::new("node/src/api/produce.rs", "impl produce_server::Produce for P {}"),
            RustFile::new(
                "node/src/api/fetch.rs",
                "impl fetch_server::F for P { super::produce::x() }",
            ),
        ];
        assert_eq!(check_api_siblings(&files).len(), 1);
    }
}
