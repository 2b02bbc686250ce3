mod key_sets;
mod noise;
mod refused;
mod times;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, advance, sleep};

use super::signer::{AUDIENCE, ISSUER, NODE, POD_UID, START, Signer, claims, claims_with, key_set};
use super::*;
use crate::metrics::JwksOutcome;
use crate::workload::PodUid;

/// A file with a key set that is replaced as a whole.
struct KeyFile(PathBuf);

impl KeyFile {
    fn absent() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("identity-{}-{number}.json", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn replace(&self, text: &str) {
        let aside = self.0.with_extension("new");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(&aside, &self.0).unwrap();
    }

    fn remove(&self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// A verifier whose keys come from a file, under paused time.
struct Node {
    file: KeyFile,
    clock: Clock,
    metrics: Metrics,
    verifier: Arc<Verifier>,
    keeper: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

fn settings() -> Settings {
    Settings {
        issuer: Some(ISSUER.to_owned()),
        audiences: vec![AUDIENCE.to_owned()],
        node: Some(NODE.to_owned()),
        ..Settings::default()
    }
}

impl Node {
    fn start(file: KeyFile, settings: Settings) -> Self {
        Self::start_at(START, file, settings)
    }

    fn start_at(second: i64, file: KeyFile, settings: Settings) -> Self {
        let clock = Clock::anchored(Timestamp::from_second(second).unwrap());
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        let source = KeySource::File(file.0.clone());
        let verifier = Verifier::new(settings, source, clock.clone(), metrics.clone()).unwrap();
        let verifier = Arc::new(verifier);
        let keeper = {
            let verifier = Arc::clone(&verifier);
            tokio::spawn(async move { verifier.keep_keys(CancellationToken::new()).await })
        };
        Self {
            file,
            clock,
            metrics,
            verifier,
            keeper,
        }
    }

    fn with_keys(signers: &[&Signer], settings: Settings) -> Self {
        let file = KeyFile::absent();
        file.replace(&key_set(signers));
        Self::start(file, settings)
    }

    async fn verify(&self, token: &str) -> Result<Arc<Workload>, Error> {
        self.verifier.verify(Some(token.as_bytes()), None).await
    }

    fn loads(&self, outcome: JwksOutcome) -> u64 {
        self.metrics.jwks_refreshes.of(outcome).get()
    }

    fn tokens(&self, outcome: TokenOutcome) -> u64 {
        self.metrics.tokens_verified.of(outcome).get()
    }
}

fn message(result: Result<Arc<Workload>, Error>) -> (u16, String) {
    let error = result.unwrap_err();
    (error.status(), error.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_token_is_accepted_raw_after_bearer_and_between_blanks() {
    let (rsa, ec) = (Signer::rsa("r"), Signer::ec("e"));
    let node = Node::with_keys(&[&rsa, &ec], settings());
    for signer in [&rsa, &ec] {
        let token = signer.sign(&claims());
        for header in [
            token.clone(),
            format!("Bearer {token}"),
            format!("bEARER \t{token}"),
            format!(" \t{token}\r\n "),
            format!("  BEARER   {token}  "),
        ] {
            let workload = node.verify(&header).await.unwrap();
            assert_eq!(workload.token.expose(), token);
            assert_eq!(
                workload.identity,
                crate::workload::Identity::new(
                    ISSUER,
                    "system:serviceaccount:team:reader",
                    AUDIENCE
                )
            );
            assert_eq!(workload.pod.uid.as_str(), POD_UID);
            assert_eq!(workload.pod.name, "train-0");
            assert_eq!(workload.pod.namespace, "team");
            assert_eq!(workload.pod.service_account, "reader");
            assert_eq!(workload.token_expires_at.as_second(), START + 3600);
        }
    }
    assert_eq!(node.tokens(TokenOutcome::Verified), 2);
    assert_eq!(node.tokens(TokenOutcome::Remembered), 8);
    assert_eq!(node.loads(JwksOutcome::Success), 1);
}

#[tokio::test(start_paused = true)]
async fn a_listener_accepts_its_own_pods_token_alone_also_when_it_is_remembered() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let token = signer.sign(&claims());
    let header = Some(token.as_bytes());
    let (own, other) = (
        Tenants::of(PodUid::new(POD_UID)),
        Tenants::of(PodUid::new("another")),
    );
    for _ in 0..2 {
        node.verifier.verify(header, Some(&own)).await.unwrap();
        let (status, text) = message(node.verifier.verify(header, Some(&other)).await);
        assert_eq!(status, 403);
        assert!(text.contains("Pod team/train-0"), "{text}");
    }
    assert_eq!(node.tokens(TokenOutcome::Verified), 1);
    assert_eq!(node.tokens(TokenOutcome::Remembered), 1);
    assert_eq!(node.tokens(TokenOutcome::Misplaced), 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_the_api_server_does_not_know_just_then_is_compared_by_its_name() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    for (name, status) in [(NODE, None), ("node-b", Some(403))] {
        let token = signer.sign(&claims_with("/kubernetes.io/node", json!({ "name": name })));
        let found = node.verify(&token).await.err().map(|error| error.status());
        assert_eq!(found, status, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_an_old_cluster_without_a_node_claim_is_accepted() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let token = signer.sign(&claims_with("/kubernetes.io/node", Value::Null));
    node.verify(&token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_first_configured_audience_that_a_token_has_names_its_identity() {
    let signer = Signer::ec("e");
    let audiences = vec!["first".to_owned(), "second".to_owned()];
    let node = Node::with_keys(
        &[&signer],
        Settings {
            audiences,
            ..settings()
        },
    );
    for (found, expected) in [
        (json!(["second", "other", "first"]), "first"),
        (json!(["other", "second"]), "second"),
        (json!("second"), "second"),
    ] {
        let token = signer.sign(&claims_with("/aud", found));
        let workload = node.verify(&token).await.unwrap();
        assert_eq!(workload.identity.audience(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_configured_audiences_the_issuer_is_the_one_audience() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(
        &[&signer],
        Settings {
            audiences: Vec::new(),
            ..settings()
        },
    );
    let workload = node
        .verify(&signer.sign(&claims_with("/aud", json!([ISSUER]))))
        .await
        .unwrap();
    assert_eq!(workload.identity.audience(), ISSUER);
    assert_eq!(message(node.verify(&signer.sign(&claims())).await).0, 401);
}

#[test]
fn settings_without_an_issuer_or_with_two_are_refused() {
    let new = |issuer: Option<&str>, source| {
        let settings = Settings {
            issuer: issuer.map(str::to_owned),
            ..Settings::default()
        };
        let metrics = Metrics::new(&prometheus::Registry::new()).unwrap();
        Verifier::new(settings, source, Clock::system(), metrics).map(drop)
    };
    let file = KeySource::File("/keys.json".into());
    let discovery = KeySource::Issuer {
        issuer: ISSUER.to_owned(),
        ca_file: None,
    };
    let no_issuer = SettingsError::NoIssuer("/keys.json".to_owned());
    assert_eq!(new(None, file.clone()), Err(no_issuer));
    assert_eq!(new(Some(ISSUER), file), Ok(()));
    assert_eq!(new(None, discovery.clone()), Ok(()));
    assert_eq!(new(Some(ISSUER), discovery.clone()), Ok(()));
    assert_eq!(
        new(Some("https://cluster.example/id/1/"), discovery),
        Err(SettingsError::OtherIssuer {
            configured: format!("{ISSUER}/"),
            source_issuer: ISSUER.to_owned(),
        })
    );
}
