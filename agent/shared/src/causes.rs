//! An error with its causes, on one line: many errors say the least by themselves.

use std::error::Error;
use std::fmt::Write as _;

/// Joins the texts of an error and of its causes with colons.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        // Writing to a String does not fail.
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Self>>);

    #[test]
    fn every_cause_is_named_from_the_outside_in() {
        let inner = Layer("no route", None);
        let error = Layer(
            "request",
            Some(Box::new(Layer("connect", Some(Box::new(inner))))),
        );
        assert_eq!(causes(&error), "request: connect: no route");
    }
}
