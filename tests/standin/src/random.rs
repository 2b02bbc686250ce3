//! Random identifiers and secrets.

use std::fmt::Write as _;

/// Makes a string of `bytes` random bytes in hexadecimal.
#[expect(
    clippy::expect_used,
    reason = "without randomness the stand-in cannot play its part"
)]
pub(crate) fn hex(bytes: usize) -> String {
    let mut raw = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut raw).expect("the system has no randomness");
    raw.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Makes a random UUID (version 4 layout).
pub(crate) fn uuid() -> String {
    let hex = hex(16);
    let part = |range| hex.get(range).unwrap_or_default();
    format!(
        "{}-{}-4{}-8{}-{}",
        part(0..8),
        part(8..12),
        part(13..16),
        part(17..20),
        part(20..32)
    )
}
