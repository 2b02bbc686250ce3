//! The list of buckets, by a signed request, and what to do when S3 refuses it.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderValue;
use reqwest::{Url, redirect};
use shared::causes::causes;

use super::credentials::Credentials;
use super::report::{Fails, Works};
use super::sigv4::{self, Request};
use super::token::Found;

const PATIENCE: Duration = Duration::from_secs(12);
/// What a message repeats of an error's code, in characters.
const LONGEST_CODE: usize = 60;

/// Lists the buckets of `endpoint`, as every SDK would: by proxy where the variables name one.
pub(super) async fn list_buckets(
    endpoint: &str,
    region: &str,
    credentials: &Credentials,
    token: &Found,
    now: Timestamp,
) -> Result<Works<()>, Fails> {
    let url = read(endpoint)?;
    let host = host(&url);
    let request = Request {
        host: &host,
        path: url.path(),
        query: "",
        region,
        at: now,
    };
    let asked = async {
        let mut builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(PATIENCE);
        if url.scheme() == "http" {
            // No TLS, so no authorities: works where the system has none.
            builder = builder.tls_certs_only([]);
        }
        let mut request_builder = builder.build()?.get(url.clone());
        for (name, value) in sigv4::sign(&request, credentials) {
            // What cannot be sent is refused there, and said here.
            if let Ok(mut value) = HeaderValue::from_str(&value) {
                value.set_sensitive(true);
                request_builder = request_builder.header(name, value);
            }
        }
        let response = request_builder.send().await?;
        let status = response.status().as_u16();
        Ok::<_, reqwest::Error>((status, response.text().await?))
    };
    let (status, body) = asked.await.map_err(|error| {
        let why = causes(&error.without_url());
        Fails::new(
            format!("no answer from {endpoint}: {why}"),
            "see that this Pod reaches the endpoint: its name, network policies, proxies; the \
             credentials are good",
        )
    })?;
    verdict(status, &body, endpoint, token, now)
}

/// The endpoint's root.
fn read(endpoint: &str) -> Result<Url, Fails> {
    let url = Url::parse(endpoint).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| {
        Fails::new(
            format!("the endpoint is {endpoint:?}, which is no URL"),
            "give one that begins with https:// or http://, such as http://cwlota.com",
        )
    })
}

/// The `Host` header that is sent for `url`.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// What an answer means.
fn verdict(
    status: u16,
    body: &str,
    endpoint: &str,
    token: &Found,
    now: Timestamp,
) -> Result<Works<()>, Fails> {
    if status == 200 {
        let buckets = body.matches("<Bucket>").count();
        return Ok(Works::new(
            format!("{endpoint} lists {buckets} buckets"),
            (),
        ));
    }
    let code = body
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once('<'));
    let code: String = match code {
        Some((code, _)) => code
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(LONGEST_CODE)
            .collect(),
        None => "no S3 error".to_owned(),
    };
    let principal = &token.principal;
    let remedy = match code.as_str() {
        "AccessDenied" => format!(
            "grant `s3:ListAllMyBuckets` to `{principal}` in an organisation access policy; where the \
             workload lists no buckets it needs its own actions alone"
        ),
        "RequestTimeTooSkewed" | "RequestExpired" => {
            format!("set this node's clock: it says {now:.0}")
        }
        "InvalidAccessKeyId" | "ExpiredToken" | "InvalidToken" => {
            "S3 does not know the key that CoreWeave has minted: see that endpoint and organisation \
             belong together, and whether `config.sessionTokenPlaceholder` is set"
                .to_owned()
        }
        "SignatureDoesNotMatch" | "AuthorizationHeaderMalformed" => {
            "see that the region is the availability zone of the buckets, and that no proxy changes \
             the request"
                .to_owned()
        }
        _ => "see that this is an S3 endpoint of CoreWeave".to_owned(),
    };
    Err(Fails::new(
        format!("{endpoint} answers HTTP {status}: {code}"),
        remedy,
    ))
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn said(status: u16, body: &str) -> Result<Works<()>, Fails> {
        let token = Found {
            text: SecretString::from("canary"),
            principal: "role/i:s".to_owned(),
        };
        verdict(
            status,
            body,
            "http://cwlota.com",
            &token,
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn a_list_of_buckets_is_counted() {
        let body = "<R><Buckets><Bucket><Name>a</Name></Bucket><Bucket></Bucket></Buckets></R>";
        assert_eq!(
            said(200, body).unwrap().said,
            "http://cwlota.com lists 2 buckets"
        );
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        for (code, remedy) in [
            ("AccessDenied", "grant `s3:ListAllMyBuckets` to `role/i:s`"),
            ("RequestTimeTooSkewed", "clock"),
            ("InvalidAccessKeyId", "does not know the key"),
            ("SignatureDoesNotMatch", "region"),
            ("Teapot", "S3 endpoint"),
        ] {
            let fails = said(403, &format!("<Error><Code>{code}</Code></Error>")).unwrap_err();
            assert_eq!(
                fails.said,
                format!("http://cwlota.com answers HTTP 403: {code}")
            );
            assert!(fails.remedy.contains(remedy), "{fails:?}");
        }
        assert!(
            said(502, "<html>")
                .unwrap_err()
                .said
                .ends_with("HTTP 502: no S3 error")
        );
    }

    #[test]
    fn the_host_is_the_one_that_is_sent() {
        for (endpoint, sent) in [
            ("http://cwlota.com", "cwlota.com"),
            ("https://cwobject.com:443", "cwobject.com"),
            ("http://127.0.0.1:9000/", "127.0.0.1:9000"),
            ("http://[::1]:80", "[::1]"),
        ] {
            assert_eq!(host(&read(endpoint).unwrap()), sent);
        }
        assert!(read("cwlota.com").unwrap_err().said.contains("no URL"));
    }
}
