//! Owns reading offsets from a file: CSV or JSON lines of topic, partition and offset, or what `group describe` wrote as
//! JSON. Every line is right or none is used.

use serde::Deserialize;

use crate::admin::{ResetScope, ResetTo};
use crate::record::TopicPartition;

/// What help says of it.
pub(super) const FILES: &str = "a line each, as CSV topic,partition,offset or as JSON {\"topic\":…,\"partition\":…,\"offset\":…}; or the JSON of group describe";

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Described { partitions: Vec<Item> },
    One(Item),
}

#[derive(Debug, Deserialize)]
struct Item {
    topic: String,
    partition: i32,
    /// `group describe` calls it committed; null: nothing was.
    #[serde(alias = "committed")]
    offset: Option<i64>,
}

/// The targets that a file names.
pub(super) fn targets(text: &str) -> Result<Vec<(ResetScope, ResetTo)>, String> {
    let mut targets = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let is_header = number == 0 && line.replace(' ', "") == "topic,partition,offset";
        if line.is_empty() || line.starts_with('#') || is_header {
            continue;
        }
        let wrong = |why: String| format!("line {}: {why}; write {FILES}", number + 1);
        let items = if line.starts_with('{') { json(line) } else { csv(line).map(|one| vec![one]) };
        for item in items.map_err(wrong)? {
            let Some(offset) = item.offset else { continue };
            if offset < 0 || item.partition < 0 || item.topic.is_empty() {
                return Err(wrong("a topic, and numbers from 0, are needed".to_owned()));
            }
            let at = TopicPartition::new(item.topic, item.partition);
            targets.push((ResetScope::Partition(at), ResetTo::Offset(offset)));
        }
    }
    if targets.is_empty() { Err(format!("no offset in it; write {FILES}")) } else { Ok(targets) }
}

fn json(line: &str) -> Result<Vec<Item>, String> {
    match serde_json::from_str(line).map_err(|error| error.to_string())? {
        Line::Described { partitions } => Ok(partitions),
        Line::One(item) => Ok(vec![item]),
    }
}

fn csv(line: &str) -> Result<Item, String> {
    let cells: Vec<&str> = line.split(',').map(|cell| cell.trim().trim_matches('"')).collect();
    let [topic, partition, offset] = cells[..] else {
        return Err(format!("{line:?} has not three cells"));
    };
    let partition = partition.parse().map_err(|_| format!("{partition:?} is no partition"))?;
    let offset = offset.parse().map_err(|_| format!("{offset:?} is no offset"))?;
    Ok(Item { topic: topic.to_owned(), partition, offset: Some(offset) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(partition: i32, offset: i64) -> (ResetScope, ResetTo) {
        let at = TopicPartition::new("t", partition);
        (ResetScope::Partition(at), ResetTo::Offset(offset))
    }

    #[test]
    fn every_form_says_the_same() {
        let expected = vec![target(0, 5), target(1, 7)];
        let forms = [
            "topic,partition,offset\nt,0,5\n\nt, 1, 7\n",
            "{\"topic\":\"t\",\"partition\":0,\"offset\":5}\n{\"topic\":\"t\",\"partition\":1,\"offset\":7}",
            "{\"group\":\"g\",\"lag\":1,\"partitions\":[{\"topic\":\"t\",\"partition\":0,\"committed\":5,\"lag\":0},{\"topic\":\"t\",\"partition\":1,\"committed\":7},{\"topic\":\"t\",\"partition\":2,\"committed\":null}]}",
        ];
        for form in forms {
            assert_eq!(targets(form), Ok(expected.clone()), "{form}");
        }
    }

    #[test]
    fn one_wrong_line_refuses_the_file_and_is_named() {
        for wrong in ["t,0,5\nt,1", "t,0,5\nt,1,-1", "t,0,5\n{\"topic\":3}", "t,0,5\nt,x,1"] {
            assert!(targets(wrong).unwrap_err().starts_with("line 2: "), "{wrong}");
        }
        assert!(targets("\n").is_err());
    }
}
