//! The service account token, as an SDK finds it: read, and looked into without a check of its
//! signature, which is the agent's matter.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use jsonwebtoken::dangerous;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use shared::contract::MAX_TOKEN_BYTES;
use zeroize::Zeroizing;

use super::report::{Fails, Works};

/// A token, and what it says.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) text: SecretString,
    /// What CoreWeave's policies call its identity.
    pub(super) principal: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audiences,
    exp: i64,
    nbf: Option<i64>,
}

/// RFC 7519 allows a single audience as a plain string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

/// Reads the token and looks at its form, its times and its audience.
pub(super) fn read(
    path: &Path,
    audience: Option<&str>,
    now: Timestamp,
) -> Result<Works<Found>, Fails> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "mount the Pod's projected token there, as the injector does: create the Pod again, \
                 and see that nothing else is mounted over it"
            }
            io::ErrorKind::PermissionDenied => {
                "run as a user who may read it: the kubelet gives it to the Pod's `fsGroup`, or to \
                 everybody where all containers have one `runAsUser`"
            }
            _ => "see that the file is the Pod's projected token",
        };
        Fails::new(format!("failed to read {shown}: {error}"), remedy)
    })?;
    look(&text, audience, now)
}

/// Looks at a token's text.
fn look(text: &str, audience: Option<&str>, now: Timestamp) -> Result<Works<Found>, Fails> {
    let of_kubelet = "use the file that the kubelet writes, as it is";
    if text.ends_with(['\n', '\r']) {
        return Err(Fails::new(
            "the token ends with a line break, on which most SDKs fail before they ask",
            of_kubelet,
        ));
    }
    if text.is_empty() || text.len() > MAX_TOKEN_BYTES {
        let said = format!("the token has {} bytes", text.len());
        return Err(Fails::new(said, of_kubelet));
    }
    let claims: Claims = dangerous::insecure_decode_claims(text).map_err(|_| {
        let said =
            "the file holds no service account token: it is no JSON Web Token, or lacks claims";
        Fails::new(said, of_kubelet)
    })?;
    let audiences = match &claims.aud {
        Audiences::One(audience) => std::slice::from_ref(audience),
        Audiences::Many(audiences) => audiences,
    };
    let listed = audiences.join(", ");
    if let Some(wanted) = audience
        && !audiences.iter().any(|audience| audience == wanted)
    {
        return Err(Fails::new(
            format!("the token's audience is {listed:?} and not {wanted:?}"),
            "name the audience in the ServiceAccount's annotation `caios.coreweave.com/audience` or in \
             `config.audience`, and create the Pod again",
        ));
    }
    let clocks = "compare the clocks of this node and of the API server, and see that the kubelet \
                  renews the file";
    let expires_at = time(claims.exp);
    if expires_at <= now {
        let said = format!("the token expired at {expires_at}, and it is {now:.0} here");
        return Err(Fails::new(said, clocks));
    }
    if let Some(from) = claims.nbf.map(time)
        && now < from
    {
        let said = format!("the token is not valid before {from}, and it is {now:.0} here");
        return Err(Fails::new(said, clocks));
    }
    let minutes = expires_at.duration_since(now).as_mins();
    let said = format!(
        "the token of {}, for audience {listed:?}, is good for {minutes} more minutes",
        claims.sub
    );
    Ok(Works::new(
        said,
        Found {
            text: SecretString::from(text),
            principal: format!("role/{}:{}", claims.iss, claims.sub),
        },
    ))
}

fn time(seconds: i64) -> Timestamp {
    let extreme = if seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::from_second(seconds).unwrap_or(extreme)
}

impl Found {
    /// The token's text, for the one request that an SDK would make.
    pub(super) fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_000_000;

    fn token(change: &Value) -> String {
        let mut claims = json!({
            "iss": "https://issuer.example",
            "sub": "system:serviceaccount:ns:sa",
            "aud": ["aud"],
            "exp": NOW + 3_600,
            "nbf": NOW - 60,
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        // Whoever signed it: nobody checks that here.
        let key = jsonwebtoken::EncodingKey::from_secret(b"anybody");
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    }

    fn looked(text: &str, audience: Option<&str>) -> Result<Works<Found>, Fails> {
        look(text, audience, Timestamp::from_second(NOW).unwrap())
    }

    #[test]
    fn a_good_token_says_whose_it_is_and_how_long_it_lives() {
        let text = token(&json!({}));
        let works = looked(&text, Some("aud")).unwrap();
        assert_eq!(
            works.value.principal,
            "role/https://issuer.example:system:serviceaccount:ns:sa"
        );
        assert!(
            works.said.contains("system:serviceaccount:ns:sa"),
            "{}",
            works.said
        );
        assert!(works.said.contains("60 more minutes"), "{}", works.said);
        assert!(!format!("{works:?}").contains(&text), "the token is shown");
    }

    #[test]
    fn each_flaw_is_told_apart() {
        for (text, words) in [
            (String::new(), "has 0 bytes"),
            ("not a token".to_owned(), "no service account token"),
            (token(&json!({})) + "\n", "ends with a line break"),
            (
                token(&json!({"exp": NOW})),
                "the token expired at 1970-01-12T13:46:40Z",
            ),
            (token(&json!({"nbf": NOW + 1})), "not valid before"),
            (
                token(&json!({"aud": "other"})),
                "the token's audience is \"other\" and not \"aud\"",
            ),
            (token(&json!({"sub": 5})), "no service account token"),
        ] {
            let fails = looked(&text, Some("aud")).unwrap_err();
            assert!(fails.said.contains(words), "{fails:?}");
        }
        assert!(looked(&token(&json!({"aud": "other"})), None).is_ok());
    }

    #[test]
    fn a_missing_file_is_told_with_its_path() {
        let fails = read("/nonexistent/token".as_ref(), None, Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(fails.said.contains("/nonexistent/token"), "{fails:?}");
    }
}
