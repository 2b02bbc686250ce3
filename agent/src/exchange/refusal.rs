//! What is said when an exchange fails: what the issuer said, about whom, and what to do. Never a
//! token or a secret, even where the issuer echoes one.

use serde::Deserialize;

use super::settings::Settings;
use crate::workload::{Identity, Token};

/// The longest part of an issuer's message that is passed on, in characters.
const LONGEST_MESSAGE: usize = 300;
/// Runs of token characters from this length on are looked at as parts of a token.
const SHORTEST_SECRET: usize = 16;

/// The errors of CoreWeave's API: gRPC-gateway's `Status`; `code` and `details` are not used.
#[derive(Deserialize)]
struct Status {
    message: String,
}

/// What the issuer said in an error's body, fit for a log: redacted, escaped and cut. Just the
/// status where the body is not of the known shape.
pub(super) fn said(status: u16, body: &[u8], token: &Token) -> String {
    let message = serde_json::from_slice::<Status>(body)
        .map(|status| status.message)
        .unwrap_or_default();
    if message.trim().is_empty() {
        return format!("HTTP {status}");
    }
    let redacted = redact(&message, token.expose());
    let mut escaped = redacted.chars().flat_map(|c| {
        // Control characters would let an answer forge log lines.
        let shown = if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        };
        shown.chars().collect::<Vec<_>>()
    });
    let mut shown: String = escaped.by_ref().take(LONGEST_MESSAGE).collect();
    if escaped.next().is_some() {
        shown.push('…');
    }
    format!("{shown} (HTTP {status})")
}

/// Replaces every run of token characters that is a JWT, or has a part of `token` in it.
fn redact(message: &str, token: &str) -> String {
    let is_token_char = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
    let mut shown = String::with_capacity(message.len());
    let mut rest = message;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_token_char(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        let shares_a_part = || {
            run.as_bytes()
                .windows(SHORTEST_SECRET)
                .any(|part| str::from_utf8(part).is_ok_and(|part| token.contains(part)))
        };
        if run.len() >= SHORTEST_SECRET && (run.contains("eyJ") || shares_a_part()) {
            shown.push_str("[redacted]");
        } else {
            shown.push_str(run);
        }
        let next = after.find(is_token_char).unwrap_or(after.len());
        let (between, after) = after.split_at(next);
        shown.push_str(between);
        rest = after;
    }
    shown
}

/// The message of a refusal: what was said, to whom, and what to do about it.
pub(super) fn refused(status: u16, said: &str, identity: &Identity, settings: &Settings) -> String {
    let (issuer, audience) = (identity.issuer(), identity.audience());
    let org_id = &settings.org_id;
    let advice = match status {
        400 => format!(
            "sent were organisation `{org_id}` and a lifetime of {} s: check `--org-id` and `--credential-duration`",
            settings.duration.as_secs()
        ),
        401 => format!(
            "register issuer `{issuer}` with audience `{audience}` as an OIDC configuration in \
             CoreWeave (both must match exactly), or the token has expired"
        ),
        403 => format!(
            "grant `cwobject:CreateAccessKeyOIDC` to this principal in an access policy of \
             organisation `{org_id}`"
        ),
        _ => format!("check `--org-id` (`{org_id}`) and `--api-url`"),
    };
    let principal = identity.principal();
    format!("CoreWeave refused keys to `{principal}` (audience `{audience}`): {said}; {advice}")
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.canarycanarycanary.signaturesignature";

    fn says(message: &str) -> String {
        let body = serde_json::json!({"code": 7, "message": message, "details": []}).to_string();
        said(403, body.as_bytes(), &Token::new(SecretString::from(TOKEN)))
    }

    #[test]
    fn the_issuers_message_is_passed_on() {
        assert_eq!(says("permission denied"), "permission denied (HTTP 403)");
    }

    #[test]
    fn a_token_or_a_part_of_one_is_redacted() {
        for (message, shown) in [
            (TOKEN.to_owned(), "[redacted] (HTTP 403)"),
            (
                format!("bad token \"{TOKEN}\"!"),
                "bad token \"[redacted]\"! (HTTP 403)",
            ),
            (
                "x canarycanarycana y".to_owned(),
                "x [redacted] y (HTTP 403)",
            ),
            ("pre-signaturesignature".to_owned(), "[redacted] (HTTP 403)"),
            (
                "other eyJhbGciOiJub25lIn0.e30.".to_owned(),
                "other [redacted] (HTTP 403)",
            ),
            (
                "role/https://oidc.example/id/1:a-long-service-account".to_owned(),
                "role/https://oidc.example/id/1:a-long-service-account (HTTP 403)",
            ),
        ] {
            assert_eq!(says(&message), shown);
        }
    }

    #[test]
    fn a_long_message_is_cut_and_control_characters_are_escaped() {
        let long = says(&"ä ".repeat(500));
        assert_eq!(long.chars().count(), 300 + "… (HTTP 403)".chars().count());
        assert_eq!(says("a\nb\u{1b}[0m"), "a\\nb\\u{1b}[0m (HTTP 403)");
    }

    #[test]
    fn a_body_of_another_shape_gives_the_status() {
        for body in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"message":1}"#,
            r#"{"message":" "}"#,
        ] {
            let token = Token::new(SecretString::from(TOKEN));
            assert_eq!(said(502, body.as_bytes(), &token), "HTTP 502");
        }
    }

    #[test]
    fn each_refusal_says_who_and_what_to_do() {
        let identity = Identity::new("https://iss", "system:serviceaccount:ns:sa", "aud");
        let settings = Settings::new("org-1");
        for (status, advice) in [
            (400, "organisation `org-1` and a lifetime of 21600 s"),
            (401, "register issuer `https://iss` with audience `aud`"),
            (403, "grant `cwobject:CreateAccessKeyOIDC`"),
            (404, "check `--org-id` (`org-1`)"),
        ] {
            let message = refused(status, "because", &identity, &settings);
            assert!(message.contains(advice), "{message}");
            assert!(
                message.contains(
                    "`role/https://iss:system:serviceaccount:ns:sa` (audience `aud`): because;"
                ),
                "{message}"
            );
        }
    }
}
