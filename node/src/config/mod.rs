//! Owns every setting of a node: where it comes from (file, then environment), what is legal, and the message when it is
//! not. Never reads a file, never knows what a setting does.
//!
//! | file | owns |
//! |---|---|
//! | `sections` | the settings themselves |
//! | `section` | how they are declared |
//! | `value` | sizes, times, counts |
//! | `page` | the commented file of all defaults, `deploy/node.toml` |

mod page;
mod section;
mod sections;
mod value;

use std::collections::BTreeSet;

pub use page::commented_defaults;
pub use section::Knob;
use section::{Section, is_address};
pub use sections::{
    BrokerSection, ClusterSection, ConsensusSection, JournalSection, ListenSection, LogSection,
    MetricsSection, NetworkSection, NodeSection, StoreSection,
};
pub use value::Size;

/// Settings in the environment start with this.
const PREFIX: &str = "WAYMARK";
/// The one setting that is a list.
const NODES: &str = "nodes";
const ENTRY_KEYS: [&str; 4] = ["id", "rack", "client", "peer"];

/// A node of the cluster, as all nodes list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedNode {
    /// Its id.
    pub id: u32,
    /// Where it stands; replicas of a shard prefer different racks. May be empty.
    pub rack: String,
    /// `host:port` that clients are told.
    pub client: String,
    /// `host:port` that the other nodes dial.
    pub peer: String,
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML.
    #[error("the configuration is not valid TOML: {0}")]
    Syntax(String),
    /// A section that does not exist.
    #[error("there is no section [{section}]; the sections are {known}")]
    UnknownSection {
        /// As written.
        section: String,
        /// All there are.
        known: String,
    },
    /// A setting that does not exist.
    #[error("there is no setting {key}; its section has {known}")]
    UnknownKey {
        /// As written.
        key: String,
        /// All there are.
        known: String,
    },
    /// A text for a number, and the like.
    #[error("{key} = {value} is not {form}")]
    WrongKind {
        /// The setting.
        key: String,
        /// As written.
        value: String,
        /// What is expected.
        form: &'static str,
    },
    /// The right kind, but not allowed.
    #[error("{key} = {value} is out of range: {legal}")]
    OutOfRange {
        /// The setting.
        key: String,
        /// As written.
        value: String,
        /// What is allowed.
        legal: String,
    },
    /// Settings that contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

/// All settings of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// `[node]`.
    pub node: NodeSection,
    /// `[listen]`.
    pub listen: ListenSection,
    /// `[cluster]`, without its list.
    pub cluster: ClusterSection,
    /// `cluster.nodes`: all nodes, the founder first. Empty: this node alone, reached where it listens.
    pub nodes: Vec<ListedNode>,
    /// `[journal]`.
    pub journal: JournalSection,
    /// `[store]`.
    pub store: StoreSection,
    /// `[consensus]`.
    pub consensus: ConsensusSection,
    /// `[network]`.
    pub network: NetworkSection,
    /// `[broker]`.
    pub broker: BrokerSection,
    /// `[metrics]`.
    pub metrics: MetricsSection,
    /// `[log]`.
    pub log: LogSection,
}

/// Calls a macro for every section, in the order of the file.
macro_rules! each_section {
    ($do:ident) => {
        $do!(node: NodeSection);
        $do!(listen: ListenSection);
        $do!(cluster: ClusterSection);
        $do!(journal: JournalSection);
        $do!(store: StoreSection);
        $do!(consensus: ConsensusSection);
        $do!(network: NetworkSection);
        $do!(broker: BrokerSection);
        $do!(metrics: MetricsSection);
        $do!(log: LogSection);
    };
}

