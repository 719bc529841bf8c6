//! Owns how a received record is written: format strings with kcat's tokens, and JSON. Never reads records.

use serde::Serialize;

use crate::record::ConsumerRecord;

/// What help says of the tokens.
pub(super) const TOKENS: &str = "%t topic, %p partition, %o offset, %T time in Unix ms, %k key, %v or %s value, %K and %S their lengths (-1: absent), %h headers as a=b,c=d, %% percent; \\n \\t \\r \\0 \\\\ \\xHH as in C";

/// A format string, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    KeyLength,
    ValueLength,
    Headers,
}

impl Format {
    /// Reads a format string.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            if char != '%' {
                literal.push(char);
                continue;
            }
            let token = chars.next().ok_or("a lone % at the end; write %% for a percent sign")?;
            if token == '%' {
                literal.push('%');
                continue;
            }
            let piece = piece(token)
                .ok_or_else(|| format!("%{token} is not known; the tokens are {TOKENS}"))?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(unescape(&std::mem::take(&mut literal))?));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(unescape(&literal)?));
        }
        Ok(Self(pieces))
    }

    /// Writes a record after what is in `into`.
    pub(super) fn write(&self, record: &ConsumerRecord, into: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Literal(bytes) => into.extend_from_slice(bytes),
                Piece::Topic => into.extend_from_slice(record.topic.as_bytes()),
                Piece::Partition => text(into, record.partition),
                Piece::Offset => text(into, record.offset),
                Piece::Timestamp => text(into, record.timestamp_ms),
                Piece::Key => into.extend_from_slice(record.key.as_deref().unwrap_or_default()),
                Piece::Value => into.extend_from_slice(record.value.as_deref().unwrap_or_default()),
                Piece::KeyLength => length(into, record.key.as_deref()),
                Piece::ValueLength => length(into, record.value.as_deref()),
                Piece::Headers => headers(into, record),
            }
        }
    }
}

fn piece(token: char) -> Option<Piece> {
    Some(match token {
        't' => Piece::Topic,
        'p' => Piece::Partition,
        'o' => Piece::Offset,
        'T' => Piece::Timestamp,
        'k' => Piece::Key,
        'v' | 's' => Piece::Value,
        'K' => Piece::KeyLength,
        'S' => Piece::ValueLength,
        'h' => Piece::Headers,
        _ => return None,
    })
}

fn text(into: &mut Vec<u8>, value: impl std::fmt::Display) {
    into.extend_from_slice(value.to_string().as_bytes());
}

fn length(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => text(into, bytes.len()),
        None => text(into, -1),
    }
}

fn headers(into: &mut Vec<u8>, record: &ConsumerRecord) {
    for (index, header) in record.headers.iter().enumerate() {
        if index > 0 {
            into.push(b',');
        }
        into.extend_from_slice(&header.key);
        into.push(b'=');
        into.extend_from_slice(header.value.as_deref().unwrap_or_default());
    }
}

/// Replaces the escapes of C by what they stand for.
pub(super) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        bytes.push(match chars.next() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2).ok_or_else(
                    || format!("\\x{digits} is no byte: write two hexadecimal digits"),
                )?
            }
            Some(other) => {
                return Err(format!("\\{other} is not known; write \\\\ for a backslash"));
            }
            None => return Err("a lone \\ at the end; write \\\\ for a backslash".to_owned()),
        });
    }
    Ok(bytes)
}

/// A record as a line of JSON. Bytes that are not UTF-8 come in hexadecimal under another name; absent ones are null.
#[derive(Debug, Serialize)]
pub(super) struct JsonRecord<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    headers: Vec<JsonHeader<'a>>,
}

#[derive(Debug, Serialize)]
struct JsonHeader<'a> {
    key: String,
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

impl<'a> From<&'a ConsumerRecord> for JsonRecord<'a> {
    fn from(record: &'a ConsumerRecord) -> Self {
        let (key, key_hex) = readable(record.key.as_deref());
        let (value, value_hex) = readable(record.value.as_deref());
        let headers = record.headers.iter().map(|header| {
            let (value, value_hex) = readable(header.value.as_deref());
            let key = String::from_utf8_lossy(&header.key).into_owned();
            JsonHeader { key, value, value_hex }
        });
        Self {
            topic: &record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key,
            key_hex,
            value,
            value_hex,
            headers: headers.collect(),
        }
    }
}

fn readable(bytes: Option<&[u8]>) -> (Option<&str>, Option<String>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (None, None),
        Some((_, Ok(text))) => (Some(text), None),
        Some((bytes, Err(_))) => {
            (None, Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::Header;

    fn record() -> ConsumerRecord {
        ConsumerRecord {
            topic: "t".into(),
            partition: 2,
            offset: 40,
            timestamp_ms: 1000,
            key: None,
            value: Some(Bytes::from_static(b"v\xff")),
            headers: vec![Header::new("a", "1"), Header::new("b", "2")],
            leader_epoch: None,
            fencing_epoch: None,
        }
    }

    fn written(format: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        Format::parse(format).unwrap().write(&record(), &mut bytes);
        bytes
    }

    #[test]
    fn every_token_is_replaced_and_bytes_pass_unchanged() {
        assert_eq!(written("%t/%p@%o %T\\n"), b"t/2@40 1000\n");
        assert_eq!(written("%K:%k %S:%v|%s"), b"-1: 2:v\xff|v\xff");
        assert_eq!(written("%h 100%%\\x00\\\\"), b"a=1,b=2 100%\0\\");
    }

    #[test]
    fn a_wrong_format_says_what_is_right() {
        for format in ["%", "%q", "\\", "\\q", "\\x1", "\\xzz"] {
            assert!(Format::parse(format).is_err(), "{format}");
        }
        assert!(Format::parse("%q").unwrap_err().contains("%k key"));
    }

    #[test]
    fn json_tells_absent_from_bytes_that_are_no_text() {
        let text = serde_json::to_string(&JsonRecord::from(&record())).unwrap();
        assert_eq!(
            text,
            r#"{"topic":"t","partition":2,"offset":40,"timestamp_ms":1000,"key":null,"value":null,"value_hex":"76ff","headers":[{"key":"a","value":"1"},{"key":"b","value":"2"}]}"#
        );
    }
}
