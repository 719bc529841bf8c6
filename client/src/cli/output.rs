//! Owns standard output: every result goes through [`Output`], as text or JSON, so that tests can read it and a closed pipe
//! is met in one place. Never decides what is said. Progress and notes go to standard error.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::exit::Failure;
use super::global::OutputFormat;

/// Where results go.
pub struct Output {
    format: OutputFormat,
    sink: Box<dyn Write + Send>,
    /// A person is watching: lines go out at once, progress is shown.
    terminal: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Output {
    /// Writes to standard output.
    #[must_use]
    pub fn standard(format: OutputFormat) -> Self {
        let terminal = io::stdout().is_terminal();
        Self { format, sink: Box::new(BufWriter::new(io::stdout())), terminal }
    }

    /// Writes to memory, for tests.
    #[must_use]
    pub fn captured(format: OutputFormat) -> (Self, Captured) {
        let captured = Captured::default();
        let sink = Box::new(captured.clone());
        (Self { format, sink, terminal: false }, captured)
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Whether a person is watching, so that a picture can be drawn over the one before.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// A line of text.
    pub(super) fn line(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.sink, "{text}")?;
        self.when_watched()
    }

    /// Bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.sink.write_all(bytes)?;
        self.when_watched()
    }

    /// One value as one line of JSON.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.sink, value).map_err(io::Error::from)?;
        self.sink.write_all(b"\n")?;
        self.when_watched()
    }

    /// The value as JSON, or `text` of it.
    pub(super) fn either<T: Serialize>(
        &mut self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.is_json() { self.json(value) } else { self.line(text(value)) }
    }

    /// What is buffered goes out.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.sink.flush()?)
    }

    fn when_watched(&mut self) -> Result<(), Failure> {
        if self.terminal { self.flush() } else { Ok(()) }
    }
}

/// What was written.
#[derive(Debug, Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// All of it, as text.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A table without lines, as wide as it must be.
pub(super) fn table<H: Into<String>>(header: impl IntoIterator<Item = H>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.into_iter().map(|name| name.into().to_uppercase()));
    table
}

/// A table as text, without blanks at the ends of lines.
pub(super) fn rendered(table: &Table) -> String {
    let lines: Vec<String> =
        table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// A cell for what may be missing.
pub(super) fn or_dash<T: fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Nodes as `1,2,3`.
pub(super) fn listed(nodes: &[i32]) -> String {
    if nodes.is_empty() {
        return "-".to_owned();
    }
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Unix ms as RFC 3339, or as the number where it is no time after 1970.
pub(super) fn time(unix_ms: i64) -> String {
    match u64::try_from(unix_ms) {
        // Beyond the year 9999 there is no RFC 3339.
        Ok(ms) if ms < 253_402_300_800_000 => {
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
            humantime::format_rfc3339_millis(at).to_string()
        }
        _ => unix_ms.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable_and_never_panic() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(-1), "-1");
        assert_eq!(time(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn a_table_has_no_blanks_at_the_end_of_its_lines() {
        let mut cells = table(["name", "n"]);
        cells.add_row(["a", "1"]).add_row(["long name", "22"]);
        let text = rendered(&cells);
        assert!(text.lines().all(|line| line.trim_end() == line), "{text:?}");
        assert!(text.contains("NAME"), "{text}");
    }
}
