//! Reads the tree and tells code from comments, strings and tests, so that a rule never trips over a word in a string.
//!
//! It knows just enough of Rust for that: comments, literals, braces. It never judges; the rules do.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// A rule that is broken: where, and what cures it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) cure: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.cure)
    }
}

/// A text file, its path relative to the root of the tree.
#[derive(Debug)]
pub(crate) struct TextFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl TextFile {
    pub(crate) fn finding(&self, offset: usize, cure: impl Into<String>) -> Finding {
        let line = self.text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1;
        Finding { path: self.path.clone(), line, cure: cure.into() }
    }
}

/// A Rust file after the scan. All offsets are bytes of the text.
#[derive(Debug)]
pub(crate) struct RustFile {
    pub(crate) file: TextFile,
    /// The text with comments and the content of literals blanked; as long as the text.
    pub(crate) code: String,
    /// String literals: where they open, and what they hold.
    pub(crate) strings: Vec<(usize, String)>,
    /// Modules under `#[cfg(test)]`, from the attribute to the closing brace.
    pub(crate) tests: Vec<Range<usize>>,
}

impl RustFile {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, strings) = blank(text);
        let tests = test_modules(&code);
        let file = TextFile { path: path.to_owned(), text: text.to_owned() };
        Self { file, code, strings, tests }
    }

    pub(crate) fn path(&self) -> &str {
        &self.file.path
    }

    pub(crate) fn finding(&self, offset: usize, cure: impl Into<String>) -> Finding {
        self.file.finding(offset, cure)
    }

    /// Nothing in this file, or in this part of it, is part of the product.
    pub(crate) fn is_test(&self, offset: usize) -> bool {
        self.is_test_file() || self.tests.iter().any(|range| range.contains(&offset))
    }

    pub(crate) fn is_test_file(&self) -> bool {
        self.path().ends_with("/tests.rs") || self.path().contains("/tests/")
    }

    /// In the sources of a crate that users run.
    pub(crate) fn is_product(&self) -> bool {
        ["proto/src/", "node/src/", "client/src/"].iter().any(|dir| self.path().starts_with(dir))
    }

    /// Talks to a person at a terminal: may print, and may read the files that the person names.
    pub(crate) fn is_command_line(&self) -> bool {
        let folders = ["client/src/cli/", "client/examples/", "node/src/commands/"];
        folders.iter().any(|dir| self.path().starts_with(dir))
            || ["client/src/cli.rs", "node/src/main.rs", "node/src/commands.rs"]
                .contains(&self.path())
    }

    /// Where this identifier stands in the code as a whole word.
    pub(crate) fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        whole_words(&self.code, word)
    }
}

/// Where `word` stands in `text` with no identifier character at either side.
pub(crate) fn whole_words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).is_some_and(|before| is_ident(bytes[before]));
        let after = bytes.get(at + word.len()).is_some_and(|byte| is_ident(*byte));
        !before && !after
    })
}

pub(crate) fn is_ident(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// The offset just after the brace that closes the one at `open`; the end when none does.
pub(crate) fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn test_modules(code: &str) -> Vec<Range<usize>> {
    let attribute = "#[cfg(test)]";
    let mut ranges = Vec::new();
    for (start, _) in code.match_indices(attribute) {
        let rest = &code[start..];
        let item_end = rest.find([';', '{']).unwrap_or(rest.len());
        let is_module = whole_words(&rest[..item_end], "mod").next().is_some();
        if is_module && rest[item_end..].starts_with('{') {
            ranges.push(start..closing(code, start + item_end));
        }
    }
    ranges
}

/// Blanks comments and literals; gathers the string literals.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut strings = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (end, kept) = literal(bytes, at);
        if let Some(content) = kept {
            strings.push((at, text[content.clone()].to_owned()));
            blank_range(&mut code, content);
        } else if end > at + 1 {
            blank_range(&mut code, at..end);
        }
        at = end;
    }
    (String::from_utf8_lossy(&code).into_owned(), strings)
}

