//! Labels as people write them: `level[/compartment+compartment[/integrity]]`.

use sealbus_envelope::{
    label::{Compartments, Integrity, Label, Level},
    name::Name,
    policy::Tables,
};

/// Why a text is no label of a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// Not the form of a label.
    #[error(
        "`{0}` is not a label: write level/compartment+compartment/integrity, with `-` for no compartment"
    )]
    Form(String),
    /// A word that the policy does not declare.
    #[error("`{word}` is no {what} of the policy, which declares: {declared}")]
    Unknown {
        /// Level, compartment or integrity rank.
        what: &'static str,
        /// What was written.
        word: String,
        /// What there is.
        declared: String,
    },
}

/// Reads a label. What is left out is no compartment and the lowest rank.
///
/// # Errors
/// [`WordsError`].
pub fn parse_label(tables: &Tables, text: &str) -> Result<Label, WordsError> {
    let mut parts = text.split('/');
    let level = number("level", &tables.levels, parts.next().unwrap_or_default())?;
    let mut compartments = Compartments::EMPTY;
    for word in parts.next().unwrap_or("-").split('+').filter(|word| *word != "-") {
        let n = number("compartment", &tables.compartments, word)?;
        compartments = compartments.union(Compartments::single(n).unwrap_or(Compartments::EMPTY));
    }
    let rank = match parts.next() {
        Some(word) => number("integrity rank", &tables.integrity, word)?,
        None => 0,
    };
    let form = || WordsError::Form(text.to_owned());
    if parts.next().is_some() {
        return Err(form());
    }
    let level = Level::new(level).map_err(|_| form())?;
    Ok(Label::new(level, compartments, Integrity::new(rank).map_err(|_| form())?))
}

fn number(what: &'static str, names: &[Name], word: &str) -> Result<u8, WordsError> {
    let place = names.iter().position(|name| name.as_str() == word);
    place.and_then(|place| u8::try_from(place).ok()).ok_or_else(|| WordsError::Unknown {
        what,
        word: word.to_owned(),
        declared: names.iter().map(Name::as_str).collect::<Vec<_>>().join(", "),
    })
}
