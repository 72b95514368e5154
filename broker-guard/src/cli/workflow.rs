//! `sealbus workflow`: what is watched over how, what is paused and why, and the orders that pause and resume it.

mod list;
mod order;
mod show;

use clap::Subcommand;
use sealbus_envelope::order::Workflow;

use super::{
    busdir::BusDir,
    failure::{Exit, Failure},
    output::Output,
    page::{self, AddressArg},
};
use crate::{
    oversight::pause::{WorkflowReport, Workflows},
    policy::compile::CompiledPolicy,
};

/// Watch over workflows: list, pause, resume
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(list::Args),
    Show(show::Args),
    Pause(order::Pause),
    Resume(order::Resume),
}

pub(crate) fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::List(args) => list::run(args, output),
        Command::Show(args) => show::run(args, output),
        Command::Pause(args) => order::pause(args, output),
        Command::Resume(args) => order::resume(args, output),
    }
}

/// Every workflow that has a mode or is paused, and whether the `guard` says so or its `store`.
fn read(dir: &BusDir, address: &AddressArg) -> Result<(Vec<WorkflowReport>, &'static str), Failure> {
    page::get_or_store(dir, address.of(&dir.config), "/workflows", |store| {
        let workflows = Workflows::new(store.workflows().map_err(page::unreadable_store)?);
        let (bundle, _) = dir.bundle()?;
        let policy = CompiledPolicy::compile(&bundle).map_err(|error| {
            Failure::told(Exit::Config, "policy_invalid", error.to_string(), "sign a policy that compiles")
        })?;
        Ok(workflows.report(&policy))
    })
}

/// The workflow that people name: `team:NAME`, `rule:NAME`, or a name that only one of both has.
fn named(dir: &BusDir, text: &str) -> Result<Workflow, Failure> {
    let (bundle, _) = dir.bundle()?;
    let team = bundle.tables().team(text).map(|team| Workflow::Team(team.name.clone()));
    let rule = bundle.records().rules.iter().find(|rule| rule.name.as_str() == text);
    let rule = rule.map(|rule| Workflow::Rule(rule.name.clone()));
    let told =
        |message: String, remedy: &str| Err(Failure::told(Exit::Config, "no_such_workflow", message, remedy));
    match (Workflow::parse(text), team, rule) {
        (Ok(workflow), ..) => Ok(workflow),
        (Err(_), Some(_), Some(_)) => {
            told(format!("`{text}` is a team and a rule"), "write `team:NAME` or `rule:NAME`")
        }
        (Err(_), Some(one), None) | (Err(_), None, Some(one)) => Ok(one),
        (Err(_), None, None) => told(
            format!("the policy has neither a team nor a rule `{}`", text.escape_debug()),
            "see what there is: sealbus workflow list",
        ),
    }
}
