//! Owns how client commands stand on a binary's command line beside the binary's own: each of them takes the shared
//! options, before or after its own words, and the binary's own commands do not.

use clap::{ArgMatches, Args, Command as Grammar, Error, FromArgMatches, Subcommand};

use super::{Command, GlobalOptions};

/// Client commands stand after a binary's own in its help.
const FIRST: usize = 100;

/// A client command with its shared options; flatten it into the enum of a binary's commands.
#[derive(Debug, Clone)]
pub struct Call {
    /// What to do.
    pub command: Command,
    /// With which cluster, and how to tell.
    pub global: GlobalOptions,
}

fn with_options((nth, command): (usize, &Grammar)) -> Grammar {
    // Not augmented directly: the options would bring their own description along.
    let options = GlobalOptions::augment_args(Grammar::new("options"));
    let options =
        options.get_arguments().cloned().map(|option| option.help_heading("Shared options"));
    command.clone().args(options).display_order(FIRST + nth)
}

impl Subcommand for Call {
    fn augment_subcommands(grammar: Grammar) -> Grammar {
        let commands = Command::augment_subcommands(Grammar::new("commands"));
        grammar.subcommands(commands.get_subcommands().enumerate().map(with_options))
    }

    fn augment_subcommands_for_update(grammar: Grammar) -> Grammar {
        Self::augment_subcommands(grammar)
    }

    fn has_subcommand(name: &str) -> bool {
        Command::has_subcommand(name)
    }
}

impl FromArgMatches for Call {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let command = Command::from_arg_matches(matches)?;
        // The grammar has just found a command, so there is one.
        let options = matches.subcommand().map_or(matches, |(_, options)| options);
        Ok(Self { command, global: GlobalOptions::from_arg_matches(options)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