fn blank_range(code: &mut [u8], range: Range<usize>) {
    for byte in &mut code[range] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// What starts at `at`: where it ends, and for a string literal the range of its content.
/// Anything that is neither comment nor literal is one byte long.
fn literal(bytes: &[u8], at: usize) -> (usize, Option<Range<usize>>) {
    let rest = &bytes[at..];
    let in_word = at > 0 && is_ident(bytes[at - 1]);
    if rest.starts_with(b"//") {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        return (at + end, None);
    }
    if rest.starts_with(b"/*") {
        return (block_comment(bytes, at), None);
    }
    if rest[0] == b'"' {
        return quoted(bytes, at);
    }
    if !in_word && (rest[0] == b'r' || rest.starts_with(b"br")) {
        let prefix = if rest[0] == b'r' { 1 } else { 2 };
        let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(prefix + hashes) == Some(&b'"') {
            return raw(bytes, at + prefix + hashes + 1, hashes);
        }
    }
    if rest[0] == b'\'' {
        return (at + character(rest), None);
    }
    (at + 1, None)
}

fn block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted(bytes: &[u8], open: usize) -> (usize, Option<Range<usize>>) {
    let mut at = open + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    let end = at.min(bytes.len());
    ((end + 1).min(bytes.len()), Some(open + 1..end))
}

fn raw(bytes: &[u8], content: usize, hashes: usize) -> (usize, Option<Range<usize>>) {
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let length = bytes[content..].windows(close.len()).position(|window| window == close);
    let end = length.map_or(bytes.len(), |length| content + length);
    ((end + close.len()).min(bytes.len()), Some(content..end))
}

/// The length of a character literal; 1 for the tick of a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|byte| *byte == b'\'');
        return close.map_or(1, |close| close + 4);
    }
    let close = rest.iter().skip(2).take(4).position(|byte| *byte == b'\'');
    match close {
        Some(close) if close == 0 || rest[1] >= 0x80 => close + 3,
        _ => 1,
    }
}

/// The root of the tree: the folder above this crate.
pub(crate) fn root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().expect("the tests crate lies in the workspace").to_owned()
}

/// Every text file of the project. What git ignores by name and what a tool writes (`Cargo.lock`) is not ours.
pub(crate) fn text_files() -> Vec<TextFile> {
    let root = root();
    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let skip: Vec<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    let mut files = Vec::new();
    walk(&root, &root, &skip, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 10, "the walk from {} found next to nothing", root.display());
    files
}

fn walk(root: &Path, dir: &Path, skip: &[&str], files: &mut Vec<TextFile>) {
    let entries = fs::read_dir(dir).expect("a folder of the tree can be listed");
    for entry in entries {
        let path = entry.expect("an entry of the tree can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if skip.contains(&name) || name == ".git" || name.ends_with(".lock") {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, skip, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let relative = path.strip_prefix(root).expect("the walk stays below the root");
            files.push(TextFile { path: relative.to_string_lossy().into_owned(), text });
        }
    }
}

/// Every Rust file of the project.
pub(crate) fn rust_files() -> Vec<RustFile> {
    let is_rust = |file: &TextFile| file.path.ends_with(".rs");
    text_files()
        .into_iter()
        .filter(is_rust)
        .map(|file| RustFile::new(&file.path, &file.text))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let text =
            "let a = \"x.unwrap()\"; // panic!\n/* a /* b */ c */ let 'q: b = r#\"\"y\"\"#; '\"'";
        let file = RustFile::new("a.rs", text);
        assert_eq!(file.code.len(), text.len());
        assert!(!file.code.contains("unwrap") && !file.code.contains("panic"));
        assert!(file.code.contains("let 'q: b"));
        assert!(!file.code.contains('c'));
        let held: Vec<_> = file.strings.iter().map(|(_, held)| held.as_str()).collect();
        assert_eq!(held, ["x.unwrap()", "\"y\""]);
    }

    #[test]
    fn a_test_module_ends_at_its_brace() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { } }\nfn c() {}";
        let file = RustFile::new("a.rs", text);
        assert!(!file.is_test(text.find("fn a").unwrap()));
        assert!(file.is_test(text.find("fn b").unwrap()));
        assert!(!file.is_test(text.find("fn c").unwrap()));
    }

    #[test]
    fn a_finding_names_file_line_and_cure() {
        let file = RustFile::new("a.rs", "one\ntwo\n");
        assert_eq!(file.finding(4, "cure it").to_string(), "a.rs:2: cure it");
    }
}
