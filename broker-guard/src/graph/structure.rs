//! The graph itself: agents, teams, zones, rules, tools, subjects, labels and flow grants, with what is signed
//! of them and what the log has seen.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use petgraph::{
    Direction,
    graph::{DiGraph, NodeIndex},
    visit::EdgeRef as _,
};
use sealbus_envelope::policy::{MessageKind, Party, Who};
use serde::Serialize;

use super::{
    Facts, Holder,
    drawing::{Drawing, Shape, Stroke},
};
use crate::audit::entry::{Body, Entry};

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Node {
    /// An agent with a credential, or one that the log or a rule names.
    Agent(String),
    /// A team of the policy.
    Team(String),
    /// A zone.
    Zone(String),
    /// A stream rule.
    Rule(String),
    /// A request rule: a tool that some serve and others may ask.
    Tool(String),
    /// The subjects of a pattern.
    Subject(String),
    /// A label, in the policy's words.
    Label(String),
    /// A flow grant.
    Grant(String),
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// An agent is in a team.
    MemberOf,
    /// A team runs in a zone.
    RunsIn,
    /// A party publishes under a rule.
    Publishes,
    /// A party asks a tool.
    Asks,
    /// A rule delivers to a party.
    DeliversTo,
    /// A tool is served by a party.
    ServedBy,
    /// A rule covers subjects.
    Covers,
    /// A rule accepts labels from this one on.
    From,
    /// A rule accepts labels up to this one; a team is cleared up to it; a grant lifts labels up to it.
    UpTo,
    /// A team may use a grant.
    MayUse,
    /// A grant lifts what was read on these subjects.
    LiftsFrom,
    /// A grant is used on these subjects.
    UsedOn,
    /// A grant gives this label, or higher ones.
    Gives,
    /// The log: an agent had so many envelopes admitted under a rule.
    Sent(u64),
    /// The log: an agent was denied so many times under a rule.
    Denied(u64),
    /// The log: so many keys under a rule were relayed to an agent.
    WasGiven(u64),
}

impl Edge {
    const fn is_observed(&self) -> bool {
        matches!(self, Self::Sent(_) | Self::Denied(_) | Self::WasGiven(_))
    }
}

impl std::fmt::Display for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match self {
            Self::MemberOf => "member of",
            Self::RunsIn => "runs in",
            Self::Publishes => "publishes",
            Self::Asks => "asks",
            Self::DeliversTo => "delivers to",
            Self::ServedBy => "served by",
            Self::Covers => "covers",
            Self::From => "from",
            Self::UpTo => "up to",
            Self::MayUse => "may use",
            Self::LiftsFrom => "lifts from",
            Self::UsedOn => "used on",
            Self::Gives => "gives",
            Self::Sent(n) => return write!(f, "sent {n}"),
            Self::Denied(n) => return write!(f, "denied {n}"),
            Self::WasGiven(n) => return write!(f, "keys {n}"),
        };
        f.write_str(text)
    }
}

/// What the log has seen, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// By (agent's name, rule).
    counts: BTreeMap<(String, String), [u64; 3]>,
}

impl Observed {
    /// Counts one entry.
    pub fn read(&mut self, entry: &Entry<'_>) {
        let name = |token: &str| token.rsplit_once('-').map_or(token, |(name, _)| name).to_owned();
        let (agent, rule, kind, count) = match &entry.body {
            Body::Admitted(admitted) => (name(&admitted.sender), admitted.rule.to_string(), 0, 1),
            Body::Denied(denied) => {
                let (Some(sender), Some(rule)) = (&denied.sender, &denied.rule) else { return };
                (name(sender), rule.to_string(), 1, denied.count)
            }
            Body::KeyGranted(granted) => (name(&granted.reader), granted.rule.to_string(), 2, 1),
            _ => return,
        };
        if let Some(slot) = self.counts.entry((agent, rule)).or_default().get_mut(kind) {
            *slot += count;
        }
    }
}

/// The graph of one policy.
#[derive(Debug, Clone, Default)]
pub struct Structure {
    graph: DiGraph<Node, Edge>,
    places: HashMap<Node, NodeIndex>,
}

impl Structure {
    /// The graph of a policy, of those who hold credentials under it, and of what the log has seen.
    #[must_use]
    pub fn new(facts: Facts<'_>, holders: &[Holder], observed: &Observed) -> Self {
        let mut all = Self::default();
        let tables = facts.tables;
        for zone in &tables.zones {
            all.place(Node::Zone(zone.name.to_string()));
        }
        for team in &tables.teams {
            let node = Node::Team(team.name.to_string());
            all.place(node.clone());
            if let Some(zone) = &team.zone {
                all.link(node, Node::Zone(zone.to_string()), Edge::RunsIn);
            }
        }
        for holder in holders.iter().filter(|holder| !holder.is_team()) {
            let agent = Node::Agent(holder.name().to_string());
            all.link(agent, Node::Team(holder.team.to_string()), Edge::MemberOf);
        }
        for rule in facts.rules {
            let request = matches!(rule.kind, MessageKind::Request { .. });
            let name = rule.name.to_string();
            let node = if request { Node::Tool(name) } else { Node::Rule(name) };
            all.link(node.clone(), Node::Subject(rule.pattern.to_string()), Edge::Covers);
            all.link(node.clone(), Node::Label(tables.show(rule.labels.low)), Edge::From);
            all.link(node.clone(), Node::Label(tables.show(rule.labels.high)), Edge::UpTo);
            let (to, from) =
                if request { (Edge::Asks, Edge::ServedBy) } else { (Edge::Publishes, Edge::DeliversTo) };
            for party in &rule.publishers {
                all.link(end(party), node.clone(), to.clone());
            }
            for party in &rule.subscribers {
                all.link(node.clone(), end(party), from.clone());
            }
        }
        for grant in facts.grants {
            let node = Node::Grant(grant.name.to_string());
            all.link(Node::Team(grant.team.to_string()), node.clone(), Edge::MayUse);
            all.link(node.clone(), Node::Subject(grant.from.to_string()), Edge::LiftsFrom);
            all.link(node.clone(), Node::Subject(grant.to.to_string()), Edge::UsedOn);
            all.link(node.clone(), Node::Label(tables.show(grant.from_label)), Edge::UpTo);
            all.link(node, Node::Label(tables.show(grant.to_label)), Edge::Gives);
        }
        for ((agent, rule), [sent, denied, given]) in &observed.counts {
            let tool = Node::Tool(rule.clone());
            let rule = if all.places.contains_key(&tool) { tool } else { Node::Rule(rule.clone()) };
            let agent = Node::Agent(agent.clone());
            for (count, edge) in [(sent, Edge::Sent(*sent)), (denied, Edge::Denied(*denied))] {
                if *count > 0 {
                    all.link(agent.clone(), rule.clone(), edge);
                }
            }
            if *given > 0 {
                all.link(rule, agent, Edge::WasGiven(*given));
            }
        }
        all
    }

