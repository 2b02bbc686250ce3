//! One set of S3 credentials: redacted, wiped on drop, rendered once for all who ask.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use zeroize::Zeroizing;

/// Keys as the issuer minted them, held as the response body that SDKs read. A cheap clone.
///
/// The body is the one copy of the secrets that outlives the exchange. It is wiped when the last
/// reference to it is dropped; what a connection has in its write buffer at that moment is not
/// covered.
#[derive(Clone)]
pub struct Credentials {
    access_key_id: Arc<str>,
    expires_at: Timestamp,
    minted_at: Option<Timestamp>,
    body: Bytes,
}

/// The shape that every SDK parses: exactly these four, `Token` always a string, `Expiration` in
/// whole seconds with `Z` (other forms break the JavaScript and Rust SDKs and minio-py).
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    token: &'a str,
    expiration: &'a str,
}

impl Credentials {
    /// Renders credentials that expire at `expires_at`, cut to whole seconds.
    ///
    /// `session_token` is what SDKs get as `Token`: the issuer's, or the configured placeholder
    /// where the issuer gives none.
    pub fn new(
        access_key_id: String,
        secret_access_key: &SecretString,
        session_token: &SecretString,
        expires_at: Timestamp,
    ) -> Self {
        let expires_at = Timestamp::from_second(expires_at.as_second()).unwrap_or(expires_at);
        let body = Body {
            access_key_id: &access_key_id,
            secret_access_key: secret_access_key.expose_secret(),
            token: session_token.expose_secret(),
            expiration: &expires_at.to_string(),
        };
        // Six bytes are the longest escape of one byte in JSON: the buffer never grows, so no
        // unwiped copy of it is left behind.
        let longest = access_key_id.len() + body.secret_access_key.len() + body.token.len();
        let mut rendered = Zeroizing::new(Vec::with_capacity(longest * 6 + 256));
        #[expect(
            clippy::expect_used,
            reason = "four strings into a Vec: neither side can fail"
        )]
        serde_json::to_writer(&mut *rendered, &body).expect("strings serialise");
        Self {
            access_key_id: access_key_id.into(),
            expires_at,
            minted_at: None,
            body: Bytes::from_owner(rendered),
        }
    }

    /// Takes over credentials whose `body` another agent has rendered, byte for byte.
    pub fn restore(access_key_id: String, expires_at: Timestamp, body: &[u8]) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            expires_at,
            minted_at: None,
            body: Bytes::from_owner(Zeroizing::new(body.to_vec())),
        }
    }

    /// The public half of the key pair; it may appear in logs.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// When S3 stops accepting these keys, by the issuer's clock.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The same, with what the issuer's clock said when it minted them, where that is known.
    #[must_use]
    pub fn minted_at(mut self, at: Option<Timestamp>) -> Self {
        self.minted_at = at;
        self
    }

    /// How long they live from when they were minted, by the issuer's clock alone; `None` where that
    /// did not say what time it was.
    pub fn life(&self) -> Option<Duration> {
        Duration::try_from(self.expires_at.duration_since(self.minted_at?)).ok()
    }

    /// The JSON that a workload gets. A cheap clone: all callers share one buffer.
    pub fn body(&self) -> Bytes {
        self.body.clone()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use zeroize::Zeroize as _;

    use super::*;

    fn credentials() -> Credentials {
        Credentials::new(
            "CWID".to_owned(),
            &SecretString::from("canary\"secret"),
            &SecretString::from(""),
            "2026-11-23T15:00:00.987Z".parse().unwrap(),
        )
    }

    #[test]
    fn the_body_has_exactly_the_four_members_that_sdks_read() {
        assert_eq!(
            credentials().body(),
            concat!(
                r#"{"AccessKeyId":"CWID","SecretAccessKey":"canary\"secret","Token":"","#,
                r#""Expiration":"2026-11-23T15:00:00Z"}"#
            )
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", credentials());
        assert!(
            shown.contains("CWID") && !shown.contains("canary"),
            "{shown}"
        );
    }

    /// Hides the canary from the search for it: only its plain form counts.
    const MASK: u8 = 0x5a;
    const MASKED_CANARY: [u8; 16] = *b"9.,)(;:7</1084*+";

    /// How often the canary stands in the writable memory of this process.
    fn canaries_in_memory() -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        let mut found = 0;
        for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let at = u64::from_str_radix(start, 16).unwrap();
            let length = u64::from_str_radix(end, 16).unwrap() - at;
            let mut region = vec![0; usize::try_from(length).unwrap()];
            let read = memory.read_exact_at(&mut region, at);
            // What is read here must not be found there: the copy is masked before the next look, and
            // so is the part that was read of a region which has shrunk meanwhile.
            for byte in &mut region {
                *byte ^= MASK;
            }
            if read.is_ok() {
                let canary = MASKED_CANARY.as_slice();
                found += region
                    .windows(canary.len())
                    .filter(|window| *window == canary)
                    .count();
            }
            // A later region may lie where this copy did, and mask what is masked already.
            region.zeroize();
        }
        found
    }

    #[test]
    fn the_keys_leave_memory_with_the_last_reference() {
        let mut plain = Vec::with_capacity(MASKED_CANARY.len());
        // One by one: an array of them would stay on the stack.
        for byte in MASKED_CANARY {
            plain.push(byte ^ MASK);
        }
        let secret = SecretString::from(String::from_utf8(plain).unwrap());
        let expires_at = Timestamp::UNIX_EPOCH;
        let credentials = Credentials::new(
            "CWID".to_owned(),
            &secret,
            &SecretString::from(""),
            expires_at,
        );
        drop(secret);
        let shared = credentials.body();
        drop(credentials);
        assert_ne!(canaries_in_memory(), 0, "the search finds nothing at all");
        drop(shared);
        assert_eq!(canaries_in_memory(), 0);
    }
}
