//! The command line as a whole: every command parses, help stays as it is, shared options stand on either side.

use clap::{CommandFactory as _, Parser};

use super::*;

#[derive(Debug, Parser)]
#[command(name = "waymark")]
struct Arguments {
    #[command(subcommand)]
    call: Call,
}

fn parsed(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(line.split(' '))
}

#[test]
fn the_definition_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn every_command_is_understood() {
    let lines = [
        "topic create a b -p 3 -r 3 -c retention.ms=1 --if-not-exists",
        "topic list --pattern ^a",
        "topic describe a --all",
        "topic alter a --partitions 6 --set a=b --unset c",
        "topic delete a --if-exists",
        "produce t",
        "produce t - --key k",
        "produce t file --key-separator : -p 1 -H a=b -z zstd --acks -1",
        "produce t file --key-regex ^(a) -X linger.ms=0",
        "consume t --from offset:5 -p 0,1 -f %k -n 5 -e",
        "consume t --group g --commit --from committed",
        "consume t --from time:1h",
        "consume t --group g --instance seat-1 --assignor range --session-timeout 6s -q",
        "consume --pattern audit-.* --group g --no-commit",
        "consume t --group g --partition 0 --commit --from end",
        "offsets list t --at 2026-01-01T00:00:00Z",
        "offsets show g --topic t",
        "offsets commit g t --to beginning -p 0",
        "group list --match ^a --state empty,moving",
        "group describe g h --topic t",
        "group describe --match ^a",
        "group members g",
        "group lag",
        "group lag g --partitions",
        "group reset g --to earliest --dry-run --note why",
        "group reset g --topic t:0,1 --topic u --to 90m",
        "group reset g --shift -10",
        "group reset g --from-file offsets.csv",
        "group undo g --to 2026-01-01T00:00:00Z --dry-run",
        "group explain g --since 1h",
        "group history g --topic t:0 --since 1h --limit 5",
        "group delete g h --if-exists",
        "group seek g --to start --topics a,b",
        "group seek g --to 1700000000",
        "group seek g --to-group other",
        "group remove-member g --member a --instance b --note why",
        "group remove-member g --all",
        "group watch",
        "group watch g --interval 1s -n 1",
        "cluster describe",
        "cluster health --wait 5s",
        "cluster verify a b",
        "cluster info",
        "cluster transfer t/0 t/1 --to 2",
        "bench max --inflight 8192 --secs 10 --linger 0ms",
        "bench one",
        "bench rate --rate 5000 --partitions 1000 --topic many",
        "bench read",
        "bench commit --groups 8",
        "bench rebalance --changes 2 --kills 1 --pause 100ms",
        "bench gap --kill 1=100,2=200",
    ];
    for line in lines {
        parsed(&format!("waymark {line}")).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_code_for_wrong_arguments() {
    let lines = [
        "topic create",
        "topic create a -p 0",
        "produce",
        "produce t - --key k --key-regex a",
        "produce t - -z brotli",
        "consume t --commit",
        "consume",
        "consume --pattern t.*",
        "consume --pattern t.* --group g --partition 0",
        "consume t --group g --commit --no-commit",
        "consume t --group g --assignor fair",
        "consume t --group g --partition 0 --instance seat-1",
        "consume t --from nowhere",
        "consume t -f %q",
        "offsets commit g t",
        "group reset g",
        "group reset g --to latest --shift 1",
        "group reset g --to nowhere",
        "group reset g --topic t --from-file f",
        "group seek g --to 17",
        "group undo g",
        "group describe",
        "group delete",
        "group remove-member g",
        "group remove-member g --all --member a",
        "group watch --interval 1ms",
        "cluster transfer t",
        "bench gap --kill 1",
        "topic list -X novalue",
        "topic list --output xml",
    ];
    for line in lines {
        let error = parsed(&format!("waymark {line}")).err().unwrap_or_else(|| panic!("{line}"));
        assert_eq!(error.exit_code(), i32::from(Exit::Unusable as u8), "{line}");
    }
}

#[test]
fn shared_options_stand_before_or_after_the_words_of_a_command() {
    for line in ["topic --output json --timeout 2s list", "topic list --output json --timeout 2s"] {
        let arguments = parsed(&format!("waymark {line} --bootstrap a:1,b:2")).unwrap();
        assert_eq!(arguments.call.global.output, OutputFormat::Json);
        assert_eq!(arguments.call.global.bootstrap, ["a:1", "b:2"]);
        assert_eq!(arguments.call.global.timeout, std::time::Duration::from_secs(2));
    }
}

#[test]
fn help_of_every_command_ends_with_the_exit_codes() {
    fn walk(command: &mut clap::Command, path: &str, leaves: &mut usize) {
        let path = format!("{path} {}", command.get_name());
        if command.get_subcommands().next().is_none() {
            let help = command.render_long_help().to_string();
            assert!(help.trim_end().ends_with(EXIT_CODES), "{path}: {help}");
            *leaves += 1;
            return;
        }
        for inside in command.get_subcommands_mut().filter(|inside| inside.get_name() != "help") {
            walk(inside, &path, leaves);
        }
    }
    let mut leaves = 0;
    walk(&mut Arguments::command(), "", &mut leaves);
    assert_eq!(leaves, 34);
}

#[test]
fn the_list_of_commands_stays_as_it_is() {
    let mut command = Arguments::command();
    let names: Vec<String> = command
        .get_subcommands_mut()
        .map(|family| {
            let inside: Vec<_> = family.get_subcommands().map(clap::Command::get_name).collect();
            format!("{} {}", family.get_name(), inside.join("|"))
        })
        .collect();
    assert_eq!(
        names,
        [
            "topic create|list|describe|alter|delete",
            "produce ",
            "consume ",
            "offsets list|show|commit",
            "group list|describe|members|lag|reset|undo|explain|history|delete|seek|remove-member|watch",
            "cluster describe|health|verify|info|transfer",
            "bench max|one|rate|read|commit|rebalance|gap",
        ]
    );
}
