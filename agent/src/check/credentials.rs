//! The request that every SDK sends, and what it makes of the answer.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::SecretString;
use serde::Deserialize;
use shared::causes::causes;
use tokio::time::Instant;

use super::report::{Fails, Works};
use super::token::Found;

/// Longer than the agent holds a first request by default.
const PATIENCE: Duration = Duration::from_secs(12);
/// What the SDKs of Java and C++ wait for before they ask again.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(1);
/// Below this botocore asks on every call, and some SDKs fail when one renewal does.
const SHORT_LIFE_MINUTES: i64 = 20;

/// An answer, whatever it says.
pub(super) struct Answer {
    status: u16,
    body: SecretString,
}

/// What an SDK signs with.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) access_key_id: SecretString,
    pub(super) secret_access_key: SecretString,
    /// Empty where there is none.
    pub(super) session_token: SecretString,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    access_key_id: SecretString,
    secret_access_key: SecretString,
    token: SecretString,
    expiration: Timestamp,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

/// Asks once.
pub(super) async fn ask(url: &Url, token: &Found) -> Result<Works<Answer>, Fails> {
    let begun = Instant::now();
    let asked = async {
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(PATIENCE)
            .build()?;
        let mut authorization =
            HeaderValue::from_str(token.expose()).unwrap_or_else(|_| HeaderValue::from_static(""));
        authorization.set_sensitive(true);
        let request = client.get(url.clone()).header(AUTHORIZATION, authorization);
        let response = request.send().await?;
        let status = response.status().as_u16();
        let body = SecretString::from(response.text().await?);
        Ok::<_, reqwest::Error>(Answer { status, body })
    };
    let answer = asked.await.map_err(|error| {
        let (is_refused, is_late) = (error.is_connect(), error.is_timeout());
        let why = causes(&error.without_url());
        if is_late {
            let said = format!("no answer within {} s: {why}", PATIENCE.as_secs());
            return Fails::new(
                said,
                "something listens there that does not answer: see the log of this node's agent, and \
                 `caios-agent status` in its container",
            );
        }
        let remedy = if is_refused {
            "nobody listens there in this Pod: the log of its init container `caios-enroll` says \
             whether the agent took the listener; if it did, the agent has lost it since: create the \
             Pod again. `caios-agent status` in this node's agent lists the Pods that it serves"
        } else {
            "something else listens there: give the Pod another port with the annotation \
             `caios.coreweave.com/port`"
        };
        Fails::new(format!("no answer: {why}"), remedy)
    })?;
    let elapsed = begun.elapsed();
    let works = Works::new(
        format!("HTTP {} after {} ms", answer.status, elapsed.as_millis()),
        answer,
    );
    Ok(if elapsed > SHORTEST_PATIENCE {
        works.warning(
            "the SDKs of Java and C++ wait for 1 s and ask again; only a first request takes that \
             long, or one while CoreWeave does not answer",
        )
    } else {
        works
    })
}

/// Reads credentials out of an answer, as strictly as the strictest SDK.
pub(super) fn read(answer: &Answer, now: Timestamp) -> Result<Works<Credentials>, Fails> {
    use secrecy::ExposeSecret as _;
    let body = answer.body.expose_secret();
    if answer.status != 200 {
        let said = serde_json::from_str::<Refusal>(body).map(|refusal| refusal.message);
        let said = said.unwrap_or_else(|_| "an answer that is not the agent's".to_owned());
        let remedy = match answer.status {
            401 => {
                "see that this is the Pod's own token, for an audience that the agent accepts \
                    (`config.audience`, `config.additionalAudiences`), and not expired"
            }
            403 => {
                "if CoreWeave refused: grant what the message names, to exactly that principal; it \
                    works within seconds. Otherwise the token is another Pod's"
            }
            503 => {
                "no key is in memory and CoreWeave did not give one in time: the message has what \
                    came back; `caios-agent status` in this node's agent has more"
            }
            _ => "see that the agent listens at this URL, and nothing else",
        };
        return Err(Fails::new(
            format!("HTTP {}: {said}", answer.status),
            remedy,
        ));
    }
    // The error would quote what it could not read.
    let body: Body = serde_json::from_str(body).map_err(|_| {
        Fails::new(
            "the answer has not the four members that SDKs read",
            "see that the agent listens at this URL, and nothing else",
        )
    })?;
    let left = body.expiration.duration_since(now).as_mins();
    if body.expiration <= now {
        return Err(Fails::new(
            format!(
                "the credentials expired at {}, and it is {now:.0} here",
                body.expiration
            ),
            "compare the clock of this node with another",
        ));
    }
    let works = Works::new(
        format!("good until {}, for {left} more minutes", body.expiration),
        Credentials {
            access_key_id: body.access_key_id,
            secret_access_key: body.secret_access_key,
            session_token: body.token,
        },
    );
    Ok(if left < SHORT_LIFE_MINUTES {
        works.warning(
            "so short a life makes boto3 ask the agent on every call, and leaves minutes to an outage \
             of CoreWeave: `caios-agent status` in this node's agent says why",
        )
    } else {
        works
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answer(status: u16, body: &Value) -> Result<Works<Credentials>, Fails> {
        let body = SecretString::from(body.to_string());
        read(&Answer { status, body }, Timestamp::UNIX_EPOCH)
    }

    fn body(expiration: &str) -> Value {
        json!({
            "AccessKeyId": "canary",
            "SecretAccessKey": "canary",
            "Token": "",
            "Expiration": expiration,
        })
    }

    #[test]
    fn good_credentials_say_until_when_and_nothing_else() {
        let works = answer(200, &body("1970-01-01T06:00:00Z")).unwrap();
        assert_eq!(
            works.said,
            "good until 1970-01-01T06:00:00Z, for 360 more minutes"
        );
        assert_eq!(works.warning, None);
        assert!(!format!("{works:?}").contains("canary"));
        let short = answer(200, &body("1970-01-01T00:15:00Z")).unwrap();
        assert!(short.warning.unwrap().contains("boto3"));
    }

    #[test]
    fn each_refusal_has_the_agents_words_and_what_to_do() {
        for (status, remedy) in [(401, "config.audience"), (403, "grant"), (503, "CoreWeave")] {
            let fails = answer(status, &json!({"message": "because"})).unwrap_err();
            assert_eq!(fails.said, format!("HTTP {status}: because"));
            assert!(fails.remedy.contains(remedy), "{fails:?}");
        }
        let foreign = answer(404, &json!("canary")).unwrap_err();
        assert!(!foreign.said.contains("canary"), "{foreign:?}");
    }

    #[test]
    fn what_sdks_cannot_use_is_no_success() {
        let expired = answer(200, &body("1970-01-01T00:00:00Z")).unwrap_err();
        assert!(expired.said.contains("expired at"), "{expired:?}");
        let mut without = body("1970-01-01T06:00:00Z");
        without.as_object_mut().unwrap().remove("Token");
        let fails = answer(200, &without).unwrap_err();
        assert!(
            fails.said.contains("four members") && !fails.said.contains("canary"),
            "{fails:?}"
        );
    }
}
