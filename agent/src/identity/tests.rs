use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
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

/// A name, what is sent, the status, and what the message must say.
type Case = (&'static str, String, u16, &'static str);

/// Sends each, and compares the answers and what was counted. No message may show the token.
async fn assert_refused(node: &Node, cases: &[Case]) {
    let rejected = node.tokens(TokenOutcome::Rejected);
    let misplaced = node.tokens(TokenOutcome::Misplaced);
    for (name, token, status, part) in cases {
        let (found, text) = message(node.verify(token).await);
        assert_eq!(found, *status, "{name}: {text}");
        assert!(text.contains(part), "{name}: {text}");
        let signature = token.rsplit('.').next().unwrap();
        assert!(signature.len() < 20 || !text.contains(signature), "{name}");
    }
    let forbidden = cases.iter().filter(|case| case.2 == 403).count() as u64;
    let others = cases.len() as u64 - forbidden;
    assert_eq!(node.tokens(TokenOutcome::Rejected), rejected + others);
    assert_eq!(node.tokens(TokenOutcome::Misplaced), misplaced + forbidden);
    assert_eq!(node.tokens(TokenOutcome::Verified), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_a_token_is_refused_with_a_message_that_helps() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let good = signer.sign(&claims());
    let payload = good.split('.').nth(1).unwrap();
    // {"alg":"none"}
    let unsigned = format!("eyJhbGciOiJub25lIn0.{payload}.");
    let no_token = "not a signed JSON Web Token";
    let too_long = "at most 16384 are read";
    let cases = [
        ("empty", String::new(), 401, "holds no token"),
        ("blanks", " \t ".into(), 401, "holds no token"),
        ("a scheme alone", "Bearer ".into(), 401, "holds no token"),
        ("garbage", "garbage".into(), 401, no_token),
        ("three parts", "a.b.c".into(), 401, no_token),
        ("another scheme", format!("Basic {good}"), 401, no_token),
        ("alg none", unsigned, 401, no_token),
        ("too long", "x".repeat(MAX_TOKEN_BYTES + 1), 400, too_long),
        ("a million bytes", "x".repeat(1_000_000), 400, too_long),
    ];
    assert_refused(&node, &cases).await;
    let (status, text) = message(node.verifier.verify(None, None).await);
    assert_eq!(status, 401);
    assert!(text.contains("holds no token"), "{text}");
    let (status, text) = message(node.verifier.verify(Some(b"\xff.a.b"), None).await);
    assert_eq!(status, 400);
    assert!(text.contains("not UTF-8"), "{text}");
    node.verify(&good).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_signature_that_no_key_of_the_issuer_made_is_refused() {
    let (signer, other) = (Signer::rsa("r"), Signer::ec("e"));
    let node = Node::with_keys(&[&signer, &other], settings());
    let good = signer.sign(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let sibling = signer.sign(&claims_with("/jti", json!("c2")));
    let strange = format!("{message}.{}", sibling.rsplit_once('.').unwrap().1);
    let with = |change: fn(&mut Header)| {
        let mut header = signer.header();
        change(&mut header);
        header
    };
    let rs512 = with(|header| header.alg = Algorithm::RS512);
    let hs256 = with(|header| header.alg = Algorithm::HS256);
    let no_kid = with(|header| header.kid = None);
    let critical = with(|header| header.crit = Some(vec!["b64".to_owned()]));
    let public_key = signer.jwk()["n"].as_str().unwrap().to_owned();
    let secret = EncodingKey::from_secret(public_key.as_bytes());
    let symmetric = jsonwebtoken::encode(&hs256, &claims(), &secret).unwrap();
    let (rs512, no_kid, critical) = (
        signer.sign_as(&rs512, &claims()),
        signer.sign_as(&no_kid, &claims()),
        signer.sign_as(&critical, &claims()),
    );
    let unknown = "key \"x\", which is not a key of the issuer";
    let not_of_r = "signature is not one of the issuer's key \"r\"";
    let not_of_e = "signature is not one of the issuer's key \"e\"";
    let cut = format!("{message}.{}", &signature[..100]);
    let cases = [
        (
            "HS256 with the public key",
            symmetric,
            401,
            "with HS256; only RS256 and ES256",
        ),
        ("an algorithm that is not pinned", rs512, 401, "with RS512"),
        (
            "another key under the id",
            Signer::ec("e").sign(&claims()),
            401,
            not_of_e,
        ),
        (
            "another kind of key under the id",
            Signer::ec("r").sign(&claims()),
            401,
            not_of_r,
        ),
        (
            "an unknown key",
            Signer::ec("x").sign(&claims()),
            401,
            unknown,
        ),
        ("another token's signature", strange, 401, not_of_r),
        ("a cut signature", cut, 401, not_of_r),
        ("no signature", format!("{message}."), 401, not_of_r),
        ("no key", no_kid, 401, "(kid)"),
        ("critical extensions", critical, 401, "critical extensions"),
    ];
    assert_refused(&node, &cases).await;
    node.verify(&good).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn issuer_and_audience_that_do_not_fit_are_shown_with_those_that_would() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let with = |path: &str, value: Value| signer.sign(&claims_with(path, value));
    let cases = [
        (
            "another issuer",
            with("/iss", json!("https://other.example\n")),
            401,
            r#"issuer is "https://other.example\n", but this node accepts tokens of "https://cluster.example/id/1""#,
        ),
        (
            "a slash too many",
            with("/iss", json!(format!("{ISSUER}/"))),
            401,
            "issuer is",
        ),
        (
            "a long issuer",
            with("/iss", json!("x".repeat(5000))),
            401,
            "xxx…\", but",
        ),
        (
            "other audiences",
            with("/aud", json!(["a", "b"])),
            401,
            r#"audience is "a, b", but this node accepts "caios""#,
        ),
        (
            "a part of the audience",
            with("/aud", json!("caio")),
            401,
            "audience is \"caio\"",
        ),
        (
            "no audience in the list",
            with("/aud", json!([])),
            401,
            "audience is \"\"",
        ),
        (
            "another ServiceAccount's subject",
            with("/sub", json!("system:serviceaccount:team:admin")),
            401,
            r#"subject is "system:serviceaccount:team:admin", but it names the ServiceAccount "reader""#,
        ),
    ];
    assert_refused(&node, &cases).await;
}

#[tokio::test(start_paused = true)]
async fn times_are_integers_and_are_compared_with_this_nodes_clock() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let with = |path: &str, value: Value| signer.sign(&claims_with(path, value));
    let both_times =
        "expired at 2027-01-15T07:59:59Z, and this node's clock says 2027-01-15T08:00:00Z";
    let cases = [
        ("expired", with("/exp", json!(START - 1)), 401, both_times),
        ("expires now", with("/exp", json!(START)), 401, "expired at"),
        (
            "not yet valid",
            with("/nbf", json!(START + 61)),
            401,
            "not valid before",
        ),
        (
            "string exp",
            with("/exp", json!("1900000000")),
            401,
            "string",
        ),
        ("string nbf", with("/nbf", json!("0")), 401, "string"),
        (
            "a fraction",
            with("/exp", json!(1_900_000_000.5)),
            401,
            "floating point",
        ),
        ("huge", with("/exp", json!(1e300)), 401, "floating point"),
        (
            "beyond all time",
            with("/exp", json!(i64::MAX)),
            401,
            "outside all time",
        ),
        (
            "before all time",
            with("/nbf", json!(i64::MIN)),
            401,
            "outside all time",
        ),
    ];
    assert_refused(&node, &cases).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_without_a_claim_that_is_needed_is_refused() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let without = |path: &str| signer.sign(&claims_with(path, Value::Null));
    let elsewhere = signer.sign(&claims_with("/kubernetes.io/node/name", json!("node-b")));
    let nodes = r#"Pod team/train-0 is bound to node "node-b"; this is node "node-a""#;
    let cases = [
        ("no exp", without("/exp"), 401, "missing field `exp`"),
        ("no nbf", without("/nbf"), 401, "missing field `nbf`"),
        ("no iss", without("/iss"), 401, "missing field `iss`"),
        ("no aud", without("/aud"), 401, "missing field `aud`"),
        ("no sub", without("/sub"), 401, "missing field `sub`"),
        (
            "no Pod uid",
            without("/kubernetes.io/pod/uid"),
            401,
            "missing field `uid`",
        ),
        (
            "no kubernetes.io claim",
            without("/kubernetes.io"),
            403,
            "not bound to a Pod",
        ),
        (
            "no Pod claim",
            without("/kubernetes.io/pod"),
            403,
            "not bound to a Pod",
        ),
        ("a Pod on another node", elsewhere, 403, nodes),
    ];
    assert_refused(&node, &cases).await;
    // Again, when the good token of the wrong node is remembered.
    assert_refused(&node, &cases).await;
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

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_at_its_first_token_and_a_withdrawn_one_ends_its_tokens() {
    let (old, new) = (Signer::ec("old"), Signer::ec("new"));
    let node = Node::with_keys(&[&old], settings());
    let of_old = old.sign(&claims());
    node.verify(&of_old).await.unwrap();

    advance(Duration::from_secs(11)).await;
    node.file.replace(&key_set(&[&old, &new]));
    node.verify(&new.sign(&claims())).await.unwrap();
    node.verify(&of_old).await.unwrap();
    assert_eq!(node.loads(JwksOutcome::Success), 2);

    // A periodic load finds the old key gone.
    node.file.replace(&key_set(&[&new]));
    sleep(Duration::from_mins(6)).await;
    assert_eq!(node.loads(JwksOutcome::Success), 3);
    let (status, text) = message(node.verify(&of_old).await);
    assert_eq!(status, 401, "{text}");

    // The next one is found gone by the token of its successor, and at once.
    let of_new = new.sign(&claims());
    node.verify(&of_new).await.unwrap();
    advance(Duration::from_secs(11)).await;
    let newest = Signer::ec("newest");
    node.file.replace(&key_set(&[&newest]));
    node.verify(&newest.sign(&claims())).await.unwrap();
    assert_eq!(message(node.verify(&of_new).await).0, 401);
}

#[tokio::test(start_paused = true)]
async fn loads_that_change_nothing_leave_tokens_remembered() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let token = signer.sign(&claims());
    node.verify(&token).await.unwrap();
    sleep(Duration::from_mins(30)).await;
    assert!(node.loads(JwksOutcome::Success) > 4);
    node.verify(&token).await.unwrap();
    assert_eq!(node.tokens(TokenOutcome::Verified), 1);
    assert_eq!(node.tokens(TokenOutcome::Remembered), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_costs_one_load_in_ten_seconds() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    node.verify(&signer.sign(&claims())).await.unwrap();
    advance(Duration::from_mins(1)).await;

    let started = Instant::now();
    for _ in 0..2 {
        let mut flood = JoinSet::new();
        for number in 0..500 {
            let mut stray = signer.clone();
            stray.id = format!("stray-{number}");
            let (token, verifier) = (stray.sign(&claims()), Arc::clone(&node.verifier));
            flood.spawn(async move { verifier.verify(Some(token.as_bytes()), None).await });
        }
        for result in flood.join_all().await {
            assert_eq!(message(result).0, 401);
        }
    }
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(node.loads(JwksOutcome::Success), 2);
    assert_eq!(node.tokens(TokenOutcome::Rejected), 1000);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(
        node.loads(JwksOutcome::Success),
        2,
        "a wish was left behind"
    );
}

#[tokio::test(start_paused = true)]
async fn tokens_that_would_be_refused_anyway_make_no_load() {
    let (signer, stray) = (Signer::ec("e"), Signer::ec("stray"));
    let node = Node::with_keys(&[&signer], settings());
    node.verify(&signer.sign(&claims())).await.unwrap();
    advance(Duration::from_mins(1)).await;
    for claims in [
        claims_with("/iss", json!("https://other.example")),
        claims_with("/aud", json!("other")),
        claims_with("/exp", json!(START - 1)),
    ] {
        assert_eq!(message(node.verify(&stray.sign(&claims)).await).0, 401);
    }
    assert_eq!(node.loads(JwksOutcome::Success), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_hangs_up_does_not_cancel_the_load_it_asked_for() {
    let (old, new) = (Signer::ec("old"), Signer::ec("new"));
    let node = Node::with_keys(&[&old], settings());
    node.verify(&old.sign(&claims())).await.unwrap();
    // The next load may start in one second: the caller is gone by then.
    advance(Duration::from_secs(9)).await;
    node.file.replace(&key_set(&[&old, &new]));
    let token = new.sign(&claims());
    let hasty = node.verify(&token);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), hasty)
            .await
            .is_err()
    );
    sleep(Duration::from_secs(2)).await;
    assert_eq!(node.loads(JwksOutcome::Success), 2);
    node.verify(&token).await.unwrap();
    assert_eq!(node.loads(JwksOutcome::Success), 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_outlive_a_source_that_is_gone_or_talks_nonsense() {
    let (signer, stray) = (Signer::ec("e"), Signer::ec("stray"));
    let node = Node::with_keys(&[&signer], settings());
    node.verify(&signer.sign(&claims())).await.unwrap();
    for text in [None, Some("nonsense"), Some("{\"keys\":[]}"), Some("{}")] {
        match text {
            Some(text) => node.file.replace(text),
            None => node.file.remove(),
        }
        let failures = node.loads(JwksOutcome::Failure);
        sleep(Duration::from_hours(24)).await;
        assert!(node.loads(JwksOutcome::Failure) > failures + 200);
        assert!(node.verifier.has_keys());
        let now = node.clock.now().as_second();
        let fresh = claims_with("/exp", json!(now + 3600));
        node.verify(&signer.sign(&fresh)).await.unwrap();
        // Whether a new key is good cannot be told now: not the workload's fault.
        let (status, text) = message(node.verify(&stray.sign(&fresh)).await);
        assert_eq!(status, 503, "{text}");
    }
    assert_eq!(node.tokens(TokenOutcome::Unchecked), 4);
    assert_eq!(node.loads(JwksOutcome::Success), 1);
}

#[tokio::test(start_paused = true)]
async fn without_keys_callers_wait_two_seconds_and_are_told_why() {
    let signer = Signer::ec("e");
    let node = Node::start(KeyFile::absent(), settings());
    let token = signer.sign(&claims());
    let started = Instant::now();
    let error = node.verify(&token).await.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 2);
    let Error::Unavailable {
        reason,
        retry_after,
    } = error
    else {
        panic!("{error:?}")
    };
    assert!(
        reason.contains("not loaded yet: reading ") && reason.contains("No such file"),
        "{reason}"
    );
    assert_eq!(retry_after, Duration::from_secs(2));
    assert!(!node.verifier.has_keys());

    // The back-off stays below a few seconds, so that a late source is found soon.
    sleep(Duration::from_mins(10)).await;
    node.file.replace(&key_set(&[&signer]));
    sleep(Duration::from_secs(6)).await;
    assert!(node.verifier.has_keys());
    node.verify(&token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_the_first_keys_is_answered_when_they_come() {
    let signer = Signer::ec("e");
    let node = Node::start(KeyFile::absent(), settings());
    let token = signer.sign(&claims());
    let (answer, ()) = tokio::join!(node.verify(&token), async {
        sleep(Duration::from_millis(300)).await;
        node.file.replace(&key_set(&[&signer]));
    });
    answer.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forth_refuses_tokens_while_it_is_wrong_and_no_longer() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let token = signer.sign(&claims());
    node.verify(&token).await.unwrap();
    node.clock.step(SignedDuration::from_hours(1));
    let (status, text) = message(node.verify(&token).await);
    assert_eq!(status, 401);
    assert!(text.contains("expired at"), "{text}");
    node.clock.step(SignedDuration::from_hours(-1));
    node.verify(&token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_wrong_from_the_start_refuses_tokens_until_it_is_set() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let token = signer.sign(&claims_with("/nbf", json!(START + 3600)));
    let token = &token;
    let (status, text) = message(node.verify(token).await);
    assert_eq!(status, 401);
    assert!(text.contains("not valid before"), "{text}");
    node.clock.step(SignedDuration::from_mins(59));
    node.verify(token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_takes_nothing_from_a_pod() {
    let (signer, next) = (Signer::ec("e"), Signer::ec("next"));
    let node = Node::with_keys(&[&signer], settings());
    let token = signer.sign(&claims());
    node.verify(&token).await.unwrap();
    node.clock.step(SignedDuration::from_hours(-1));
    sleep(SWEEP_INTERVAL * 2).await;
    node.verify(&token).await.unwrap();
    assert_eq!(node.tokens(TokenOutcome::Remembered), 1);
    // Nor by a new token of the API server, whose clock is right, and when all are verified again.
    let new = claims_with("/nbf", json!(START + 120));
    node.verify(&signer.sign(&new)).await.unwrap();
    node.file.replace(&key_set(&[&signer, &next]));
    sleep(Duration::from_mins(10)).await;
    assert_eq!(node.loads(JwksOutcome::Success), 3);
    node.verify(&token).await.unwrap();
    assert_eq!(node.tokens(TokenOutcome::Remembered), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_takes_nothing_from_the_next_agent() {
    let signer = Signer::ec("e");
    let (file, token) = (KeyFile::absent(), signer.sign(&claims()));
    file.replace(&key_set(&[&signer]));
    let next = Node::start_at(START - 3600, file, settings());
    assert_eq!(message(next.verify(&token).await).0, 401);
    let before = Timestamp::from_second(START).unwrap();
    next.verifier.restore_furthest(before);
    next.verify(&token).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_is_slow_accepts_a_new_token_within_the_leeway() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let from = |second: i64| signer.sign(&claims_with("/nbf", json!(second)));
    node.verify(&from(START + 60)).await.unwrap();
    assert_eq!(message(node.verify(&from(START + 61)).await).0, 401);
}

#[tokio::test(start_paused = true)]
async fn a_remembered_token_is_refused_from_the_second_it_expires_and_then_forgotten() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(&[&signer], settings());
    let token = signer.sign(&claims());
    node.verify(&token).await.unwrap();
    advance(Duration::from_secs(3599)).await;
    node.verify(&token).await.unwrap();
    assert_eq!(node.tokens(TokenOutcome::Remembered), 1);
    advance(Duration::from_secs(1)).await;
    assert_eq!(message(node.verify(&token).await).0, 401);
    sleep(SWEEP_INTERVAL * 2).await;
    assert_eq!(node.verifier.memo.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_memory_of_tokens_is_bounded() {
    let signer = Signer::ec("e");
    let node = Node::with_keys(
        &[&signer],
        Settings {
            memo_capacity: 8,
            ..settings()
        },
    );
    for number in 0..100 {
        let token = signer.sign(&claims_with("/jti", json!(number)));
        node.verify(&token).await.unwrap();
    }
    assert!(node.verifier.memo.len() <= 8);
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

/// Bytes that get further than pure noise does: dots, base64 and schemes are frequent.
fn headers() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Vec<u8>>(),
        "(Bearer |bearer\t| )?[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,4}"
            .prop_map(String::into_bytes),
        // {"alg":"RS256","kid":"e"} before anything
        "eyJhbGciOiJSUzI1NiIsImtpZCI6ImUifQ\\.[A-Za-z0-9_-]{0,80}\\.[A-Za-z0-9_-]{0,80}"
            .prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn no_header_makes_it_panic_and_none_is_accepted_by_chance(header in headers()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let node = Node::with_keys(&[&Signer::ec("e")], settings());
            let status = message(node.verifier.verify(Some(&header), None).await).0;
            prop_assert!(matches!(status, 400 | 401), "{status}");
            Ok(())
        })?;
    }

    #[test]
    fn no_key_set_makes_it_panic(text in any::<Vec<u8>>(), n in "[A-Za-z0-9_-]{0,30}") {
        drop(keys::Key::read_set(&text));
        let set = json!({ "keys": [
            { "kty": "RSA", "kid": "a", "n": n, "e": n },
            { "kty": "EC", "crv": "P-256", "kid": "b", "x": n, "y": n },
        ] });
        prop_assert!(keys::Key::read_set(set.to_string().as_bytes()).unwrap().is_empty());
    }
}