/// A section's name, what it is about, and its settings.
pub type Chapter = (&'static str, &'static [&'static str], Vec<Knob>);

impl Config {
    /// Reads a configuration file's text; a setting `section.key` in the environment, named `WAYMARK_SECTION_KEY`, wins over
    /// the file.
    ///
    /// # Errors
    /// When it is not TOML, names what does not exist, or holds a value that is not legal. The message names the setting,
    /// the value and what is legal.
    pub fn parse(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut file: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::Syntax(error.to_string()))?;
        for (name, value) in environment {
            override_from(&mut file, &name, &value)?;
        }
        let mut config = Self::default();
        for (section, raw) in &file {
            let settings = raw.as_table().filter(|_| is_section(section));
            let settings = settings.ok_or_else(|| unknown_section(section))?;
            for (key, raw) in settings {
                config.set(section, key, raw)?;
            }
        }
        config.check()?;
        Ok(config)
    }

    /// Every section with its settings, in the order of the file.
    #[must_use]
    pub fn chapters() -> Vec<Chapter> {
        let mut chapters: Vec<Chapter> = Vec::new();
        macro_rules! chapter {
            ($field:ident: $section:ty) => {
                chapters.push((<$section>::NAME, <$section>::ABOUT, <$section>::knobs()))
            };
        }
        each_section!(chapter);
        chapters
    }

    /// All nodes: those listed, or this one alone.
    #[must_use]
    pub fn listed_nodes(&self) -> Vec<ListedNode> {
        if !self.nodes.is_empty() {
            return self.nodes.clone();
        }
        vec![ListedNode {
            id: self.node.id,
            rack: String::new(),
            client: self.listen.client.clone(),
            peer: self.listen.peer.clone(),
        }]
    }

    fn set(&mut self, section: &str, key: &str, raw: &toml::Value) -> Result<(), ConfigError> {
        if (section, key) == (ClusterSection::NAME, NODES) {
            self.nodes = read_nodes(raw)?;
            return Ok(());
        }
        macro_rules! set {
            ($field:ident: $section:ty) => {
                if section == <$section>::NAME {
                    return self.$field.set(key, raw).unwrap_or_else(|| Err(unknown(section, key)));
                }
            };
        }
        each_section!(set);
        Err(unknown_section(section))
    }

    /// What no setting can check alone.
    fn check(&self) -> Result<(), ConfigError> {
        let contradiction = |why: String| Err(ConfigError::Contradiction(why));
        let (consensus, journal, network) = (&self.consensus, &self.journal, &self.network);
        if consensus.election_min > consensus.election_max {
            return contradiction(
                "consensus.election_min is above consensus.election_max".to_owned(),
            );
        }
        if consensus.heartbeat * 3 > consensus.election_max {
            return contradiction(
                "consensus.heartbeat is more than a third of consensus.election_max: one late heartbeat would depose a \
                 leader"
                    .to_owned(),
            );
        }
        if consensus.heartbeat >= consensus.election_min {
            return contradiction(
                "consensus.heartbeat is not below consensus.election_min: its answer would have no time".to_owned(),
            );
        }
        if journal.flush_bytes.0 > journal.file_bytes.0 / 4 {
            return contradiction(
                "journal.flush_bytes is more than a quarter of journal.file_bytes".to_owned(),
            );
        }
        if self.broker.entry_bytes.0 > journal.file_bytes.0 / 8 {
            return contradiction(
                "broker.entry_bytes is more than an eighth of journal.file_bytes: an entry with its frame must fit a \
                 quarter of a file"
                    .to_owned(),
            );
        }
        if self.store.last_reserve_bytes > self.store.reserve_bytes {
            return contradiction(
                "store.last_reserve_bytes is above store.reserve_bytes: records would be taken while entries are refused"
                    .to_owned(),
            );
        }
        if network.reconnect_min > network.reconnect_max {
            return contradiction(
                "network.reconnect_min is above network.reconnect_max".to_owned(),
            );
        }
        self.check_nodes()
    }

    fn check_nodes(&self) -> Result<(), ConfigError> {
        let mut ids = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for node in &self.nodes {
            if !ids.insert(node.id) {
                return Err(ConfigError::Contradiction(format!(
                    "cluster.nodes lists node {} twice",
                    node.id
                )));
            }
            for address in [&node.client, &node.peer] {
                if !addresses.insert(address) {
                    return Err(ConfigError::Contradiction(format!(
                        "cluster.nodes gives the address {address} twice"
                    )));
                }
            }
        }
        if !self.nodes.is_empty() && !ids.contains(&self.node.id) {
            return Err(ConfigError::Contradiction(format!(
                "node.id = {} is not in cluster.nodes",
                self.node.id
            )));
        }
        Ok(())
    }
}

fn read_nodes(raw: &toml::Value) -> Result<Vec<ListedNode>, ConfigError> {
    let wrong = |value: &toml::Value| ConfigError::WrongKind {
        key: "cluster.nodes".to_owned(),
        value: value.to_string(),
        form: "a list of tables with id, rack, client and peer",
    };
    let entries = raw.as_array().ok_or_else(|| wrong(raw))?;
    entries.iter().map(|entry| read_node(entry, &wrong(entry))).collect()
}

fn read_node(raw: &toml::Value, wrong: &ConfigError) -> Result<ListedNode, ConfigError> {
    let entry = raw.as_table().ok_or_else(|| wrong.clone())?;
    if let Some(key) = entry.keys().find(|key| !ENTRY_KEYS.contains(&key.as_str())) {
        let (key, known) = (format!("cluster.nodes.{key}"), ENTRY_KEYS.join(", "));
        return Err(ConfigError::UnknownKey { key, known });
    }
    let text = |key: &str| entry.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let reached_at = |key: &str| {
        let address = text(key).ok_or_else(|| wrong.clone())?;
        if is_address(&address) {
            return Ok(address);
        }
        let (key, legal) = (format!("cluster.nodes.{key}"), "host:port".to_owned());
        Err(ConfigError::OutOfRange { key, value: format!("{address:?}"), legal })
    };
    let id = entry.get("id").and_then(toml::Value::as_integer);
    Ok(ListedNode {
        id: id
            .and_then(|id| u32::try_from(id).ok())
            .filter(|id| *id > 0)
            .ok_or_else(|| wrong.clone())?,
        rack: text("rack").unwrap_or_default(),
        client: reached_at("client")?,
        peer: reached_at("peer")?,
    })
}

/// A variable that names a section must name a setting of it; all others belong to somebody else.
fn override_from(file: &mut toml::Table, name: &str, value: &str) -> Result<(), ConfigError> {
    let Some(rest) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('_')) else {
        return Ok(());
    };
    let rest = rest.to_ascii_lowercase();
    let split = rest.split_once('_');
    let Some((section, key)) = split.filter(|(section, _)| is_section(section)) else {
        return Ok(());
    };
    // A number, a list or a quoted text as in the file; anything else is a text without its quotes.
    let parsed = format!("value = {value}").parse::<toml::Table>();
    let parsed = parsed.ok().and_then(|mut table| table.remove("value"));
    let raw = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let settings = file
        .entry(section)
        .or_insert_with(|| toml::Value::Table(toml::Table::new()))
        .as_table_mut()
        .ok_or_else(|| unknown_section(section))?;
    settings.insert(key.to_owned(), raw);
    Ok(())
}

fn is_section(name: &str) -> bool {
    Config::chapters().iter().any(|(section, ..)| *section == name)
}

fn unknown_section(section: &str) -> ConfigError {
    let known: Vec<&str> = Config::chapters().iter().map(|(name, ..)| *name).collect();
    ConfigError::UnknownSection { section: section.to_owned(), known: known.join(", ") }
}

fn unknown(section: &str, key: &str) -> ConfigError {
    let chapters = Config::chapters();
    let knobs = chapters.iter().find(|(name, ..)| *name == section).map(|(.., knobs)| knobs);
    let mut known: Vec<&str> = knobs.into_iter().flatten().map(|knob| knob.key).collect();
    if section == ClusterSection::NAME {
        known.push(NODES);
    }
    ConfigError::UnknownKey { key: format!("{section}.{key}"), known: known.join(", ") }
}

#[cfg(test)]
mod tests;
