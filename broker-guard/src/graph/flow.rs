//! One step of information: what an agent that holds something may send, at the least label, and why.
//!
//! A lower label is read by more, dominates fewer obstacles and falls under more flow grants, so whatever
//! can be done with some label can be done with the least. Labels between two bounds have a least one:
//! the join of what must be dominated. Integrity is turned round in the lattice, so an integrity ceiling is
//! one more thing to be dominated.

use sealbus_envelope::{label::Label, policy::FlowGrant};

use super::{
    TrustGraph,
    classes::{Class, ClassNo, RuleNo, Sides},
};

/// In which part information leaves an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Published to a stream rule's subscribers.
    Publish,
    /// Asked under a request rule: goes to who serves it.
    Ask,
    /// Answered under a request rule: goes to who asked.
    Answer,
}

/// A flow grant by its place in the policy.
pub(super) type GrantNo = usize;

/// Why a step is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// The label dominates everything the sender holds.
    Label,
    /// A flow grant lets it through below that.
    Grant(GrantNo),
    /// It would be denied, but observe mode lets it pass.
    Observed,
}

/// What an agent holds: its taint, by the one delivery that matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// The label it came with.
    pub(super) label: Label,
    /// The grants that discharge it, ascending: by team, `from` pattern and label.
    pub(super) grants: Vec<GrantNo>,
    /// The rule it came by, where that matters: the holder serves it, so a question under the same rule
    /// raises the same entry of its floor, and a grant discharges the entry as a whole or not at all.
    pub(super) served: Option<RuleNo>,
}

impl Held {
    /// What an agent knows by itself: nothing has to be dominated.
    pub(super) const OWN: Self = Self { label: Label::BOTTOM, grants: Vec::new(), served: None };

    /// Whether everything that can be done with `other` can be done with `self`.
    pub(super) fn as_free_as(&self, other: &Self) -> bool {
        other.label.dominates(self.label)
            && (self.served.is_none() || self.served == other.served)
            && other.grants.iter().all(|grant| self.grants.binary_search(grant).is_ok())
    }
}

/// Something an agent may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Emission {
    pub(super) rule: RuleNo,
    pub(super) way: Way,
    /// Who asked, of an answer.
    pub(super) asker: Option<ClassNo>,
    /// The least label.
    pub(super) label: Label,
    pub(super) basis: Basis,
}

