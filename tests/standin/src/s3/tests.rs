use std::{fmt::Write as _, time::Duration};

use aws_lc_rs::{digest, hmac};

use crate::{Addressing, Options, Standin, clock, keys::Key};

const PRINCIPAL: &str = "role/https://issuer.test:system:serviceaccount:ns:sa";
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn sign(key: &[u8], message: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
}

async fn start(name: &str) -> Standin {
    let root = std::env::temp_dir().join(format!("standin-{}-s3-{name}", std::process::id()));
    Standin::start(Options::local(root)).await.unwrap()
}

/// Sends a bodiless request signed with version 4; returns the status and the error code.
async fn send(
    standin: &Standin,
    key: &Key,
    method: reqwest::Method,
    path: &str,
    session_token: Option<&str>,
) -> (u16, Option<String>) {
    let host = standin.addr(crate::Part::S3).to_string();
    let time = clock::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let scope = format!("{}/us-east-04a/s3/aws4_request", &time[..8]);
    let mut headers = vec![
        ("host", host.as_str()),
        ("x-amz-content-sha256", EMPTY_SHA256),
        ("x-amz-date", &time),
    ];
    headers.extend(session_token.map(|token| ("x-amz-security-token", token)));
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut canonical = format!("{method}\n{path}\n\n");
    for (name, value) in &headers {
        writeln!(canonical, "{name}:{value}").unwrap();
    }
    write!(canonical, "\n{names}\n{EMPTY_SHA256}").unwrap();
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let secret = format!("AWS4{}", key.secret).into_bytes();
    let signing = scope.split('/').fold(secret, |key, part| sign(&key, part));
    let signature = hex(&sign(
        &signing,
        &format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}"),
    ));
    let mut request = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .request(method, format!("http://{host}{path}"))
        .header(
            "authorization",
            format!(
                "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
                key.id
            ),
        );
    for (name, value) in headers.iter().skip(1) {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let seen = standin.s3_requests().pop().unwrap();
    assert_eq!((seen.status, seen.addressing), (status, Addressing::Path));
    assert_eq!(seen.access_key_id.as_deref(), Some(key.id.as_str()));
    (status, seen.error)
}

const HOUR: Option<Duration> = Some(Duration::from_hours(1));

#[tokio::test]
async fn a_signed_request_needs_a_grant_of_its_action() {
    let standin = start("grant").await;
    let key = standin.mint_for_test(PRINCIPAL, HOUR, false);
    let denied = send(&standin, &key, reqwest::Method::GET, "/", None).await;
    assert_eq!(denied, (403, Some("AccessDenied".into())));
    standin.grant(PRINCIPAL, &["s3:ListAllMyBuckets"]);
    let listed = send(&standin, &key, reqwest::Method::GET, "/", None).await;
    assert_eq!(listed, (200, None));
    let put = send(&standin, &key, reqwest::Method::PUT, "/bucket", None).await;
    assert_eq!(put, (403, Some("AccessDenied".into())));
    let seen = standin.s3_requests().pop().unwrap();
    assert_eq!(seen.principal.as_deref(), Some(PRINCIPAL));
}

#[tokio::test]
async fn wrong_secrets_and_expired_keys_are_refused() {
    let standin = start("refuse").await;
    standin.grant(PRINCIPAL, &["s3:*"]);
    let mut key = standin.mint_for_test(PRINCIPAL, HOUR, false);
    key.secret.push('x');
    let (status, error) = send(&standin, &key, reqwest::Method::GET, "/", None).await;
    assert_eq!((status, error), (403, Some("SignatureDoesNotMatch".into())));
    let key = standin.mint_for_test(PRINCIPAL, None, false);
    let (_, error) = send(&standin, &key, reqwest::Method::GET, "/", None).await;
    assert_eq!(error.as_deref(), Some("ExpiredToken"));
}

#[tokio::test]
async fn session_tokens_must_fit_the_key_and_an_empty_one_counts_as_none() {
    let standin = start("session").await;
    standin.grant(PRINCIPAL, &["s3:*"]);
    let plain = standin.mint_for_test(PRINCIPAL, HOUR, false);
    let get = reqwest::Method::GET;
    let (status, _) = send(&standin, &plain, get.clone(), "/", Some("")).await;
    assert_eq!(status, 200);
    let seen = standin.s3_requests().pop().unwrap();
    assert_eq!(seen.security_token, Some(false));
    let key = standin.mint_for_test(PRINCIPAL, HOUR, true);
    let (_, error) = send(&standin, &key, get.clone(), "/", None).await;
    assert_eq!(error.as_deref(), Some("InvalidToken"));
    let token = key.session_token.clone();
    let (status, _) = send(&standin, &key, get, "/", token.as_deref()).await;
    assert_eq!(status, 200);
}
