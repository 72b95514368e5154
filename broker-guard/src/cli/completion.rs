//! `sealbus completion`: a script that teaches the shell the command line.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, failure::Failure, output::Output};

const EXAMPLES: &str = "\
Examples:
  sealbus completion bash > ~/.local/share/bash-completion/completions/sealbus
  sealbus completion zsh > ~/.zfunc/_sealbus
  sealbus completion fish > ~/.config/fish/completions/sealbus.fish";

/// Write a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sealbus", &mut script);
    output.raw(&script)
}
