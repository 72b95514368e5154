//! The `sealbus` command: one file a subcommand, its arguments beside its function.
//!
//! Results go to stdout (with `--json` one object, or one a line), everything else to stderr. Every failure
//! names the place and the remedy and ends with a code of [`Exit`]; nothing here panics on input.

mod agent;
mod anomaly;
mod approvals;
mod audit;
mod bare;
mod busdir;
mod completion;
mod demo;
mod dev;
mod doctor;
mod events;
mod failure;
mod graph;
mod guard;
mod init;
mod local;
mod locked;
mod logging;
mod order;
mod output;
mod page;
mod policy;
mod publish;
mod quarantine;
mod registry;
mod reply;
mod request;
mod review;
mod session;
mod status;
mod subscribe;
mod taint;
mod when;
mod whoami;
mod why;
mod workflow;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::Exit;
use failure::Failure;
use output::Output;

const ABOUT: &str = "Sealed envelopes for AI agents over NATS";

const AFTER_HELP: &str = "\
First steps:
  sealbus demo                            watch a bus at work, and under attack
  sealbus dev                             a whole bus on this machine, to try things out
  sealbus init --bus demo                 make a bus directory: keys, policy, configuration
  sealbus agent add alice --team analyst  make an agent's credentials

Exit codes:
   0  success
   1  failure: the operation did not succeed (such as: the bus cannot be reached)
   2  usage: the command line is wrong
   3  denied: the guard or the policy refused it
   4  verification failed: a signature or the audit log is not what it should be
   5  `policy diff` only: the new policy opens something
  64  configuration, key file, credentials file or policy is wrong

With --json a failure is an object with the key `error` on stdout.";

/// `sealbus`.
#[derive(Debug, Parser)]
#[command(name = "sealbus", version, about = ABOUT, after_help = AFTER_HELP, max_term_width = 100)]
#[command(propagate_version = true, disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    /// Write JSON to stdout: one object, or one a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    #[command(subcommand)]
    Agent(agent::Command),
    #[command(subcommand)]
    Policy(policy::Command),
    Demo(demo::Args),
    Dev(dev::Args),
    Guard(guard::Args),
    Pub(publish::Args),
    Sub(subscribe::Args),
    Request(request::Args),
    Reply(reply::Args),
    Events(events::Args),
    Whoami(whoami::Args),
    Status(status::Args),
    #[command(subcommand)]
    Taint(taint::Command),
    #[command(subcommand)]
    Quarantine(quarantine::Command),
    #[command(subcommand)]
    Order(order::Command),
    #[command(subcommand)]
    Approvals(approvals::Command),
    #[command(subcommand)]
    Workflow(workflow::Command),
    Review(review::Args),
    Why(why::Args),
    #[command(subcommand)]
    Audit(audit::Command),
    #[command(subcommand)]
    Anomaly(anomaly::Command),
    #[command(subcommand)]
    Graph(graph::Command),
    Doctor(doctor::Args),
    Completion(completion::Args),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    match run(cli.command, &output) {
        Ok(()) => Exit::Success.into(),
        Err(failure) => output.failure(&failure).into(),
    }
}

fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Init(args) => init::run(&args, output),
        Command::Agent(command) => agent::run(&command, output),
        Command::Policy(command) => policy::run(&command, output),
        Command::Demo(args) => demo::run(&args, output),
        Command::Dev(args) => dev::run(&args, output),
        Command::Guard(args) => guard::run(&args, output),
        Command::Pub(args) => publish::run(&args, output),
        Command::Sub(args) => subscribe::run(&args, output),
        Command::Request(args) => request::run(&args, output),
        Command::Reply(args) => reply::run(&args, output),
        Command::Events(args) => events::run(&args, output),
        Command::Whoami(args) => whoami::run(&args, output),
        Command::Status(args) => status::run(&args, output),
        Command::Taint(command) => taint::run(&command, output),
        Command::Quarantine(command) => quarantine::run(&command, output),
        Command::Order(command) => order::run(&command, output),
        Command::Approvals(command) => approvals::run(&command, output),
        Command::Workflow(command) => workflow::run(&command, output),
        Command::Review(args) => review::run(&args, output),
        Command::Why(args) => why::run(&args, output),
        Command::Audit(command) => audit::run(&command, output),
        Command::Anomaly(command) => anomaly::run(&command, output),
        Command::Graph(command) => graph::run(&command, output),
        Command::Doctor(args) => doctor::run(&args, output),
        Command::Completion(args) => completion::run(&args, output),
    }
}

/// A runtime for commands that talk to the bus.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|source| {
        let message = "cannot start the runtime";
        Failure::because(Exit::Failure, "runtime", message, "see how many threads a process may have", source)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_an_example() {
        fn visit(path: &str, command: &clap::Command) {
            assert!(command.get_about().is_some(), "`{path}` has no description");
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(command.has_subcommands() || help.contains("sealbus "), "`{path}` shows no example");
            assert!(help.lines().all(|line| line.chars().count() <= 100), "`{path}`: a line is too long");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "`{path}`: `{}` has no help", argument.get_id());
            }
            for subcommand in command.get_subcommands() {
                visit(&format!("{path} {}", subcommand.get_name()), subcommand);
            }
        }
        visit("sealbus", &Cli::command());
    }
}
