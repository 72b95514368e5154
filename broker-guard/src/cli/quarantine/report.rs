//! What the guard's page or its store says of agents, for all commands here.

use std::net::SocketAddr;

use super::super::{busdir::BusDir, failure::Failure, output::table, page, session::printable};
use crate::quarantine::{
    report::{AgentReport, CauseReport},
    state::Trigger,
};

const PATH: &str = "/quarantine";

/// What the guard says.
pub(super) fn ask(address: SocketAddr) -> Result<Vec<AgentReport>, Failure> {
    page::get(address, PATH)?.read(address, PATH)
}

/// What the `guard` says, or if none runs its `store`.
pub(super) fn read(address: SocketAddr, dir: &BusDir) -> Result<(Vec<AgentReport>, &'static str), Failure> {
    page::get_or_store(dir, address, PATH, |store| {
        let mut known = store.quarantine().map_err(page::unreadable_store)?;
        known.sort_by(|a, b| a.record.agent.cmp(&b.record.agent));
        Ok(known.iter().map(|known| AgentReport::read(store, known)).collect())
    })
}

/// Whether an agent has this name, or this token.
pub(super) fn is_called(report: &AgentReport, name: &str) -> bool {
    report.agent == name || report.agent.rsplit_once('-').is_some_and(|(called, _)| called == name)
}

/// Who or what brought a change about, in few words.
pub(super) fn who(cause: &CauseReport) -> String {
    match (&cause.order, cause.trigger) {
        (Some(order), _) => {
            let short = |key: &String| key.chars().take(8).collect::<String>();
            let signers: Vec<String> = order.signers.iter().map(short).collect();
            format!("order {} of {}", order.id.get(..8).unwrap_or_default(), signers.join(", "))
        }
        (None, Trigger::Evidence) => "guard: hard evidence that it signed".to_owned(),
        (None, Trigger::Flood) => "guard: a flood".to_owned(),
        (None, Trigger::Anomaly) => "guard: anomaly score".to_owned(),
        (None, Trigger::Calm) => "guard: score decayed".to_owned(),
        (None, Trigger::Order) => "an order".to_owned(),
    }
}

/// What the servers said, in a word.
pub(super) fn confirmation(report: &AgentReport) -> &'static str {
    match &report.enforced {
        _ if !report.state.is_barred() => "-",
        Some(enforced) if enforced.confirmed => "confirmed",
        Some(_) => "NOT confirmed",
        None => "being asked",
    }
}

/// What became of kept envelopes.
pub(super) fn fates(report: &AgentReport) -> String {
    let evidence = &report.evidence;
    let rows: Vec<Vec<String>> = evidence
        .newest
        .iter()
        .filter(|kept| kept.fate.is_some())
        .map(|kept| {
            vec![
                kept.n.to_string(),
                printable(&kept.subject),
                kept.digest
                    .as_ref()
                    .map_or("unreadable", |digest| digest.get(..16).unwrap_or(digest))
                    .to_owned(),
                kept.fate.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let counted = format!("{} delivered, {} refused", evidence.delivered, evidence.refused);
    if rows.is_empty() {
        return counted;
    }
    format!("{}\n{counted}", table(&["N", "SUBJECT", "DIGEST", "FATE"], &rows))
}
