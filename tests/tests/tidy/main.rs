//! Style as a test: the rules that every file of this tree keeps, without exceptions. Each finding says where and what
//! cures it. The rules only read; they never change a file. Each rule is shown to fail on a small bad example beside it.

mod dependencies;
mod layers;
mod shape;
mod source;
mod words;

use source::{Finding, root, rust_files, text_files};

fn report(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} findings\n{}\n", lines.len(), lines.join("\n"));
}

#[test]
fn layers_use_only_what_is_to_their_right() {
    let files = rust_files();
    let mut findings: Vec<Finding> = files.iter().flat_map(layers::check).collect();
    findings.extend(layers::check_api_siblings(&files));
    report(&findings);
}

#[test]
fn files_and_functions_keep_their_shape() {
    report(&rust_files().iter().flat_map(shape::check).collect::<Vec<_>>());
}

#[test]
fn nothing_unfinished_or_foreign_is_in_the_text() {
    report(&text_files().iter().flat_map(words::check_text).collect::<Vec<_>>());
}

#[test]
fn code_neither_panics_nor_prints_nor_shouts() {
    report(&rust_files().iter().flat_map(words::check_code).collect::<Vec<_>>());
}

#[test]
fn every_planted_bug_is_named_by_a_test() {
    report(&words::check_mutants(&rust_files()));
}

#[test]
fn pages_name_files_that_exist() {
    let pages = text_files().into_iter().filter(|file| file.path.ends_with(".md"));
    let exists = |path: &str| root().join(path).exists();
    report(&pages.flat_map(|page| words::check_paths(&page, exists)).collect::<Vec<_>>());
}

#[test]
fn dependencies_are_free_published_and_few_in_kind() {
    report(&dependencies::packages().iter().flat_map(dependencies::check).collect::<Vec<_>>());
}

#[test]
fn the_library_with_planted_bugs_is_built_from_what_the_node_is_built_from() {
    let manifest = |path: &str| std::fs::read_to_string(root().join(path)).expect("a manifest");
    let (node, mutated) = (manifest("node/Cargo.toml"), manifest("tests/mutated/Cargo.toml"));
    report(&dependencies::check_mutated(&node, &mutated));
}

#[test]
fn every_member_opts_into_the_lints_of_the_workspace() {
    let member = |path: &str| path.matches('/').count() == 1 && path.ends_with("/Cargo.toml");
    let opted_in = |text: &str| text.contains("[lints]\nworkspace = true");
    let findings: Vec<Finding> = text_files()
        .iter()
        .filter(|file| member(&file.path) && !opted_in(&file.text))
        .map(|file| file.finding(0, "add `[lints]` with `workspace = true`"))
        .collect();
    report(&findings);
}
