use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{CutPoint, Endpoint, ExpiryForm, Flaw, Malformation};

struct Bench {
    standin: Standin,
    client: reqwest::Client,
}

impl Bench {
    async fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("standin-{}-{name}", std::process::id()));
        let standin = Standin::start(Options::local(root)).await.unwrap();
        standin.grant("*", &["cwobject:CreateAccessKeyOIDC"]);
        let client = client(&standin);
        Self { standin, client }
    }

    async fn try_post(&self, token: &str, seconds: i64) -> reqwest::Result<(u16, Value)> {
        let response = self
            .client
            .post(format!(
                "{}/v1/cwobject/temporary-credentials/oidc",
                self.standin.api_url()
            ))
            .json(&json!({"durationSeconds": seconds, "orgId": "org-test", "oidcToken": token}))
            .send()
            .await?;
        Ok((
            response.status().as_u16(),
            response.json().await.unwrap_or_default(),
        ))
    }

    async fn post(&self, token: &str) -> (u16, Value) {
        self.try_post(token, 3600).await.unwrap()
    }

    async fn get(&self, org: &str, token: &str) -> (u16, Value) {
        let url = format!(
            "{}/v1/cwobject/temporary-credentials/oidc/{org}",
            self.standin.api_url()
        );
        let request = self.client.get(url).header("authorization", token);
        let response = request.send().await.unwrap();
        (
            response.status().as_u16(),
            response.json().await.unwrap_or_default(),
        )
    }

    fn token(&self) -> String {
        self.standin.token(&TokenSpec::new("ns", "sa")).unwrap()
    }
}

fn client(standin: &Standin) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(standin.ca_pem().as_bytes()).unwrap();
    reqwest::Client::builder()
        .tls_certs_only([ca])
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

#[tokio::test]
async fn both_endpoints_mint_keys_and_calls_are_counted() {
    let bench = Bench::new("mint").await;
    let token = bench.token();
    let (status, body) = bench.post(&token).await;
    assert_eq!(status, 200);
    assert_eq!(
        body["principalName"],
        bench.standin.principal("ns", "sa").as_str()
    );
    let (status, body) = bench.get("org-test", &token).await;
    assert_eq!((status, &body["Token"]), (200, &json!("")));
    let calls = bench.standin.calls();
    assert_eq!(calls.exchanges_of("system:serviceaccount:ns:sa"), 2);
    assert_eq!(calls.count(Endpoint::Post), 1);
}

#[tokio::test]
async fn bad_exchanges_are_refused_with_the_code_that_fits() {
    let bench = Bench::new("refuse").await;
    let token = bench.token();
    let (status, body) = bench.try_post(&token, 43_201).await.unwrap();
    assert_eq!((status, &body["code"]), (400, &json!(3)));
    assert_eq!(bench.get("other", &token).await.0, 403);
    for flaw in [Flaw::WrongAudience, Flaw::WrongIssuer, Flaw::Expired] {
        let spec = TokenSpec::new("ns", "sa").flaw(flaw);
        let (status, body) = bench.post(&bench.standin.token(&spec).unwrap()).await;
        assert_eq!((status, &body["code"]), (401, &json!(16)), "{flaw:?}");
    }
    bench.standin.revoke("*");
    assert_eq!(bench.post(&token).await.0, 403);
}

#[tokio::test]
async fn behaviours_apply_for_as_many_calls_as_asked() {
    let bench = Bench::new("behave").await;
    let token = bench.token();
    let all = Scope::default;
    let next = |behaviour| bench.standin.behave_next(1, all(), behaviour);
    next(Behaviour::Status {
        status: 503,
        body: None,
        retry_after: Some(7),
    });
    assert_eq!(bench.post(&token).await.0, 503);
    next(Behaviour::RefusePost(405));
    assert_eq!(bench.post(&token).await.0, 405);
    for point in [CutPoint::AfterReading, CutPoint::AfterMinting] {
        next(Behaviour::Cut(point));
        assert!(bench.try_post(&token, 60).await.is_err());
    }
    next(Behaviour::Malformed(Malformation::Truncated));
    assert_eq!(bench.post(&token).await, (200, Value::Null));
    next(Behaviour::Expiry(ExpiryForm::Offset));
    let (_, body) = bench.post(&token).await;
    assert!(body["expiry"].as_str().unwrap().ends_with("+02:00"));
    let (status, body) = bench.post(&token).await;
    assert_eq!(status, 200);
    assert!(body["expiry"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn a_stopped_api_refuses_connections_and_comes_back_on_its_port() {
    let bench = Bench::new("stop").await;
    let token = bench.token();
    bench.standin.stop(Part::Api).await;
    assert!(
        bench
            .try_post(&token, 60)
            .await
            .is_err_and(|error| error.is_connect())
    );
    bench.standin.start_again(Part::Api).await.unwrap();
    assert_eq!(bench.post(&token).await.0, 200);
    bench.standin.set_tls(TlsMode::OtherCertificate);
    let stranger = Bench {
        standin: bench.standin.clone(),
        client: client(&bench.standin),
    };
    assert!(stranger.try_post(&token, 60).await.is_err());
}

#[tokio::test]
async fn tokens_verify_with_the_served_keys() {
    let bench = Bench::new("jwks").await;
    let url = format!(
        "{}/.well-known/openid-configuration",
        bench.standin.issuer_url()
    );
    let discovery: Value = bench
        .client
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let jwks_uri = discovery["jwks_uri"].as_str().unwrap();
    let jwks: jsonwebtoken::jwk::JwkSet = bench
        .client
        .get(jwks_uri)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let token = bench.token();
    let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(jwks.find(&kid).unwrap()).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    rules.set_audience(&[bench.standin.issuer_url()]);
    assert!(jsonwebtoken::decode::<Value>(&token, &key, &rules).is_ok());
}

#[tokio::test]
async fn anonymous_s3_requests_are_denied_and_recorded_as_unsigned() {
    let bench = Bench::new("anonymous").await;
    let response = bench
        .client
        .get(format!("{}/bucket/key", bench.standin.s3_url()))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 403);
    let requests = bench.standin.s3_requests();
    assert_eq!(requests.len(), 1);
    assert!(!requests[0].signed);
    assert_eq!(requests[0].error.as_deref(), Some("AccessDenied"));
}
