//! Words that have no place in the tree: leftovers, shortcuts that panic, prints, shouting log lines, talk about anything
//! but the project. The words themselves are put together from halves, so that this file passes its own rules.

use std::collections::BTreeSet;

use crate::source::{Finding, RustFile, TextFile, closing, whole_words};

/// Marks of unfinished work, in any text.
const UNFINISHED: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("ST", "UB")];
/// Calls that must not stay in code of any kind.
const LEFTOVER_CALLS: [&str; 3] =
    [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("db", "g!")];
/// One machine's paths and tools, and the making of the project instead of the project. Lower case.
const FOREIGN: [&str; 15] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("bash", "_jobs"),
    concat!("shared/", "design"),
    concat!("shared/", "data"),
    concat!("shared/", "peers"),
    concat!("sub", "agent"),
    concat!("sub-", "agent"),
    concat!("issues ", "show"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("language ", "model"),
    concat!("chat", "gpt"),
    concat!("cla", "ude"),
    concat!("co", "pilot"),
];

/// Rules for every text of the project.
pub(crate) fn check_text(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for word in UNFINISHED {
        for offset in whole_words(&file.text, word) {
            findings.push(file.finding(offset, format!("`{word}`: finish it or take it out")));
        }
    }
    let lower = file.text.to_ascii_lowercase();
    for word in FOREIGN {
        for (offset, _) in lower.match_indices(word) {
            let cure = format!("`{word}`: the project's text speaks of the project alone");
            findings.push(file.finding(offset, cure));
        }
    }
    for offset in numbered_issues(&lower) {
        let cure = "a number of an issue: say what the matter is";
        findings.push(file.finding(offset, cure));
    }
    findings
}

/// Rules for code.
pub(crate) fn check_code(file: &RustFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for call in LEFTOVER_CALLS {
        for offset in calls(file, call) {
            findings.push(file.finding(offset, format!("`{call}`: finish it or take it out")));
        }
    }
    findings.extend(loud_log_lines(file));
    if !file.is_product() {
        return findings;
    }
    let panics = [".unwrap()", "panic!", "unreachable!"];
    for (call, offset) in panics.iter().flat_map(|call| calls(file, call).map(move |at| (call, at)))
    {
        if !file.is_test(offset) {
            let cure = format!(
                "`{call}` in the product: return an error, or `expect` with the invariant as its text"
            );
            findings.push(file.finding(offset, cure));
        }
    }
    let prints = ["println!", "eprintln!", "print!", "eprint!"];
    for (call, offset) in prints.iter().flat_map(|call| calls(file, call).map(move |at| (call, at)))
    {
        if !file.is_test(offset) && !file.is_command_line() {
            findings.push(
                file.finding(offset, format!("`{call}` outside the command line: use tracing")),
            );
        }
    }
    findings
}

fn calls<'a>(file: &'a RustFile, call: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_start = |at: usize| {
        call.starts_with('.')
            || !file.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
    };
    file.code.match_indices(call).map(|(at, _)| at).filter(move |at| is_start(*at))
}

fn numbered_issues(lower: &str) -> Vec<usize> {
    let mut found = Vec::new();
    for word in [concat!("iss", "ue "), concat!("iss", "ue #")] {
        for (offset, _) in lower.match_indices(word) {
            if lower[offset + word.len()..].starts_with(|c: char| c.is_ascii_digit()) {
                found.push(offset);
            }
        }
    }
    found
}

/// A message starts in lower case and has no full stop; what varies is a field.
fn loud_log_lines(file: &RustFile) -> Vec<Finding> {
    let macros = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];
    let mut findings = Vec::new();
    for offset in macros.iter().flat_map(|name| calls(file, name)) {
        let end = closing(&file.code, offset + file.code[offset..].find('(').unwrap_or(0));
        let message = file.strings.iter().rfind(|(at, _)| (offset..end).contains(at));
        let Some((at, text)) = message else { continue };
        if text.starts_with(|c: char| c.is_ascii_uppercase()) || text.ends_with('.') {
            let cure = format!("log line {text:?}: lower case, no full stop, values as fields");
            findings.push(file.finding(*at, cure));
        }
    }
    findings
}

