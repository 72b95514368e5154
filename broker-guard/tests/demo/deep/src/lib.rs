//! A package to be reviewed.
