//! The JSON of CoreWeave's API: what is sent, what comes back.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::settings::Settings;
use crate::credentials::Credentials;
use crate::workload::Token;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    duration_seconds: u64,
    org_id: &'a str,
    oidc_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<&'a BTreeMap<String, String>>,
}

/// The body of a POST. It holds the token and is wiped when the last reference is dropped.
pub(super) fn request(settings: &Settings, token: &Token) -> Bytes {
    let attributes = &settings.attributes;
    let request = Request {
        duration_seconds: settings.duration.as_secs(),
        org_id: &settings.org_id,
        oidc_token: token.expose(),
        attributes: (!attributes.is_empty()).then_some(attributes),
    };
    // Six bytes are the longest escape of one byte in JSON: the buffer never grows, so no unwiped
    // copy of it is left behind.
    let texts: usize = attributes.iter().map(|(k, v)| k.len() + v.len() + 1).sum();
    let longest = (request.org_id.len() + request.oidc_token.len() + texts) * 6 + 256;
    let mut body = Zeroizing::new(Vec::with_capacity(longest));
    #[expect(
        clippy::expect_used,
        reason = "strings and a number into a Vec: neither side can fail"
    )]
    serde_json::to_writer(&mut *body, &request).expect("strings serialise");
    Bytes::from_owner(body)
}

/// What both endpoints answer, each in its own spelling; fields that are not listed are ignored.
#[derive(Deserialize)]
struct Response {
    #[serde(rename = "accessKeyId", alias = "AccessKeyId")]
    access_key_id: Option<String>,
    #[serde(rename = "secretKey", alias = "SecretAccessKey")]
    secret_access_key: Option<SecretString>,
    #[serde(rename = "Token", alias = "token")]
    session_token: Option<SecretString>,
    #[serde(rename = "expiry", alias = "Expiration")]
    expires_at: Option<String>,
}

/// Reads the credentials out of the body of a 200, or says what is wrong with it without showing
/// any of it: a part of it may be a secret.
pub(super) fn credentials(
    body: &[u8],
    placeholder: &SecretString,
) -> Result<Credentials, &'static str> {
    let response: Response =
        serde_json::from_slice(body).map_err(|_| "is not the JSON of credentials")?;
    let access_key_id = response
        .access_key_id
        .filter(|id| !id.is_empty())
        .ok_or("has no access key id")?;
    let secret_access_key = response
        .secret_access_key
        .filter(|secret| !secret.expose_secret().is_empty())
        .ok_or("has no secret key")?;
    let session_token = response
        .session_token
        .filter(|token| !token.expose_secret().is_empty());
    let expires_at: Timestamp = response
        .expires_at
        .and_then(|text| text.parse().ok())
        .ok_or("has no expiry in RFC 3339")?;
    Ok(Credentials::new(
        access_key_id,
        &secret_access_key,
        session_token.as_ref().unwrap_or(placeholder),
        expires_at,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<String, &'static str> {
        let credentials = credentials(body.as_bytes(), &SecretString::from("placeholder"))?;
        Ok(String::from_utf8(credentials.body().to_vec()).unwrap())
    }

    fn rendered(token: &str, expiration: &str) -> String {
        format!(
            r#"{{"AccessKeyId":"id","SecretAccessKey":"sk","Token":"{token}","Expiration":"{expiration}"}}"#
        )
    }

    #[test]
    fn both_spellings_are_read_and_unknown_fields_ignored() {
        let post = r#"{"accessKeyId":"id","secretKey":"sk","principalName":"p",
            "expiry":"2026-11-23T15:00:00Z","attributes":{"a":"b"},"new":[1]}"#;
        let get = r#"{"AccessKeyId":"id","SecretAccessKey":"sk","Token":"st",
            "Expiration":"2026-11-23T15:00:00Z","multiAttributes":{}}"#;
        assert_eq!(
            read(post).unwrap(),
            rendered("placeholder", "2026-11-23T15:00:00Z")
        );
        assert_eq!(read(get).unwrap(), rendered("st", "2026-11-23T15:00:00Z"));
    }

    #[test]
    fn an_empty_session_token_becomes_the_placeholder() {
        for token in ["null", r#""""#] {
            let body = format!(
                r#"{{"AccessKeyId":"id","SecretAccessKey":"sk","Token":{token},"Expiration":"2026-11-23T15:00:00Z"}}"#
            );
            assert_eq!(
                read(&body).unwrap(),
                rendered("placeholder", "2026-11-23T15:00:00Z")
            );
        }
    }

    #[test]
    fn expiry_may_have_fractions_and_an_offset() {
        for expiry in [
            "2026-11-23T15:00:00.123456789Z",
            "2026-11-23T17:30:00.5+02:30",
        ] {
            let body = format!(r#"{{"accessKeyId":"id","secretKey":"sk","expiry":"{expiry}"}}"#);
            assert_eq!(
                read(&body).unwrap(),
                rendered("placeholder", "2026-11-23T15:00:00Z")
            );
        }
    }

    #[test]
    fn what_is_missing_or_garbage_is_named_and_not_shown() {
        for (body, complaint) in [
            ("", "is not the JSON of credentials"),
            ("[]", "is not the JSON of credentials"),
            (r#""canary""#, "is not the JSON of credentials"),
            (
                r#"{"secretKey":"sk","expiry":"2026-11-23T15:00:00Z"}"#,
                "has no access key id",
            ),
            (
                r#"{"accessKeyId":"","secretKey":"sk"}"#,
                "has no access key id",
            ),
            (
                r#"{"accessKeyId":"id","expiry":"2026-11-23T15:00:00Z"}"#,
                "has no secret key",
            ),
            (
                r#"{"accessKeyId":"id","secretKey":""}"#,
                "has no secret key",
            ),
            (
                r#"{"accessKeyId":"id","secretKey":"sk"}"#,
                "has no expiry in RFC 3339",
            ),
            (
                r#"{"accessKeyId":"id","secretKey":"sk","expiry":"soon"}"#,
                "has no expiry in RFC 3339",
            ),
            (
                r#"{"accessKeyId":"id","secretKey":"sk","expiry":null}"#,
                "has no expiry in RFC 3339",
            ),
        ] {
            assert_eq!(read(body), Err(complaint), "{body}");
        }
    }

    #[test]
    fn a_request_leaves_out_attributes_when_there_are_none() {
        let mut settings = Settings::new("org");
        let token = Token::new(SecretString::from("a\"b"));
        assert_eq!(
            request(&settings, &token),
            r#"{"durationSeconds":21600,"orgId":"org","oidcToken":"a\"b"}"#
        );
        settings.attributes = [("node".to_owned(), "n1".to_owned())].into();
        assert_eq!(
            request(&settings, &token),
            r#"{"durationSeconds":21600,"orgId":"org","oidcToken":"a\"b","attributes":{"node":"n1"}}"#
        );
    }
}
