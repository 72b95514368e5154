//! Holds, approvers, orders and the anomaly detector's settings, as written.

use toml::Spanned;
use toml::de::DeValue;

use super::{Fields, string, wrong_type};
use crate::policy::diagnostic::{Code, Finding, Findings};
use crate::policy::source::{At, Name, RawAnomaly, RawApprovers, RawAsked, RawHold};

const APPROVERS: &str =
    "write `\"LIST\"`, or `{ list = \"NAME\", after = \"5m\" }` for one that is told later";

/// The names of a table whose keys are not known beforehand, in file order.
fn entries<'t, T>(
    fields: &mut Fields<'t>,
    mut read: impl FnMut(&str, &'t Spanned<DeValue<'t>>) -> Option<T>,
) -> Vec<(Name, T)> {
    let mut all: Vec<_> = fields.table.iter().collect();
    all.sort_by_key(|(name, _)| name.span().start);
    fields.open = true;
    all.into_iter()
        .filter_map(|(name, value)| {
            let written = At::new(name.get_ref().to_string(), name.span());
            read(name.get_ref(), value).map(|value| (written, value))
        })
        .collect()
}

pub(super) fn approvers(fields: &mut Fields<'_>, findings: &mut Findings) -> RawApprovers {
    let span = fields.span.clone();
    let people = entries(fields, |name, value| string(value, &format!("the key of `{name}`"), findings));
    RawApprovers { people, span }
}

pub(super) fn orders(fields: &mut Fields<'_>, findings: &mut Findings) -> Vec<(Name, At<u64>)> {
    entries(fields, |name, value| whole(value, name, findings))
}

pub(super) fn anomaly(fields: &mut Fields<'_>, findings: &mut Findings) -> RawAnomaly {
    RawAnomaly {
        watch: score(fields, "watch", findings),
        quarantine: score(fields, "quarantine", findings),
        half_life: fields.name("half_life", findings),
        warm_up: fields.name("warm_up", findings),
        warm_up_messages: fields.number("warm_up_messages", findings),
        divert: fields.switch("divert", findings),
        weights: fields
            .table("weights", findings, |fields, findings| {
                entries(fields, |name, value| decimal(value, name, findings))
            })
            .unwrap_or_default(),
        span: fields.span.clone(),
    }
}

pub(super) fn hold(fields: &mut Fields<'_>, findings: &mut Findings) -> RawHold {
    fields.require(&["approvals", "deadline", "approvers"], findings);
    RawHold {
        approvals: fields.number("approvals", findings),
        deadline: fields.name("deadline", findings),
        approvers: lists(fields, findings),
        span: fields.span.clone(),
    }
}

fn lists(fields: &mut Fields<'_>, findings: &mut Findings) -> Option<At<Vec<RawAsked>>> {
    let value = fields.get("approvers")?;
    let DeValue::Array(items) = value.get_ref() else {
        findings.push(wrong_type(value, "`approvers`", "an array of lists"));
        return None;
    };
    let mut lists = Vec::with_capacity(items.len());
    for item in items.iter() {
        match item.get_ref() {
            DeValue::String(list) => {
                lists.push(RawAsked { list: At::new(list.to_string(), item.span()), after: None });
            }
            DeValue::Table(table) => {
                let mut fields = Fields::new(table, item.span(), "an item of `approvers`");
                let (list, after) = (fields.name("list", findings), fields.name("after", findings));
                if list.is_none() && !table.contains_key("list") {
                    let message = "an item of `approvers` names no `list`";
                    findings.push(
                        Finding::error(Code::MissingKey, message, item.span(), "nobody here").help(APPROVERS),
                    );
                }
                fields.finish(findings);
                lists.extend(list.map(|list| RawAsked { list, after }));
            }
            _ => findings.push(
                wrong_type(item, "each item of `approvers`", "a list's name or a table").help(APPROVERS),
            ),
        }
    }
    Some(At::new(lists, value.span()))
}

fn score(fields: &mut Fields<'_>, key: &'static str, findings: &mut Findings) -> Option<At<f64>> {
    decimal(fields.get(key)?, key, findings)
}

fn decimal(value: &Spanned<DeValue<'_>>, key: &str, findings: &mut Findings) -> Option<At<f64>> {
    let number = match value.get_ref() {
        DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
        DeValue::Integer(number) => number.as_str().replace('_', "").parse().ok(),
        _ => {
            findings.push(
                wrong_type(value, &format!("`{key}`"), "a number").help("write a number, such as `1.5`"),
            );
            return None;
        }
    };
    number.map(|number| At::new(number, value.span()))
}

fn whole(value: &Spanned<DeValue<'_>>, key: &str, findings: &mut Findings) -> Option<At<u64>> {
    match value.get_ref() {
        DeValue::Integer(number) => {
            let number = u64::from_str_radix(number.as_str(), number.radix()).unwrap_or(u64::MAX);
            Some(At::new(number, value.span()))
        }
        _ => {
            findings.push(wrong_type(value, &format!("`{key}`"), "a whole number"));
            None
        }
    }
}
