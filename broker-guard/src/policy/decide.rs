//! The decisions: may this agent publish, answer, subscribe, receive?
//!
//! Each is a handful of comparisons on numbers: no allocation, no lock, no clock. Rules only allow, so
//! whatever is unknown (a rule, a team, a level) is denied, and the first check that fails names the reason.

use sealbus_envelope::identity::Claims;
use sealbus_envelope::label::{Clearance, Integrity, Label};
use sealbus_envelope::name::{AgentToken, Name};
use sealbus_envelope::policy::{Faults, check_flow};
use sealbus_envelope::reason::{Reason, Refused};
use sealbus_envelope::subject::Pattern;
use sealbus_envelope::time::Millis;
use sealbus_envelope::wire::Header;

use super::compile::{CompiledGrant, CompiledPolicy, CompiledRule, TeamId};
use crate::taint::Floor;

/// An agent as one policy sees it: its credential cut down to what its team has.
///
/// It is good only with the policy that made it. After a policy change make it anew; until then every
/// decision about it is `old_policy`, because its clearance may have shrunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    token: AgentToken,
    agent: Name,
    team: TeamId,
    clearance: Clearance,
    integrity_ceiling: Integrity,
    observed: bool,
    policy: [u8; 32],
}

impl Principal {
    /// The agent, as subjects name it.
    #[must_use]
    pub const fn token(&self) -> &AgentToken {
        &self.token
    }

    /// Its name in the credential, which rules may name.
    #[must_use]
    pub const fn agent(&self) -> &Name {
        &self.agent
    }

    /// The team's number in the policy that made this.
    #[must_use]
    pub const fn team(&self) -> TeamId {
        self.team
    }

    /// What it may read and write: the meet of credential and team.
    #[must_use]
    pub const fn clearance(&self) -> Clearance {
        self.clearance
    }

    /// The most trusted rank it may claim: the lower of credential and team.
    #[must_use]
    pub const fn integrity_ceiling(&self) -> Integrity {
        self.integrity_ceiling
    }
}

/// An envelope that a rule allows.
#[derive(Debug, Clone, Copy)]
pub struct Allowed<'p> {
    /// The rule.
    pub rule: &'p CompiledRule,
    /// What observe mode let pass, and whether it lets pass more.
    pub faults: Faults,
}

/// What a rule lets an agent do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'p> {
    /// The rule.
    pub rule: &'p CompiledRule,
    /// May publish under it, or ask.
    pub publishes: bool,
    /// May subscribe under it, or serve.
    pub subscribes: bool,
    /// The queue group it must subscribe in.
    pub queue: Option<&'p Name>,
}

impl CompiledPolicy {
    /// The agent that `claims` describe, under this policy.
    ///
    /// # Errors
    /// `unknown_team`.
    pub fn principal(&self, claims: &Claims) -> Result<Principal, Reason> {
        let team = self.team_named(claims.team.as_str()).ok_or(Reason::UnknownTeam)?;
        Ok(Principal {
            token: claims.token(),
            agent: claims.name.clone(),
            team: team.id,
            clearance: claims.clearance.meet(team.clearance),
            integrity_ceiling: claims.integrity_ceiling.min(team.integrity_ceiling),
            observed: self.tables().observe || team.observe,
            policy: *self.digest(),
        })
    }

    /// Whether `who` was made by this policy.
    #[must_use]
    pub fn knows(&self, who: &Principal) -> bool {
        who.policy == *self.digest()
    }

