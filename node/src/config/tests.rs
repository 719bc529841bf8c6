//! What a person who writes a configuration relies on.

use super::*;

const SHIPPED: &str = include_str!("../../../deploy/node.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, [])
}

fn complaint(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn with_environment(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Config::parse(text, variables.iter().map(owned))
}

#[test]
fn the_shipped_file_is_the_page_of_all_defaults() {
    assert_eq!(parse(SHIPPED), Ok(Config::default()));
    let page = commented_defaults();
    assert!(
        page == SHIPPED,
        "deploy/node.toml has drifted: write `waymark node --print-defaults` into it"
    );
}

#[test]
fn the_shipped_file_shows_every_setting() {
    let file: toml::Table = SHIPPED.parse().unwrap();
    for (section, _, knobs) in Config::chapters() {
        for knob in knobs {
            assert!(file[section].get(knob.key).is_some(), "{section}.{} is missing", knob.key);
            assert!(!knob.about.concat().trim().is_empty(), "{section}.{} says nothing", knob.key);
        }
    }
}

#[test]
fn every_default_is_legal() {
    for (section, _, knobs) in Config::chapters() {
        for knob in knobs {
            let text = format!("[{section}]\n{} = {}", knob.key, knob.default);
            assert_eq!(parse(&text), Ok(Config::default()), "{text}");
        }
    }
}

#[test]
fn a_value_out_of_range_is_named_with_its_range() {
    assert_eq!(
        complaint("[journal]\nfile_bytes = 3"),
        "journal.file_bytes = 3 is out of range: 1 MiB to 1 GiB"
    );
    assert_eq!(
        complaint("[log]\nformat = \"xml\""),
        "log.format = \"xml\" is out of range: text or json"
    );
}

#[test]
fn metrics_have_an_address_or_none() {
    assert_eq!(Config::default().metrics.listens_at(), Some("127.0.0.1:7201"));
    let off = parse("[metrics]\naddress = \"off\"").unwrap();
    assert_eq!(off.metrics.listens_at(), None);
    assert_eq!(
        complaint("[metrics]\naddress = \"on\""),
        "metrics.address = \"on\" is out of range: host:port, or off"
    );
}

#[test]
fn a_value_of_another_kind_is_named_with_what_is_expected() {
    assert_eq!(
        complaint("[consensus]\nheartbeat = 200"),
        "consensus.heartbeat = 200 is not a time such as \"500 ms\" or \"30 s\""
    );
}

#[test]
fn what_does_not_exist_is_refused_with_what_does() {
    assert_eq!(
        complaint("[listen]\nclients = \"a:1\""),
        "there is no setting listen.clients; its section has client, peer"
    );
    assert!(complaint("[jurnal]\n").starts_with("there is no section [jurnal]; the sections are"));
    assert!(complaint("stray = 1").starts_with("there is no section [stray]"));
    assert!(complaint("[cluster]\nnodes = [{ ID = 1 }]").contains("cluster.nodes.ID"));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let hasty = "[consensus]\nheartbeat = \"200 ms\"\nelection_min = \"200 ms\"";
    assert!(complaint(hasty).contains("not below consensus.election_min"));
    let slow = "[consensus]\nheartbeat = \"500 ms\"";
    assert!(complaint(slow).contains("a third of consensus.election_max"));
    let short = "[journal]\nfile_bytes = \"2 MiB\"\nflush_bytes = \"256 KiB\"";
    assert!(complaint(short).contains("an eighth of journal.file_bytes"));
    let late = "[store]\nreserve_bytes = \"511 MiB\"";
    assert!(complaint(late).contains("store.last_reserve_bytes is above store.reserve_bytes"));
    let node = |id: u32, port: u16| {
        format!("{{ id = {id}, client = \"h:{port}\", peer = \"h:{}\" }}", port + 100)
    };
    let list = |nodes: &[String]| format!("[cluster]\nnodes = [{}]", nodes.join(", "));
    assert!(complaint(&list(&[node(1, 1), node(1, 2)])).contains("node 1 twice"));
    assert!(complaint(&list(&[node(1, 1), node(2, 1)])).contains("the address h:1 twice"));
    assert!(complaint(&list(&[node(2, 1)])).contains("node.id = 1 is not in cluster.nodes"));
    assert_eq!(parse(&list(&[node(1, 1), node(2, 2)])).unwrap().nodes.len(), 2);
}

#[test]
fn the_environment_wins_over_the_file() {
    let variables = [
        ("WAYMARK_JOURNAL_FILE_BYTES", "128 MiB"),
        ("WAYMARK_NODE_ID", "2"),
        ("WAYMARK_CLUSTER_NODES", r#"[{ id = 2, client = "h:1", peer = "h:2" }]"#),
        ("WAYMARK_SOMETHING", "of somebody else"),
        ("PATH", "/bin"),
    ];
    let config = with_environment("[journal]\nfile_bytes = \"8 MiB\"", &variables).unwrap();
    assert_eq!(config.journal.file_bytes, Size::mib(128));
    assert_eq!(config.node.id, 2);
    assert_eq!(config.nodes[0].peer, "h:2");
}

#[test]
fn the_environment_is_held_to_the_same_rules() {
    let refused = with_environment("", &[("WAYMARK_JOURNAL_FILE_BITES", "1")]).unwrap_err();
    assert!(refused.to_string().starts_with("there is no setting journal.file_bites"));
    let refused = with_environment("", &[("WAYMARK_JOURNAL_FILE_BYTES", "1")]).unwrap_err();
    assert!(refused.to_string().contains("1 MiB to 1 GiB"));
}

#[test]
fn a_node_without_a_list_is_a_cluster_of_its_own() {
    let config = parse("[listen]\nclient = \"127.0.0.1:9\"").unwrap();
    let nodes = config.listed_nodes();
    assert_eq!((nodes.len(), nodes[0].client.as_str()), (1, "127.0.0.1:9"));
}
