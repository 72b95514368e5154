//! Boxes and arrows, and how Mermaid and Graphviz write them.
//!
//! Names come from policies and logs, which others wrote: whatever a name holds, it stays inside its box.
//!
//! ```
//! use sealbus_guard::graph::drawing::{Drawing, Shape, Stroke};
//! let mut drawing = Drawing::default();
//! let (a, b) = (drawing.node("collector", Shape::Box), drawing.node("say \"hi\"", Shape::Round));
//! drawing.edge(a, b, "publishes", Stroke::Solid);
//! assert_eq!(drawing.to_mermaid(), "flowchart LR\n  n0[\"collector\"]\n  n1([\"say #34;hi#34;\"])\n  n0 -->|\"publishes\"| n1\n");
//! assert!(drawing.to_dot().contains(r#"n1 [label="say \"hi\"""#));
//! ```

use std::fmt::Write as _;

/// The form of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Somebody: an agent.
    Box,
    /// Several: a team, a zone.
    Double,
    /// A rule or a tool.
    Round,
    /// A subject or a label.
    Slanted,
    /// A flow grant.
    Diamond,
}

/// The form of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stroke {
    /// By the rules.
    Solid,
    /// Seen in the log, or by observe mode.
    Dotted,
    /// By a flow grant.
    Thick,
}

/// Nodes and edges with what is written on them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drawing {
    nodes: Vec<(String, Shape)>,
    edges: Vec<(usize, usize, String, Stroke)>,
}

impl Drawing {
    /// Adds a node; the number names it.
    pub fn node(&mut self, text: impl Into<String>, shape: Shape) -> usize {
        self.nodes.push((text.into(), shape));
        self.nodes.len() - 1
    }

    /// Adds an edge between two nodes of this drawing.
    pub fn edge(&mut self, from: usize, to: usize, text: impl Into<String>, stroke: Stroke) {
        self.edges.push((from, to, text.into(), stroke));
    }

    /// A Mermaid flowchart.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        for (n, (text, shape)) in self.nodes.iter().enumerate() {
            let (open, close) = match shape {
                Shape::Box => ("[", "]"),
                Shape::Double => ("[[", "]]"),
                Shape::Round => ("([", "])"),
                Shape::Slanted => ("[/", "/]"),
                Shape::Diamond => ("{", "}"),
            };
            let _ = writeln!(out, "  n{n}{open}\"{}\"{close}", mermaid(text));
        }
        for (from, to, text, stroke) in &self.edges {
            let arrow = match stroke {
                Stroke::Solid => "-->",
                Stroke::Dotted => "-.->",
                Stroke::Thick => "==>",
            };
            let text = if text.is_empty() { String::new() } else { format!("|\"{}\"|", mermaid(text)) };
            let _ = writeln!(out, "  n{from} {arrow}{text} n{to}");
        }
        out
    }

    /// A Graphviz digraph.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut out = String::from("digraph sealbus {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n");
        for (n, (text, shape)) in self.nodes.iter().enumerate() {
            let form = match shape {
                Shape::Box => "shape=box",
                Shape::Double => "shape=box, peripheries=2",
                Shape::Round => "shape=box, style=rounded",
                Shape::Slanted => "shape=parallelogram",
                Shape::Diamond => "shape=diamond",
            };
            let _ = writeln!(out, "  n{n} [label=\"{}\", {form}];", dot(text));
        }
        for (from, to, text, stroke) in &self.edges {
            let style = match stroke {
                Stroke::Solid => "solid",
                Stroke::Dotted => "dotted",
                Stroke::Thick => "bold",
            };
            let _ = writeln!(out, "  n{from} -> n{to} [label=\"{}\", style={style}];", dot(text));
        }
        out.push_str("}\n");
        out
    }
}

/// Text inside quotes in Mermaid: all but plain characters as entities, so that it can neither end its box nor
/// be read as markup.
fn mermaid(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || " ._-/,:+()*".contains(c);
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if plain(c) {
            out.push(c);
        } else {
            let _ = write!(out, "#{};", u32::from(c));
        }
        out
    })
}

/// Text inside quotes in DOT, where a backslash begins an escape and `\N`, `\G` and the like are replaced.
fn dot(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_its_box() {
        let hostile = "x\"]; end\nn9[\"<script>`|#\\N\\\"";
        let mut drawing = Drawing::default();
        let node = drawing.node(hostile, Shape::Box);
        drawing.edge(node, node, hostile, Stroke::Thick);
        let mermaid = drawing.to_mermaid();
        assert_eq!(mermaid.lines().count(), 3, "{mermaid}");
        assert_eq!(mermaid.matches('"').count(), 4, "{mermaid}");
        assert!(!mermaid.contains('<') && !mermaid.contains('`'), "{mermaid}");
        let dot = drawing.to_dot();
        assert_eq!(dot.lines().count(), 6, "{dot}");
        assert!(dot.contains(r#"label="x\"]; end"#) && dot.contains(r#"\\N\\\"","#), "{dot}");
    }
}