    fn place(&mut self, node: Node) -> NodeIndex {
        let graph = &mut self.graph;
        *self.places.entry(node).or_insert_with_key(|node| graph.add_node(node.clone()))
    }

    fn link(&mut self, from: Node, to: Node, edge: Edge) {
        let (from, to) = (self.place(from), self.place(to));
        self.graph.add_edge(from, to, edge);
    }

    /// The nodes, in the order of policy, credentials and log.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.graph.node_weights()
    }

    /// The edges.
    pub fn edges(&self) -> impl Iterator<Item = (&Node, &Node, &Edge)> {
        self.graph.edge_references().filter_map(|edge| {
            let (from, to) = (self.graph.node_weight(edge.source())?, self.graph.node_weight(edge.target())?);
            Some((from, to, edge.weight()))
        })
    }

    /// The part within `steps` edges, of either direction, of every node with this name; none if there is none.
    /// Labels are passed by: they connect everything with everything.
    #[must_use]
    pub fn around(&self, name: &str, steps: usize) -> Option<Self> {
        let named = |node: &NodeIndex| self.graph.node_weight(*node).is_some_and(|node| node.name() == name);
        let mut near: HashSet<NodeIndex> = self.graph.node_indices().filter(named).collect();
        if near.is_empty() {
            return None;
        }
        let mut queue: VecDeque<_> = near.iter().map(|node| (*node, 0)).collect();
        while let Some((node, far)) = queue.pop_front() {
            let is_label = matches!(self.graph.node_weight(node), Some(Node::Label(_)));
            if far >= steps || (is_label && far > 0) {
                continue;
            }
            for direction in [Direction::Incoming, Direction::Outgoing] {
                for next in self.graph.neighbors_directed(node, direction) {
                    if near.insert(next) {
                        queue.push_back((next, far + 1));
                    }
                }
            }
        }
        let graph = self
            .graph
            .filter_map(|at, node| near.contains(&at).then(|| node.clone()), |_, edge| Some(edge.clone()));
        let places =
            graph.node_indices().filter_map(|at| Some((graph.node_weight(at)?.clone(), at))).collect();
        Some(Self { graph, places })
    }

    /// As boxes and arrows.
    #[must_use]
    pub fn drawing(&self) -> Drawing {
        let mut drawing = Drawing::default();
        let places: HashMap<NodeIndex, usize> = self
            .graph
            .node_indices()
            .filter_map(|at| {
                let node = self.graph.node_weight(at)?;
                Some((at, drawing.node(format!("{} {}", node.kind(), node.name()), node.shape())))
            })
            .collect();
        for edge in self.graph.edge_references() {
            if let (Some(from), Some(to)) = (places.get(&edge.source()), places.get(&edge.target())) {
                let stroke = if edge.weight().is_observed() { Stroke::Dotted } else { Stroke::Solid };
                drawing.edge(*from, *to, edge.weight().to_string(), stroke);
            }
        }
        drawing
    }
}

impl Node {
    /// The name, without the kind.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Agent(name)
            | Self::Team(name)
            | Self::Zone(name)
            | Self::Rule(name)
            | Self::Tool(name)
            | Self::Subject(name)
            | Self::Label(name)
            | Self::Grant(name) => name,
        }
    }

    /// The kind, as in JSON.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Team(_) => "team",
            Self::Zone(_) => "zone",
            Self::Rule(_) => "rule",
            Self::Tool(_) => "tool",
            Self::Subject(_) => "subject",
            Self::Label(_) => "label",
            Self::Grant(_) => "grant",
        }
    }

    const fn shape(&self) -> Shape {
        match self {
            Self::Agent(_) => Shape::Box,
            Self::Team(_) | Self::Zone(_) => Shape::Double,
            Self::Rule(_) | Self::Tool(_) => Shape::Round,
            Self::Subject(_) | Self::Label(_) => Shape::Slanted,
            Self::Grant(_) => Shape::Diamond,
        }
    }
}

fn end(party: &Party) -> Node {
    match &party.who {
        Who::Team(name) => Node::Team(name.to_string()),
        Who::Agent(name) => Node::Agent(name.to_string()),
    }
}