/// A planted bug that no test names is never caught.
pub(crate) fn check_mutants(files: &[RustFile]) -> Vec<Finding> {
    let tested: BTreeSet<&str> = files
        .iter()
        .flat_map(|file| file.strings.iter().map(move |string| (file, string)))
        .filter(|(file, (at, _))| file.path().starts_with("tests/") || file.is_test(*at))
        .map(|(_, (_, text))| text.as_str())
        .collect();
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_product()) {
        for offset in file.words("mutants::planted").filter(|offset| !file.is_test(*offset)) {
            let planted = file.strings.iter().find(|(at, _)| *at > offset);
            let Some((_, name)) = planted else { continue };
            if !tested.contains(name.as_str()) {
                let cure = format!(
                    "planted bug {name:?} is named by no test: plant it in one that must catch it"
                );
                findings.push(file.finding(offset, cure));
            }
        }
    }
    findings
}

/// A page that names a file of the tree by its path names one that exists.
pub(crate) fn check_paths(page: &TextFile, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut offset = 0;
    for (index, part) in page.text.split('`').enumerate() {
        let is_path = ["proto/", "node/", "client/", "tests/", "deploy/", ".ci/"]
            .iter()
            .any(|dir| part.starts_with(dir));
        let is_plain = !part.contains([' ', '*', '{', '<', '…', '\n', ':']);
        if index % 2 == 1 && is_path && is_plain && !exists(part) {
            findings.push(
                page.finding(offset, format!("`{part}` does not exist: the page has drifted")),
            );
        }
        offset += part.len() + 1;
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> usize {
        check_text(&TextFile { path: "README.md".to_owned(), text: text.to_owned() }).len()
    }

    fn code(path: &str, text: &str) -> usize {
        check_code(&RustFile::new(path, text)).len()
    }

    #[test]
    fn unfinished_work_is_found_in_any_text() {
        assert_eq!(text(concat!("A TO", "DO: b")), 1);
        assert_eq!(text("a method is todolist"), 0);
    }

    #[test]
    fn talk_about_anything_but_the_project_is_found() {
        assert_eq!(text(concat!("see /wo", "rk/main")), 1);
        assert_eq!(text(concat!("as Iss", "ue 12 says")), 1);
        assert_eq!(text("the issue is that a session times out"), 0);
    }

    #[test]
    fn calls_that_panic_are_found_in_the_product_only() {
        assert_eq!(code("node/src/a.rs", "fn f() { a.unwrap() }"), 1);
        assert_eq!(code("node/src/a.rs", "fn f() { a.expect(\"b\") }"), 0);
        assert_eq!(code("tests/src/a.rs", "fn f() { a.unwrap() }"), 0);
        assert_eq!(code("node/src/a.rs", "#[cfg(test)]\nmod tests { fn f() { a.unwrap() } }"), 0);
        assert_eq!(code("tests/src/a.rs", concat!("fn f() { to", "do!() }")), 1);
    }

    #[test]
    fn only_the_command_line_prints() {
        assert_eq!(code("node/src/broker/a.rs", "println!(\"a\")"), 1);
        assert_eq!(code("client/src/cli/a.rs", "println!(\"a\")"), 0);
    }

    #[test]
    fn a_loud_log_line_is_found() {
        assert_eq!(code("node/src/a.rs", "info!(shard = 1, \"became leader\")"), 0);
        assert_eq!(code("node/src/a.rs", "info!(shard = 1, \"Became leader\")"), 1);
        assert_eq!(code("node/src/a.rs", "tracing::warn!(\"became leader.\")"), 1);
    }

    #[test]
    fn a_planted_bug_without_a_test_is_found() {
        let product = RustFile::new("node/src/a.rs", "if mutants::planted!(\"x-y\") {}");
        assert_eq!(check_mutants(&[product]).len(), 1);
        let product = RustFile::new("node/src/a.rs", "if mutants::planted!(\"x-y\") {}");
        let test = RustFile::new("tests/tests/a.rs", "plant(\"x-y\")");
        assert_eq!(check_mutants(&[product, test]).len(), 0);
    }

    #[test]
    fn a_page_that_names_a_missing_file_is_found() {
        let page =
            TextFile { path: "A.md".to_owned(), text: "see `node/src/a.rs` and `x`".to_owned() };
        assert_eq!(check_paths(&page, |_| false).len(), 1);
        assert_eq!(check_paths(&page, |_| true).len(), 0);
    }
}
