//! Owns the options that every client command takes, and turns them into configurations of the client. Never prints a
//! value of `-X`: it may be a secret.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use waymark_proto::transport::Dial;

use super::exit::Failure;
use crate::client::Client;
use crate::config::{ClientConfig, ConsumerConfig, ProducerConfig};

/// Where `waymark dev` listens first.
pub const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:7001";

/// The longest one attempt of a call may take, unless `-X request.timeout.ms` says otherwise; Kafka's default.
const ATTEMPT: Duration = Duration::from_secs(30);

/// Options that every client command takes, before or after its name.
#[derive(Debug, Clone, Args)]
pub struct GlobalOptions {
    /// Addresses to find the cluster by; any one that answers is enough
    #[arg(
        long,
        global = true,
        env = "WAYMARK_BOOTSTRAP",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        default_value = DEFAULT_BOOTSTRAP
    )]
    pub bootstrap: Vec<String>,
    /// Text for people, or JSON: one object, or an object a line where records come in a stream
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// A setting of the client by Kafka's name, for example -X linger.ms=0
    #[arg(short = 'X', global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    pub settings: Vec<(String, String)>,
    /// How long to try before giving up, for example 5s; does not limit how long records are sent or awaited
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        value_parser = humantime::parse_duration,
        default_value = "30s"
    )]
    pub timeout: Duration,
    /// Another way to reach nodes than TCP, for tests.
    #[arg(skip)]
    pub dial: Option<Arc<dyn Dial>>,
}

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Text and tables for people.
    #[default]
    Text,
    /// JSON for programs.
    Json,
}

impl GlobalOptions {
    /// A connection that needs no settings of a producer or consumer.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        let config = ClientConfig::from_map(self.pairs(&[])).map_err(|e| unusable(&e))?;
        self.client(config).await
    }

    /// A connection for producing; `defaults` hold unless `-X` says otherwise.
    pub(super) async fn connect_producer(
        &self,
        defaults: &[(&str, String)],
    ) -> Result<(Client, ProducerConfig), Failure> {
        let block = ("max.block.ms", self.timeout.as_millis().to_string());
        let all: Vec<_> = std::iter::once(block).chain(defaults.iter().cloned()).collect();
        let (client, config) =
            ProducerConfig::from_map(self.pairs(&all)).map_err(|e| unusable(&e))?;
        Ok((self.client(client).await?, config))
    }

    /// A connection for consuming; `defaults` hold unless `-X` says otherwise.
    pub(super) async fn connect_consumer(
        &self,
        defaults: &[(&str, String)],
    ) -> Result<(Client, ConsumerConfig), Failure> {
        let (client, config) =
            ConsumerConfig::from_map(self.pairs(defaults)).map_err(|e| unusable(&e))?;
        Ok((self.client(client).await?, config))
    }

    async fn client(&self, mut config: ClientConfig) -> Result<Client, Failure> {
        if let Some(dial) = &self.dial {
            config.dial = Arc::clone(dial);
        }
        Ok(Client::connect(config).await?)
    }

    /// What was given last stands, so the user's own come last.
    fn pairs(&self, defaults: &[(&str, String)]) -> Vec<(String, String)> {
        let whole = self.timeout.as_millis().max(1);
        let attempt = whole.min(ATTEMPT.as_millis());
        let mut pairs = vec![
            ("bootstrap.servers".to_owned(), self.bootstrap.join(",")),
            ("client.id".to_owned(), "waymark-cli".to_owned()),
            ("default.api.timeout.ms".to_owned(), whole.to_string()),
            ("request.timeout.ms".to_owned(), attempt.to_string()),
        ];
        pairs.extend(defaults.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        pairs.extend(self.settings.iter().cloned());
        pairs
    }
}

fn unusable(error: &crate::config::ConfigError) -> Failure {
    Failure::unusable(format!("setting {error}"))
}

/// `KEY=VALUE`; only the key is named when it is wrong.
pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or("expected KEY=VALUE, with an equals sign between them")?;
    if key.trim().is_empty() {
        return Err("expected KEY=VALUE; the key is empty".to_owned());
    }
    Ok((key.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_split_at_its_first_equals_sign() {
        assert_eq!(key_value("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert_eq!(key_value("a="), Ok(("a".to_owned(), String::new())));
        assert!(key_value("a").is_err());
        assert!(key_value("=a").is_err());
    }

    #[test]
    fn what_the_user_sets_stands_over_every_default() {
        let global = GlobalOptions {
            bootstrap: vec!["a:1".to_owned(), "b:2".to_owned()],
            output: OutputFormat::Text,
            settings: vec![("linger.ms".to_owned(), "7".to_owned())],
            timeout: Duration::from_secs(5),
            dial: None,
        };
        let pairs = global.pairs(&[("linger.ms", "0".to_owned())]);
        let (client, producer) = ProducerConfig::from_map(pairs).unwrap();
        assert_eq!(client.bootstrap, ["a:1", "b:2"]);
        assert_eq!(client.api_timeout, Duration::from_secs(5));
        assert_eq!(producer.linger, Duration::from_millis(7));
    }
}
