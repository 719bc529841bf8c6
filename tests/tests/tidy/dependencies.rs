//! What the project depends on: licences, sources, and crates that must never come in. The same rules stand in `deny.toml`
//! for those who have cargo-deny; here they need no tool and no network.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::source::{Finding, root};

/// Licences that Apache-2.0 code may link against without conditions beyond notices.
const ALLOWED: [&str; 12] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "CC0-1.0",
    "Unicode-3.0",
    "BSL-1.0",
    "Unlicense",
];
/// A system package to build, or a second async runtime beside tokio.
const BANNED: [&str; 8] = [
    "openssl",
    "openssl-sys",
    "native-tls",
    "async-std",
    "smol",
    "async-executor",
    "glommio",
    "monoio",
];
const REGISTRY: &str = "/crates.io-index";

/// One package as cargo describes it.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) licence: Option<String>,
    /// Where it comes from; `None` for a member of the workspace.
    pub(crate) source: Option<String>,
}

/// Every package that this host builds, from the lock file, without the network.
pub(crate) fn packages() -> Vec<Package> {
    let version = run(Command::new(env!("CARGO")).arg("-vV"));
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo names its host");
    let metadata = run(Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            host,
        ])
        .current_dir(root()));
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    packages
        .iter()
        .map(|package| Package {
            name: text(&package["name"]).unwrap_or_default(),
            licence: text(&package["license"]),
            source: text(&package["source"]),
        })
        .collect()
}

/// The library with planted bugs is built from the node's sources, so it needs what the node needs, in the same words.
pub(crate) fn check_mutated(node: &str, mutated: &str) -> Vec<Finding> {
    let wanted = |manifest: &str| -> BTreeSet<String> {
        let from = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
        let lines = from.lines().take_while(|line| !line.starts_with('['));
        lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let (of_node, of_mutated) = (wanted(node), wanted(mutated));
    let differ = of_node.symmetric_difference(&of_mutated);
    let path = "tests/mutated/Cargo.toml";
    let finding = |line: &String| Finding {
        path: path.to_owned(),
        line: 0,
        cure: format!("`{line}` stands in only one of node/Cargo.toml and {path}"),
    };
    differ.map(finding).collect()
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("cargo can be started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn check(package: &Package) -> Vec<Finding> {
    let finding = |cure: String| Finding { path: "Cargo.lock".to_owned(), line: 0, cure };
    let name = &package.name;
    let mut findings = Vec::new();
    if BANNED.contains(&name.as_str()) {
        findings
            .push(finding(format!("`{name}` is banned: switch off the feature that brings it in")));
    }
    if package.source.as_ref().is_some_and(|source| !source.ends_with(REGISTRY)) {
        findings.push(finding(format!(
            "`{name}` comes from {:?}: only published releases",
            package.source
        )));
    }
    let licence = package.licence.as_deref().unwrap_or("none given");
    if !is_allowed(licence) {
        findings.push(finding(format!(
            "`{name}` has licence `{licence}`, which is not allowed: replace it"
        )));
    }
    findings
}

/// An SPDX expression holds when one side of each OR and both sides of each AND are allowed. AND binds tighter.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.trim().replace('/', " OR ");
    if let Some(parts) = split(&expression, " OR ") {
        return parts.iter().any(|part| is_allowed(part));
    }
    if let Some(parts) = split(&expression, " AND ") {
        return parts.iter().all(|part| is_allowed(part));
    }
    match expression.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(within) => is_allowed(within),
        None => ALLOWED.contains(&expression.as_str()),
    }
}

/// The parts between the operators that stand outside all parentheses; `None` when there is no operator.
fn split(expression: &str, operator: &str) -> Option<Vec<String>> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in expression.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ' ' if depth == 0 && expression[at..].starts_with(operator) => {
                parts.push(expression[start..at].trim().to_owned());
                start = at + operator.len();
            }
            _ => {}
        }
    }
    if parts.is_empty() {
        return None;
    }
    parts.push(expression[start..].trim().to_owned());
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions_are_understood() {
        for allowed in ["MIT", "MIT/GPL-3.0", "GPL-3.0 OR MIT", "(MIT OR X) AND Unicode-3.0"] {
            assert!(is_allowed(allowed), "{allowed}");
        }
        for refused in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR X) AND Y", "none given"] {
            assert!(!is_allowed(refused), "{refused}");
        }
    }

    #[test]
    fn a_dependency_of_the_node_alone_is_found() {
        let (node, mutated) =
            ("\n[dependencies]\na = 1\nb = 1\n\n[lints]\nc", "\n[dependencies]\na = 1\n");
        assert!(check_mutated(node, mutated)[0].cure.contains("`b = 1`"));
        assert_eq!(check_mutated(node, node).len(), 0);
    }

    #[test]
    fn a_banned_crate_a_fork_and_a_foreign_licence_are_found() {
        let package = |name: &str, licence: &str, source: &str| Package {
            name: name.to_owned(),
            licence: Some(licence.to_owned()),
            source: Some(source.to_owned()),
        };
        let registry = format!("registry+https://example.org{REGISTRY}");
        assert_eq!(check(&package("a", "MIT", &registry)).len(), 0);
        assert_eq!(check(&package("openssl", "MIT", &registry)).len(), 1);
        assert_eq!(check(&package("a", "GPL-3.0", &registry)).len(), 1);
        assert_eq!(check(&package("a", "MIT", "git+https://example.org/a")).len(), 1);
    }
}
