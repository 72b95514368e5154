//! The text that findings point into, cut so that places far apart are shown apart.
//!
//! The text's own reader counts the lines of a snippet from the beginning of the file, so that a diagnostic
//! with two places late in a long policy would show all that lies between.

use miette::{MietteError, MietteSpanContents, NamedSource, SourceCode, SourceSpan, SpanContents};

/// A named text.
#[derive(Debug, Clone)]
pub(super) struct Text(NamedSource<String>);

impl Text {
    pub(super) fn new(name: &str, text: &str) -> Self {
        Self(NamedSource::new(name, text.to_owned()))
    }

    pub(super) fn name(&self) -> &str {
        self.0.name()
    }
}

impl SourceCode for Text {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let found = self.0.read_span(span, before, after)?;
        let lines = found.data().iter().filter(|byte| **byte == b'\n').count();
        Ok(Box::new(MietteSpanContents::new_named(
            self.name().to_owned(),
            found.data(),
            *found.span(),
            found.line(),
            found.column(),
            lines,
        )))
    }
}
