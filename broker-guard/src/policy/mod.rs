//! Policy: who may send what to whom, with which labels.
pub mod diagnostic;
mod parse;
pub mod source;
pub mod trie;