impl TrustGraph<'_> {
    /// Everything that a member of `class` may send of what it holds.
    pub(super) fn emissions(&self, class: ClassNo, held: &Held, mut emit: impl FnMut(Emission)) {
        let Some(sender) = self.classes.get(class) else { return };
        for &rule in &sender.publishes {
            let Some(sides) = self.classes.sides.get(rule) else { continue };
            let way = if sides.request { Way::Ask } else { Way::Publish };
            let named = sides.publishers.binary_search(&class).is_ok();
            let grants = held.grants.iter().copied();
            self.send(
                sender,
                rule,
                named,
                held.label,
                grants,
                |_| Label::BOTTOM,
                |label, basis| {
                    emit(Emission { rule, way, asker: None, label, basis });
                },
            );
        }
        for &rule in &sender.subscribes {
            let Some(sides) = self.classes.sides.get(rule).filter(|sides| sides.request) else { continue };
            self.answers(sender, held, rule, sides, &mut emit);
        }
    }

    /// Who answers has been given the key of the request, so its label counts too.
    fn answers(
        &self,
        sender: &Class,
        held: &Held,
        rule: RuleNo,
        sides: &Sides,
        emit: &mut impl FnMut(Emission),
    ) {
        for &asker in &sides.publishers {
            let Some(question) = self.least_question(asker, rule) else { continue };
            if !sender.clearance.covers(question) {
                continue;
            }
            let asked = self.received(sender, rule, question);
            let mut grants: Vec<GrantNo> = held.grants.iter().chain(&asked.grants).copied().collect();
            grants.sort_unstable();
            grants.dedup();
            let left = |grant: &GrantNo| {
                let discharges = |held: &Held| held.grants.binary_search(grant).is_ok();
                match (discharges(held), discharges(&asked)) {
                    (true, true) => Label::BOTTOM,
                    (true, false) if held.served != Some(rule) => question,
                    (false, true) if held.served != Some(rule) => held.label,
                    _ => held.label.join(question),
                }
            };
            let floor = held.label.join(question);
            self.send(sender, rule, true, floor, grants.into_iter(), left, |label, basis| {
                emit(Emission { rule, way: Way::Answer, asker: Some(asker), label, basis });
            });
        }
    }

    /// The least labels under one rule. `left` is what a grant leaves to be dominated.
    #[expect(clippy::too_many_arguments, reason = "one call for publishing, one for answering")]
    fn send(
        &self,
        sender: &Class,
        rule: RuleNo,
        named: bool,
        floor: Label,
        grants: impl Iterator<Item = GrantNo>,
        left: impl Fn(&GrantNo) -> Label,
        mut emit: impl FnMut(Label, Basis),
    ) {
        let plain = named.then(|| self.least(sender, rule, floor)).flatten();
        if let Some(label) = plain {
            emit(label, Basis::Label);
        }
        let useful = |label: Label| plain.is_none_or(|plain| !label.dominates(plain));
        if named {
            let out = self.grants.to.get(rule).map_or(&[][..], Vec::as_slice);
            for grant in grants.filter(|grant| out.binary_search(grant).is_ok()) {
                let Some(FlowGrant { to_label, .. }) = self.facts.grants.get(grant) else { continue };
                let label = self.least(sender, rule, to_label.join(left(&grant)));
                if let Some(label) = label.filter(|label| useful(*label)) {
                    emit(label, Basis::Grant(grant));
                }
            }
        }
        if let Some(label) = self.least_observed(sender, rule).filter(|label| useful(*label)) {
            emit(label, Basis::Observed);
        }
    }

    /// The least label of `rule` that dominates `floor` and that `sender` may write.
    pub(super) fn least(&self, sender: &Class, rule: RuleNo, floor: Label) -> Option<Label> {
        let range = self.facts.rules.get(rule)?.labels;
        let ceiling = Label { integrity: sender.ceiling, ..Label::BOTTOM };
        let label = range.low.join(floor).join(ceiling);
        (range.high.dominates(label) && sender.clearance.covers(label)).then_some(label)
    }

    /// The least label under `rule` when its label and publisher checks only watch. Readers are held to
    /// the rule's range even then.
    fn least_observed(&self, sender: &Class, rule: RuleNo) -> Option<Label> {
        let low = self.facts.rules.get(rule)?.labels.low;
        (self.observes(rule, sender.team) && sender.clearance.covers(low)).then_some(low)
    }

    /// The least label with which a member of `asker` may ask.
    pub(super) fn least_question(&self, asker: ClassNo, rule: RuleNo) -> Option<Label> {
        let asker = self.classes.get(asker)?;
        self.least_observed(asker, rule).or_else(|| self.least(asker, rule, Label::BOTTOM))
    }

    /// What a member of `reader` holds that was given a key for `label` under `rule`.
    pub(super) fn received(&self, reader: &Class, rule: RuleNo, label: Label) -> Held {
        let from = self.grants.from.get(rule).map_or(&[][..], Vec::as_slice);
        let discharges = |grant: &&GrantNo| {
            self.grants.team_of(**grant) == Some(reader.team)
                && self.facts.grants.get(**grant).is_some_and(|grant| grant.from_label.dominates(label))
        };
        let of_team = |grant: &GrantNo| self.grants.team_of(*grant) == Some(reader.team);
        let serves = || {
            self.classes.sides.get(rule).is_some_and(|sides| sides.request)
                && reader.subscribes.binary_search(&rule).is_ok()
        };
        Held {
            label,
            grants: from.iter().filter(discharges).copied().collect(),
            served: (from.iter().any(of_team) && serves()).then_some(rule),
        }
    }

    /// What a member of `class` holds at `label` from wherever: any grant of its team that takes the label
    /// discharges it, as it does a declared parent.
    pub(super) fn holding(&self, class: &Class, label: Label) -> Held {
        let takes = |(no, grant): &(GrantNo, &FlowGrant)| {
            self.grants.is_live(*no)
                && self.grants.team_of(*no) == Some(class.team)
                && grant.from_label.dominates(label)
        };
        let grants = self.facts.grants.iter().enumerate().filter(takes);
        Held { label, grants: grants.map(|(no, _)| no).collect(), served: None }
    }

    /// The classes that may read what was sent.
    pub(super) fn readers(&self, sent: &Emission) -> impl Iterator<Item = (ClassNo, &Class)> {
        let subscribers = self.classes.sides.get(sent.rule).filter(|_| sent.asker.is_none());
        let subscribers = subscribers.map_or(&[][..], |sides| &sides.subscribers);
        let label = sent.label;
        let classes = subscribers.iter().copied().chain(sent.asker);
        let classes = classes.filter_map(|no| Some((no, self.classes.get(no)?)));
        classes.filter(move |(_, class)| class.clearance.covers(label))
    }
}
