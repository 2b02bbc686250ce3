//! The AWS SDK for Rust as a Pod would use it: its default credential chain, and one GET signed with its signer
//! (see ../../README.md). The S3 client itself takes minutes to compile and adds nothing to what is under test.

use std::env;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningParams,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use serde_json::json;
use tokio::time::Instant;

/// How long one S3 request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let start = Instant::now();
    let mut outcome = Outcome::default();
    let error = measure(start, &mut outcome).await.err();
    let mut line = json!({
        "client": "aws-sdk-rust",
        "version": locked_version("aws-config"),
        "ok": error.is_none(),
        "calls": outcome.calls,
        "bytes": outcome.bytes,
        "first_ms": outcome.first_ms,
        "elapsed_ms": milliseconds_since(start),
    });
    if let (Some(error), Some(fields)) = (&error, line.as_object_mut()) {
        fields.insert("error".to_owned(), format!("{error:#}").into());
    }
    let printed = writeln!(std::io::stdout(), "{line}");
    if error.is_none() && printed.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What the calls made so far brought.
#[derive(Default)]
struct Outcome {
    calls: u32,
    bytes: usize,
    first_ms: f64,
}

/// Asks the default chain for credentials once, as the SDK's own cache does, and makes `CLIENT_CALLS` signed calls.
async fn measure(start: Instant, outcome: &mut Outcome) -> Result<()> {
    let calls: u32 = env::var("CLIENT_CALLS")
        .map_or(Ok(1), |text| text.parse())
        .context("read CLIENT_CALLS")?;
    let url = object_url(
        &variable("AWS_ENDPOINT_URL_S3")?,
        &variable("S3_BUCKET")?,
        &variable("S3_KEY")?,
        env::var("S3_ADDRESSING").is_ok_and(|style| style == "virtual"),
    )?;
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let credentials = config
        .credentials_provider()
        .context("the default chain has no provider")?
        .provide_credentials()
        .await
        .context("ask the default chain for credentials")?;
    let http = reqwest::Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .no_proxy()
        .build()?;
    for _ in 0..calls {
        outcome.bytes = get(&http, &config, credentials.clone(), &url).await?;
        outcome.calls += 1;
        if outcome.calls == 1 {
            outcome.first_ms = milliseconds_since(start);
        }
    }
    Ok(())
}

/// Reads the object at `url` with a signed request and returns its size in bytes.
async fn get(
    http: &reqwest::Client,
    config: &SdkConfig,
    credentials: Credentials,
    url: &str,
) -> Result<usize> {
    let region = config.region().context("set AWS_REGION")?;
    let now = config
        .time_source()
        .context("the default chain has no clock")?
        .now();
    let mut request = http.get(url);
    for (name, value) in signed_headers(credentials, region.as_ref(), now, url)? {
        request = request.header(name, value);
    }
    let answer = request.send().await?;
    let status = answer.status();
    let body = answer.bytes().await?;
    ensure!(
        status.is_success(),
        "S3 answered {status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(body.len())
}

/// The headers that sign a GET of `url` as S3 wants it: the path encoded once and kept as it is, the body's hash
/// as a header.
fn signed_headers(
    credentials: Credentials,
    region: &str,
    now: SystemTime,
    url: &str,
) -> Result<Vec<(String, String)>> {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let identity = credentials.into();
    let params: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("s3")
        .time(now)
        .settings(settings)
        .build()
        .context("complete the signing parameters")?
        .into();
    let request = SignableRequest::new("GET", url, std::iter::empty(), SignableBody::Bytes(&[]))?;
    let (instructions, _signature) = sign(request, &params)
        .context("sign the S3 request")?
        .into_parts();
    Ok(instructions
        .headers()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// Where an object is, with the bucket in the path or in front of the host.
fn object_url(endpoint: &str, bucket: &str, key: &str, virtual_hosts: bool) -> Result<String> {
    let endpoint = endpoint.trim_end_matches('/');
    let Some((scheme, authority)) = endpoint.split_once("://") else {
        bail!(
            "AWS_ENDPOINT_URL_S3 is {endpoint}: write it with its scheme, such as http://10.0.0.1:9000"
        );
    };
    Ok(if virtual_hosts {
        format!("{scheme}://{bucket}.{authority}/{key}")
    } else {
        format!("{scheme}://{authority}/{bucket}/{key}")
    })
}

/// The version of a package in the workspace's lock file: the SDK keeps its own to itself.
fn locked_version(package: &str) -> &'static str {
    include_str!("../../../../Cargo.lock")
        .split("\n\n")
        .find(|entry| entry.contains(&format!("name = \"{package}\"\n")))
        .and_then(|entry| entry.split_once("version = \"")?.1.split_once('"'))
        .map_or("unknown", |(version, _)| version)
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("read {name}"))
}

fn milliseconds_since(start: Instant) -> f64 {
    (start.elapsed().as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_in_the_path_or_in_front_of_the_host() {
        let path = object_url("http://10.0.0.1:9000/", "models", "a/b", false).unwrap();
        let host = object_url("http://s3.test:9000", "models", "a/b", true).unwrap();
        assert_eq!(path, "http://10.0.0.1:9000/models/a/b");
        assert_eq!(host, "http://models.s3.test:9000/a/b");
        assert!(object_url("10.0.0.1:9000", "models", "a", false).is_err());
    }

    #[test]
    fn the_version_reported_is_the_one_in_the_lock_file() {
        assert!(locked_version("aws-config").starts_with("1."));
        assert_eq!(locked_version("no-such-package"), "unknown");
    }

    #[test]
    fn a_request_is_signed_for_s3_with_the_hash_of_its_body() {
        let credentials =
            Credentials::new("AKID", "secret", Some("session".to_owned()), None, "test");
        let headers = signed_headers(
            credentials,
            "eu",
            SystemTime::UNIX_EPOCH,
            "http://s3.test/b/k",
        )
        .unwrap();
        let value = |wanted: &str| {
            headers
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.as_str())
        };
        assert!(
            value("authorization")
                .unwrap()
                .contains("Credential=AKID/19700101/eu/s3/aws4_request")
        );
        assert_eq!(value("x-amz-security-token"), Some("session"));
        assert!(value("x-amz-content-sha256").is_some());
    }
}
