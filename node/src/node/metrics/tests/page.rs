//! The text format as `OpenMetrics` describes it, read strictly: whatever is not as it should be fails the test.

use std::collections::BTreeMap;

/// A family's declaration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) kind: String,
    pub(super) help: String,
}

/// One sample: its labels and its value.
#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) families: BTreeMap<String, Declared>,
    /// By name as it stands there.
    pub(super) samples: BTreeMap<String, Vec<Sample>>,
}

impl Page {
    pub(super) fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let body = text.strip_suffix("# EOF\n").expect("the page is whole");
        let mut current = String::new();
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                current = page.declare(comment);
            } else {
                page.sample(line, &current);
            }
        }
        page
    }

    fn declare(&mut self, comment: &str) -> String {
        let mut words = comment.splitn(3, ' ');
        let mut next = || words.next().unwrap_or_else(|| panic!("cut off: {comment:?}"));
        let (what, name, text) = (next(), next(), next().to_owned());
        let family = self.families.entry(name.to_owned()).or_default();
        match what {
            "HELP" => family.help = text,
            "TYPE" => family.kind = text,
            "UNIT" => assert!(name.ends_with(&format!("_{text}")), "{comment}"),
            _ => panic!("unknown: {comment:?}"),
        }
        name.to_owned()
    }

    fn sample(&mut self, line: &str, family: &str) {
        let (name, labels, value) = take_apart(line);
        let declared = &self.families[family];
        let suffixes: &[&str] = match declared.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "info" => &["_info"],
            "histogram" => &["_bucket", "_sum", "_count"],
            kind => panic!("{family} is a {kind}"),
        };
        let legal = suffixes.iter().any(|suffix| name == format!("{family}{suffix}"));
        assert!(legal, "{name} is no sample of {family}");
        let value = value.parse().unwrap_or_else(|_| panic!("not a number: {line:?}"));
        let known = self.samples.entry(name).or_default();
        assert!(known.iter().all(|it| it.labels != labels), "twice: {line:?}");
        known.push(Sample { labels, value });
    }

    /// The value of one series, 0 where there is none.
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: BTreeMap<String, String> =
            labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let all = self.samples.get(name).into_iter().flatten();
        all.filter(|sample| sample.labels == wanted).map(|sample| sample.value).sum()
    }

    /// All series of a name together.
    pub(super) fn sum(&self, name: &str) -> f64 {
        self.samples.get(name).into_iter().flatten().map(|sample| sample.value).sum()
    }
}

/// Name, labels and value of a line.
fn take_apart(line: &str) -> (String, BTreeMap<String, String>, String) {
    let name: String =
        line.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    let mut rest = &line[name.len()..];
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, behind) = rest.split_once("=\"").expect("a label");
            let (value, behind) = unquote(behind);
            assert!(labels.insert(key.to_owned(), value).is_none(), "{key} twice: {line:?}");
            rest = behind.strip_prefix(',').unwrap_or(behind);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').expect("one blank before the value");
    (name, labels, value.to_owned())
}

/// A value up to its closing quote, and what comes after it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                other => panic!("escaped: {other:?}"),
            },
            c => value.push(c),
        }
    }
    panic!("no closing quote: {text:?}")
}
