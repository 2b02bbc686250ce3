//! The decision on one exchange.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shape;
use crate::{ExpiryForm, policy, standin::State};

/// The longest lifetime one may ask for, in seconds (CoreWeave's documentation of the endpoint).
const MAX_SECONDS: i64 = 43_200;
/// The lifetime of keys from the GET endpoint, and where no lifetime was asked for.
const SHORT: Duration = Duration::from_mins(15);

/// The body of a POST.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PostBody {
    #[serde(default)]
    duration_seconds: i64,
    org_id: String,
    oidc_token: String,
    #[serde(default)]
    attributes: Value,
}

/// One exchange as asked for.
pub(super) enum Asked {
    Post(PostBody),
    Get { org_id: String, token: String },
}

impl Asked {
    pub(super) fn token(&self) -> &str {
        match self {
            Self::Post(body) => &body.oidc_token,
            Self::Get { token, .. } => token,
        }
    }

    fn org_id(&self) -> &str {
        match self {
            Self::Post(body) => &body.org_id,
            Self::Get { org_id, .. } => org_id,
        }
    }
}

/// Why nothing is minted: a gRPC code and a message.
pub(super) struct Refusal {
    pub(super) code: u8,
    pub(super) message: String,
}

/// Verifies the token, asks the policy, mints a key and describes it in the endpoint's shape.
///
/// How CoreWeave refuses a wrong organisation is not documented; here it is code 7.
pub(super) fn exchange(state: &State, asked: &Asked, shape: &Shape) -> Result<Value, Refusal> {
    let refuse = |code, message: String| Err(Refusal { code, message });
    let lifetime = match asked {
        Asked::Post(PostBody {
            duration_seconds, ..
        }) => match u64::try_from(*duration_seconds) {
            Ok(0) => SHORT,
            Ok(seconds) if *duration_seconds <= MAX_SECONDS => Duration::from_secs(seconds),
            _ => {
                return refuse(3, format!("durationSeconds must be 0 to {MAX_SECONDS}"));
            }
        },
        Asked::Get { .. } => SHORT,
    };
    if asked.org_id() != state.org_id {
        return refuse(7, "permission denied: unknown organization".into());
    }
    let claims = match state.issuer.verify(asked.token()) {
        Ok(claims) => claims,
        Err(error) => return refuse(16, format!("invalid OIDC token: {error}")),
    };
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let audiences: Vec<String> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many
            .iter()
            .filter_map(|one| Some(one.as_str()?.to_owned()))
            .collect(),
        _ => Vec::new(),
    };
    if !state.policy.federates(text("iss"), &audiences) {
        return refuse(
            16,
            "no OIDC configuration matches the token's issuer and audience".into(),
        );
    }
    let principal = format!("role/{}:{}", text("iss"), text("sub"));
    if !state.policy.allows(&principal, policy::EXCHANGE) {
        let action = policy::EXCHANGE;
        return refuse(
            7,
            format!("permission denied: {principal} may not {action}"),
        );
    }
    let lifetime = (!shape.already_expired).then(|| shape.lifetime.unwrap_or(lifetime));
    let key = state.keys.mint(&principal, lifetime, shape.session_token);
    let expiry = written(key.expires, shape.expiry);
    Ok(match asked {
        Asked::Post(body) => {
            let attributes = if body.attributes.is_null() {
                json!({})
            } else {
                body.attributes.clone()
            };
            let mut document = json!({
                "accessKeyId": key.id, "secretKey": key.secret, "principalName": key.principal,
                "expiry": expiry, "attributes": attributes,
            });
            if let (Some(token), Some(fields)) = (key.session_token, document.as_object_mut()) {
                fields.insert("sessionToken".into(), token.into());
            }
            document
        }
        Asked::Get { .. } => json!({
            "AccessKeyId": key.id, "SecretAccessKey": key.secret,
            "Token": key.session_token.unwrap_or_default(), "Expiration": expiry,
            "attributes": {}, "multiAttributes": {},
        }),
    })
}

fn written(expires: Timestamp, form: ExpiryForm) -> String {
    let whole = Timestamp::from_second(expires.as_second()).unwrap_or(expires);
    match form {
        ExpiryForm::Whole => whole.to_string(),
        ExpiryForm::Fraction => whole
            .saturating_add(SignedDuration::from_nanos(123_456_789))
            .unwrap_or(whole)
            .to_string(),
        ExpiryForm::Offset => whole.display_with_offset(tz::offset(2)).to_string(),
    }
}
