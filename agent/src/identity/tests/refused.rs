//! Tokens that are refused, and what their Pods are told.

use super::*;

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