    /// May `who` publish an envelope (ask, if it is a request rule) of `size` bytes labelled `label` on
    /// the literal `subject` under `rule`?
    ///
    /// # Errors
    /// The first reason against it: `old_policy`, `unknown_rule`, `not_publisher`,
    /// `subject_outside_rule`, `label_unknown`, `label_out_of_range`, `above_clearance`,
    /// `above_integrity`, `too_big_for_rule`; but for what observe mode lets pass.
    pub fn may_publish(
        &self,
        who: &Principal,
        rule: &str,
        subject: &str,
        label: Label,
        size: usize,
    ) -> Result<Allowed<'_>, Reason> {
        let rule = self.rule_for(who, rule)?;
        let mut faults = rule.faults(who);
        if !rule.publishers.names(who) {
            found(&mut faults, Reason::NotPublisher)?;
        }
        self.write(who, rule, subject, label, size, faults)
    }

    /// May `who` answer a request under `rule` with an envelope of `size` bytes labelled `label`?
    ///
    /// # Errors
    /// `wrong_pattern` if the rule is not a request rule, `not_subscriber` if `who` does not serve it;
    /// else as [`may_publish`](Self::may_publish).
    pub fn may_answer(
        &self,
        who: &Principal,
        rule: &str,
        subject: &str,
        label: Label,
        size: usize,
    ) -> Result<Allowed<'_>, Reason> {
        let rule = self.rule_for(who, rule)?;
        if !rule.is_request() {
            return Err(Reason::WrongPattern);
        }
        if !rule.subscribers.names(who) {
            return Err(Reason::NotSubscriber);
        }
        self.write(who, rule, subject, label, size, rule.faults(who))
    }

    /// May `who` seal with a key for `label` under `rule`: to publish or ask, or, if `answers`, to answer one that
    /// asked?
    ///
    /// # Errors
    /// `old_policy`, `unknown_rule`, `wrong_pattern`, `not_subscriber` or `not_publisher`, `label_unknown`,
    /// `label_out_of_range`, `above_clearance`, `above_integrity`; but for what observe mode lets pass.
    pub fn may_seal(
        &self,
        who: &Principal,
        rule: &str,
        label: Label,
        answers: bool,
    ) -> Result<Allowed<'_>, Reason> {
        let rule = self.rule_for(who, rule)?;
        let mut faults = rule.faults(who);
        if answers && !rule.is_request() {
            return Err(Reason::WrongPattern);
        }
        if answers && !rule.subscribers.names(who) {
            return Err(Reason::NotSubscriber);
        }
        if !answers && !rule.publishers.names(who) {
            found(&mut faults, Reason::NotPublisher)?;
        }
        self.label(who, rule, label, &mut faults)?;
        if label.integrity > who.integrity_ceiling {
            found(&mut faults, Reason::AboveIntegrity)?;
        }
        Ok(Allowed { rule, faults })
    }

    /// Whether an envelope with this label keeps to what its sender was given to read, but for what `grant` lifts:
    /// the flow grant that the envelope names and may use.
    ///
    /// # Errors
    /// `below_floor`.
    pub fn check_floor(
        &self,
        floor: &Floor,
        label: Label,
        grant: Option<&CompiledGrant>,
    ) -> Result<(), Reason> {
        if label.dominates(floor.join()) {
            return Ok(());
        }
        // What came under a rule that is gone no grant can lift: nobody can say any more what it was.
        let lifted = |rule: &Name, on: &Pattern, read: Label| {
            let rule = self.rule(rule.as_str());
            grant.is_some_and(|grant| rule.is_some_and(|rule| grant.lifts(rule, on, read)))
        };
        if floor.rules().all(|(rule, on, read)| label.dominates(read) || lifted(rule, on, read)) {
            Ok(())
        } else {
            Err(Reason::BelowFloor)
        }
    }

    /// Whether an envelope of `size` bytes keeps to what its sender read: its label dominates those of the parents it
    /// names and all of `floor` (Bell-LaPadula upwards, Biba downwards), but for what a flow grant lifts. Gives the
    /// grant, if one is used.
    ///
    /// # Errors
    /// `flow_grant_unknown`, `flow_grant_mismatch`, `flow_grant_expired`, `below_parents`, `below_floor`; but for
    /// what `faults` lets pass.
    pub fn check_flow(
        &self,
        claims: &Claims,
        floor: &Floor,
        header: &Header<'_>,
        size: usize,
        now: Millis,
        faults: &mut Faults,
    ) -> Result<Option<&CompiledGrant>, Refused> {
        let named = header.flow_grant.and_then(|name| self.grant(name));
        let record = named.map(|grant| &grant.record);
        let usable = check_flow(header, record, claims, size, now, faults)?;
        let grant = named.filter(|_| usable.is_some());
        self.check_floor(floor, header.label, grant)
            .or_else(|reason| faults.found(reason, "header.label"))?;
        Ok(grant)
    }

    /// Whether `who` may grant a key for `label` under `rule`: an envelope under it could keep to its floor, be it
    /// by one of the flow grants.
    ///
    /// # Errors
    /// `below_floor`.
    pub fn check_key_floor(
        &self,
        who: &Principal,
        floor: &Floor,
        rule: &CompiledRule,
        label: Label,
        now: Millis,
    ) -> Result<(), Reason> {
        let team = self.team(who.team).map(|team| &team.name);
        let of_use = |grant: &&CompiledGrant| {
            let record = &grant.record;
            Some(&record.team) == team
                && record.to.overlaps(&rule.pattern)
                && label.dominates(record.to_label)
                && now < record.expires
        };
        self.check_floor(floor, label, None).or_else(|below| {
            let mut grants = self.grants().iter().filter(of_use);
            if grants.any(|grant| self.check_floor(floor, label, Some(grant)).is_ok()) {
                Ok(())
            } else {
                Err(below)
            }
        })
    }

    /// May `who` subscribe to `pattern` (serve, if it is a request rule) under `rule`, in the queue group
    /// `queue`?
    ///
    /// # Errors
    /// `old_policy`, `unknown_rule`, `not_subscriber` (also for another queue group than the rule's),
    /// `subject_outside_rule` if the rule does not cover the whole pattern, `above_clearance` if no label
    /// of the rule is within the clearance.
    pub fn may_subscribe(
        &self,
        who: &Principal,
        rule: &str,
        pattern: &Pattern,
        queue: Option<&str>,
    ) -> Result<&CompiledRule, Reason> {
        let rule = self.rule_for(who, rule)?;
        if !rule.subscribers.names(who) || rule.subscribers.queue_of(who).map(Name::as_str) != queue {
            return Err(Reason::NotSubscriber);
        }
        if !rule.pattern.covers(pattern) {
            return Err(Reason::SubjectOutsideRule);
        }
        if !who.clearance.covers(rule.labels.low) {
            return Err(Reason::AboveClearance);
        }
        Ok(rule)
    }

    /// May `who` be given the key for `label` under `rule`? A subscriber may, and in a request rule the
    /// asking side too, for the answers.
    ///
    /// # Errors
    /// `old_policy`, `unknown_rule`, `not_subscriber`, `label_unknown`, `label_out_of_range` unless some sender under
    /// the rule is observed, `above_clearance`.
    pub fn may_receive(&self, who: &Principal, rule: &str, label: Label) -> Result<&CompiledRule, Reason> {
        let rule = self.rule_for(who, rule)?;
        if !rule.reads(who) {
            return Err(Reason::NotSubscriber);
        }
        // Whether the label is in range is the sender's business. One that is observed may leave the range, and who
        // reads is held to the clearance all the same.
        let observed = rule.observe || self.tables().observe || self.teams().iter().any(|team| team.observe);
        self.label(who, rule, label, &mut Faults::observing(observed))?;
        Ok(rule)
    }

    /// What each rule that [concerns](Self::rules_concerning) `who` lets it do, in policy order. Rules above the agent's
    /// own clearance are left out: its credential may have less than its team.
    #[must_use]
    pub fn rules_for(&self, who: &Principal) -> Vec<Part<'_>> {
        if !self.knows(who) {
            return Vec::new();
        }
        let rules = self.rules_concerning(who).into_iter();
        let rules = rules.filter(|rule| who.clearance.covers(rule.labels.low));
        rules
            .map(|rule| Part {
                rule,
                publishes: rule.lets_publish(who),
                subscribes: rule.subscribers.names(who),
                queue: rule.subscribers.queue_of(who),
            })
            .collect()
    }

    fn rule_for(&self, who: &Principal, rule: &str) -> Result<&CompiledRule, Reason> {
        if !self.knows(who) {
            return Err(Reason::OldPolicy);
        }
        self.rule(rule).ok_or(Reason::UnknownRule)
    }

    fn write<'p>(
        &self,
        who: &Principal,
        rule: &'p CompiledRule,
        subject: &str,
        label: Label,
        size: usize,
        mut faults: Faults,
    ) -> Result<Allowed<'p>, Reason> {
        if !self.covers(rule, subject) {
            return Err(Reason::SubjectOutsideRule);
        }
        self.label(who, rule, label, &mut faults)?;
        if label.integrity > who.integrity_ceiling {
            found(&mut faults, Reason::AboveIntegrity)?;
        }
        if size > rule.max_bytes {
            found(&mut faults, Reason::TooBigForRule)?;
        }
        Ok(Allowed { rule, faults })
    }

    fn label(
        &self,
        who: &Principal,
        rule: &CompiledRule,
        label: Label,
        faults: &mut Faults,
    ) -> Result<(), Reason> {
        if !self.declares(label) {
            return Err(Reason::LabelUnknown);
        }
        if !rule.labels.contains(label) {
            found(faults, Reason::LabelOutOfRange)?;
        }
        if !who.clearance.covers(label) {
            return Err(Reason::AboveClearance);
        }
        Ok(())
    }
}

impl CompiledRule {
    /// Whether `who` may publish under it, be it because observe mode lets that pass.
    #[must_use]
    pub fn lets_publish(&self, who: &Principal) -> bool {
        self.publishers.names(who) || self.observe || who.observed
    }

    /// Nothing found yet, for an envelope of `who` under this rule.
    #[must_use]
    pub const fn faults(&self, who: &Principal) -> Faults {
        Faults::observing(self.observe || who.observed)
    }
}

fn found(faults: &mut Faults, reason: Reason) -> Result<(), Reason> {
    faults.found(reason, "policy").map_err(|fault| fault.reason)
}
