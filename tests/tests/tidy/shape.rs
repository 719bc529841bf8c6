//! Sizes, names and headers: every file says what it is, and none grows until nobody reads it. It never looks at meaning.

use crate::source::{Finding, RustFile, closing, is_ident};

/// A file longer than this has a second reason to change.
const FILE_LINES: usize = 400;
/// Lines of code between the braces of one function; the same as clippy's threshold.
const FUNCTION_LINES: usize = 60;
/// Names that mean "the rest".
const VAGUE: [&str; 12] = [
    "util", "utils", "helper", "helpers", "impl", "impls", "inner", "misc", "common", "stuff",
    "v2", "guts",
];

pub(crate) fn check(file: &RustFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !file.file.text.starts_with("//! ") {
        let cure = "open the file with `//!`: what it owns, why it exists, what it never does";
        findings.push(file.finding(0, cure));
    }
    findings.extend(long_file(file));
    findings.extend(long_functions(file));
    findings.extend(vague_names(file));
    findings.extend(unchecked_code(file));
    findings
}

fn long_file(file: &RustFile) -> Option<Finding> {
    if file.is_test_file() {
        return None;
    }
    let text = &file.file.text;
    let tests: usize = file.tests.iter().map(|range| text[range.clone()].lines().count()).sum();
    let lines = text.lines().count().saturating_sub(tests);
    let cure = format!(
        "{lines} lines without tests, {FILE_LINES} are allowed: split it by its second reason to change"
    );
    (lines > FILE_LINES).then(|| file.finding(0, cure))
}

fn long_functions(file: &RustFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for offset in file.words("fn") {
        let rest = &file.code[offset..];
        let name: String =
            rest[2..].trim_start().chars().take_while(|c| is_ident(*c as u8)).collect();
        let Some(open) = rest.find(['{', ';']).filter(|at| rest[*at..].starts_with('{')) else {
            continue;
        };
        if name.is_empty() {
            continue;
        }
        let body = &file.code[offset + open + 1..closing(&file.code, offset + open)];
        let lines = body.lines().skip(1).filter(|line| !line.trim().is_empty()).count();
        let lines = lines.saturating_sub(1);
        if lines > FUNCTION_LINES {
            let cure = format!(
                "`{name}` has {lines} lines of code, {FUNCTION_LINES} are allowed: name its steps"
            );
            findings.push(file.finding(offset, cure));
        }
    }
    findings
}

fn vague_names(file: &RustFile) -> Vec<Finding> {
    let is_vague = |name: &str| {
        let numbered = name.rsplit_once("_v").is_some_and(|(_, version)| {
            !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
        });
        VAGUE.contains(&name) || numbered
    };
    let cure = |name: &str| format!("`{name}` says nothing: name what it owns");
    let mut findings = Vec::new();
    for part in file.path().trim_end_matches(".rs").split('/').filter(|part| is_vague(part)) {
        findings.push(file.finding(0, cure(part)));
    }
    for offset in file.words("mod") {
        let name: String = file.code[offset + 3..]
            .trim_start()
            .chars()
            .take_while(|c| is_ident(*c as u8))
            .collect();
        if is_vague(&name) {
            findings.push(file.finding(offset, cure(&name)));
        }
    }
    findings
}

/// The simulation stands between a thread and the C library in this one file; nothing else has a reason.
const UNSAFE: &str = "tests/src/det.rs";

fn unchecked_code(file: &RustFile) -> Vec<Finding> {
    if file.path() == UNSAFE {
        return Vec::new();
    }
    let cure = format!("unsafe code outside {UNSAFE}: find the safe way");
    file.words("unsafe").map(|offset| file.finding(offset, cure.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&RustFile::new(path, text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(findings("node/src/a.rs", "//! Owns a.\nfn f() {}"), [""; 0]);
        assert_eq!(findings("node/src/a.rs", "// Owns a.\n").len(), 1);
    }

    #[test]
    fn tests_do_not_count_in_the_length_of_a_file() {
        let long = format!("//! A.\n{}", "const A: u8 = 1;\n".repeat(400));
        assert!(findings("node/src/a.rs", &long)[0].contains("401 lines"));
        let tests = "fn t() {}\n".repeat(400);
        let tested = format!("//! A.\n#[cfg(test)]\nmod tests {{\n{tests}}}\n");
        assert_eq!(findings("node/src/a.rs", &tested), [""; 0]);
    }

    #[test]
    fn a_long_function_is_found_and_comments_do_not_count() {
        let body =
            |line: &str, count| format!("//! A.\nfn f(a: fn()) {{\n{}}}\n", line.repeat(count));
        assert_eq!(findings("node/src/a.rs", &body("    a();\n", 60)), [""; 0]);
        assert!(findings("node/src/a.rs", &body("    a();\n", 61))[0].contains("`f` has 61"));
        assert_eq!(findings("node/src/a.rs", &body("    // a\n\n", 61)), [""; 0]);
    }

    #[test]
    fn a_name_that_says_nothing_is_found() {
        assert_eq!(findings("node/src/utils.rs", "//! A.\n").len(), 1);
        assert_eq!(
            findings("node/src/a.rs", "//! A.\nmod helpers;\nmod log_v2;\nmod inner {}\n").len(),
            3
        );
    }

    #[test]
    fn unchecked_code_is_found_outside_the_interposer() {
        assert_eq!(findings("node/src/a.rs", "//! A.\nfn f() { unsafe {} }\n").len(), 1);
        assert_eq!(findings(UNSAFE, "//! A.\nfn f() { unsafe {} }\n"), [""; 0]);
    }
}
