//! The files in `deploy/` that speak of metrics, held against what a node exports.

use std::collections::BTreeSet;

use serde_json::Value;

use super::bed::Bed;
use super::page::Page;

const DASHBOARD: &str = include_str!("../../../../../deploy/grafana/waymark.json");
const ALERTS: &str = include_str!("../../../../../deploy/prometheus/alerts.yml");
const SCRAPE: &str = include_str!("../../../../../deploy/prometheus/prometheus.yml");

/// Every name in a text that begins as ours do.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c)).filter(|word| word.starts_with("waymark_"));
    words.map(str::to_owned).collect()
}

/// All queries of a dashboard's panels.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().expect("a query").to_owned()).collect()
}

/// The names of samples that belong to each family.
fn sample_names(page: &Page) -> Vec<(String, Vec<String>)> {
    let of = |(name, declared): (&String, &super::page::Declared)| {
        let suffixes: &[&str] = match declared.kind.as_str() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            _ => &[""],
        };
        let names = suffixes.iter().map(|suffix| format!("{name}{suffix}"));
        (name.clone(), names.collect())
    };
    page.families.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_shows_every_family_and_nothing_else() {
    let bed = Bed::start().await;
    let page = bed.page().await;
    bed.stop().await;
    let families = sample_names(&page);
    let exported: BTreeSet<&String> = families.iter().flat_map(|(_, names)| names).collect();
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let shown = names(&queries(&dashboard).join(" "));
    let unknown: Vec<&String> = shown.iter().filter(|name| !exported.contains(name)).collect();
    assert!(unknown.is_empty(), "the dashboard asks for what no node has: {unknown:?}");
    let missing = families.iter().filter(|(_, names)| !names.iter().any(|it| shown.contains(it)));
    let missing: Vec<&String> = missing.map(|(family, _)| family).collect();
    assert!(missing.is_empty(), "no panel shows {missing:?}");
    let alerted = names(ALERTS);
    let unknown: Vec<&String> = alerted.iter().filter(|name| !exported.contains(name)).collect();
    assert!(unknown.is_empty() && !alerted.is_empty(), "alerts on what no node has: {unknown:?}");
}

#[test]
fn panels_have_numbers_titles_and_places_of_their_own() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap_or_default();
        assert!(!title.is_empty(), "{panel}");
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{title}");
        let place = (panel["gridPos"]["x"].as_u64(), panel["gridPos"]["y"].as_u64());
        assert!(places.insert(place), "{title} hides another panel");
        let described = panel["type"] == "row" || panel["description"].is_string();
        assert!(described, "{title} does not say what it shows");
    }
    assert_eq!(panels[0]["title"], "Cluster health", "what matters comes first");
}

#[test]
fn the_sample_configuration_names_the_default_port_and_the_alerts() {
    let port = crate::config::Config::default().metrics.address.replace("127.0.0.1", "");
    assert!(SCRAPE.contains(&port), "{port}");
    assert!(SCRAPE.contains("alerts.yml"));
}
