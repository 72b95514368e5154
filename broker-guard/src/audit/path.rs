//! Where a tile or an entry bundle lives, relative to the log's directory (C2SP tlog-tiles).
//!
//! ```
//! use sealbus_guard::audit::path::TilePath;
//! assert_eq!(TilePath::hashes(0, 1_234_067).to_string(), "tile/0/x001/x234/067");
//! assert_eq!(TilePath::entries(5).partial(17).to_string(), "tile/entries/005.p/17");
//! ```

use std::fmt;

/// The path of one tile, full or partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TilePath {
    /// `None` for entry bundles.
    level: Option<u8>,
    index: u64,
    width: Option<u8>,
}

impl TilePath {
    /// A full tile of hashes at `level` (0 to 63).
    #[must_use]
    pub const fn hashes(level: u8, index: u64) -> Self {
        Self { level: Some(level), index, width: None }
    }

    /// A full bundle of entries.
    #[must_use]
    pub const fn entries(index: u64) -> Self {
        Self { level: None, index, width: None }
    }

    /// The same tile while it holds only `width` items.
    #[must_use]
    pub const fn partial(self, width: u8) -> Self {
        Self { width: Some(width), ..self }
    }

    /// The directory that holds the partial forms of this tile; of no use once the full one exists.
    #[must_use]
    pub fn partial_directory(self) -> String {
        format!("{}.p", Self { width: None, ..self })
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Some(level) => write!(f, "tile/{level}/")?,
            None => f.write_str("tile/entries/")?,
        }
        // three digits an element, all but the last marked `x`, so that no file is also a directory
        let mut elements = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            elements.push(rest % 1000);
            rest /= 1000;
        }
        for (place, element) in elements.iter().enumerate().rev() {
            if place == 0 { write!(f, "{element:03}")? } else { write!(f, "x{element:03}/")? }
        }
        match self.width {
            Some(width) => write!(f, ".p/{width}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_are_those_of_the_specification() {
        for (path, expected) in [
            (TilePath::hashes(0, 0), "tile/0/000"),
            (TilePath::hashes(1, 999), "tile/1/999"),
            (TilePath::hashes(63, 1000), "tile/63/x001/000"),
            (TilePath::hashes(0, 1_234_067), "tile/0/x001/x234/067"),
            (TilePath::hashes(2, 0).partial(1), "tile/2/000.p/1"),
            (TilePath::entries(1_000_000), "tile/entries/x001/x000/000"),
            (TilePath::entries(273).partial(112), "tile/entries/273.p/112"),
        ] {
            assert_eq!(path.to_string(), expected);
        }
        assert_eq!(TilePath::entries(1).partial(3).partial_directory(), "tile/entries/001.p");
    }
}
