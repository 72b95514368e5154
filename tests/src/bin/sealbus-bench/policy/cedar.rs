//! The same policy in Cedar, and the same decisions by its authorizer.
//!
//! Cedar is given its best: policies, entities and requests are made before the clock starts; team and rule are
//! in the scope, so that a policy about another team fails at its first comparison (with the team in `when`
//! decisions take a sixth longer). Templates would be linked to these same policies. And beside the whole set there is a set for each rule, found by name, as one would slice it.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up stops")]

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, Policy, PolicyId, PolicySet, Request,
    RestrictedExpression,
};

use super::fixture::{Attempt, MAX_BYTES, publisher, subject_prefix, teams};

/// The policy, ready for decisions.
pub(crate) struct Cedar {
    authorizer: Authorizer,
    policies: PolicySet,
    by_rule: HashMap<String, PolicySet>,
    entities: Entities,
}

/// What is asked, ready made.
pub(crate) struct Asked {
    rule: String,
    request: Request,
}

/// One policy for each rule.
pub(crate) fn texts(rules: usize) -> Vec<String> {
    (0..rules).map(|rule| text(rule, rules)).collect()
}

fn text(rule: usize, rules: usize) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        r#"permit (principal in Team::"team{team}", action == Action::"publish", resource == Rule::"rule{rule}")
when {{
    context.subject like "{prefix}*" &&
    1 <= context.level && context.level <= 2 &&
    context.compartments.contains(0) && [0, 1].containsAll(context.compartments) &&
    context.level <= principal.level && principal.compartments.containsAll(context.compartments) &&
    context.integrity <= principal.integrity &&
    context.bytes <= {MAX_BYTES}
}};"#,
        team = publisher(rule, rules),
        prefix = subject_prefix(rule),
    );
    text
}

/// From text to a set of policies.
pub(crate) fn parse(texts: &[String]) -> PolicySet {
    let mut policies = PolicySet::new();
    for (rule, text) in texts.iter().enumerate() {
        policies.add(policy(rule, text)).expect("a policy id of its own");
    }
    policies
}

fn policy(rule: usize, text: &str) -> Policy {
    Policy::parse(Some(PolicyId::new(format!("rule{rule}"))), text).expect("a policy")
}

impl Cedar {
    pub(crate) fn new(rules: usize) -> Self {
        let texts = texts(rules);
        let slice = |(rule, text): (usize, &String)| {
            let alone = PolicySet::from_policies([policy(rule, text)]).expect("one policy");
            (format!("rule{rule}"), alone)
        };
        Self {
            authorizer: Authorizer::new(),
            policies: parse(&texts),
            by_rule: texts.iter().enumerate().map(slice).collect(),
            entities: entities(rules),
        }
    }

    /// By every policy there is.
    pub(crate) fn decide(&self, asked: &Asked) -> bool {
        self.allows(asked, &self.policies)
    }

    /// By the one policy that is about the rule.
    pub(crate) fn decide_sliced(&self, asked: &Asked) -> bool {
        self.by_rule.get(&asked.rule).is_some_and(|policies| self.allows(asked, policies))
    }

    fn allows(&self, asked: &Asked, policies: &PolicySet) -> bool {
        let response = self.authorizer.is_authorized(&asked.request, policies, &self.entities);
        response.decision() == Decision::Allow
    }

    /// Whether it comes to that without an error: a policy that fails is skipped, and would cost less.
    pub(crate) fn decides(&self, asked: &Asked, allow: bool) -> bool {
        let response = self.authorizer.is_authorized(&asked.request, &self.policies, &self.entities);
        let clean = response.diagnostics().errors().next().is_none();
        clean && self.decide(asked) == allow && self.decide_sliced(asked) == allow
    }
}

impl Asked {
    pub(crate) fn new(attempt: &Attempt) -> Self {
        let Attempt { team, rule, subject, label, bytes } = attempt;
        let pairs = [
            ("subject", RestrictedExpression::new_string(subject.clone())),
            ("level", RestrictedExpression::new_long(label.level.number().into())),
            ("compartments", numbers(label.compartments.iter())),
            ("integrity", RestrictedExpression::new_long(label.integrity.number().into())),
            ("bytes", RestrictedExpression::new_long(i64::try_from(*bytes).unwrap_or(i64::MAX))),
        ];
        let context =
            Context::from_pairs(pairs.map(|(key, value)| (key.to_owned(), value))).expect("a context");
        let [agent, action, resource] = [
            format!("Agent::\"agent{team}\""),
            "Action::\"publish\"".to_owned(),
            format!("Rule::\"{rule}\""),
        ]
        .map(|text| uid(&text));
        let request = Request::new(agent, action, resource, context, None).expect("a request");
        Self { rule: rule.clone(), request }
    }
}

fn entities(rules: usize) -> Entities {
    let agents = (0..teams(rules)).flat_map(|team| {
        let attributes = HashMap::from([
            ("level".to_owned(), RestrictedExpression::new_long(3)),
            ("compartments".to_owned(), numbers(0..3)),
            ("integrity".to_owned(), RestrictedExpression::new_long(1)),
        ]);
        let team_uid = uid(&format!("Team::\"team{team}\""));
        let agent = uid(&format!("Agent::\"agent{team}\""));
        let agent = Entity::new(agent, attributes, HashSet::from([team_uid.clone()])).expect("an agent");
        [agent, Entity::with_uid(team_uid)]
    });
    Entities::from_entities(agents, None).expect("entities")
}

fn numbers(numbers: impl Iterator<Item = u8>) -> RestrictedExpression {
    RestrictedExpression::new_set(numbers.map(|n| RestrictedExpression::new_long(n.into())))
}

fn uid(text: &str) -> EntityUid {
    text.parse().expect("an entity's id")
}
