//! Names of Kubernetes objects.

/// Whether this can be the name of an object: a DNS subdomain (RFC 1123), as the API server wants.
///
/// Anything else must not become part of a URL.
pub fn is_name(name: &str) -> bool {
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            label.starts_with(ends)
                && label.ends_with(ends)
                && label.chars().all(|c| ends(c) || c == '-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_elsewhere_are_none() {
        for good in ["a", "app-1", "a.b-c.d", "0"] {
            assert!(is_name(good), "{good}");
        }
        let long = "a".repeat(254);
        for bad in [
            "",
            "..",
            "a/b",
            "../secrets/s",
            "A",
            "-a",
            "a-",
            "a..b",
            "a?b",
            "a%2fb",
            &long,
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
