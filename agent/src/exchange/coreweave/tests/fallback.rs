//! POST, and GET where POST is refused.

use super::*;

#[tokio::test]
async fn where_post_is_refused_get_is_asked_with_the_raw_token() {
    for status in [403, 404, 405, 501] {
        let (server, exchange) = scripted([
            error(status, "no"),
            answer(200, "", GET_200),
            answer(200, "", GET_200),
        ])
        .await;
        assert_eq!(run(&exchange).await.unwrap().body(), RENDERED);
        assert_eq!(exchange.metrics.short_lived_identities.get(), 1);
        run(&exchange).await.unwrap();
        assert_eq!(methods(&server), ["POST", "GET", "GET"], "after {status}");
        let get = &server.requests()[1];
        let line = "GET /v1/cwobject/temporary-credentials/oidc/org-1 HTTP/1.1\r\n";
        assert!(get.starts_with(line), "{get}");
        assert!(
            get.contains(&format!("authorization: {TOKEN}\r\n")),
            "{get}"
        );
        assert_eq!(
            counted(&exchange, Method::Post, ExchangeOutcome::Refused),
            1
        );
        assert_eq!(counted(&exchange, Method::Get, ExchangeOutcome::Success), 2);
    }
}

#[tokio::test]
async fn a_post_that_is_granted_again_ends_the_fallback() {
    let (server, exchange) = scripted([error(403, "no"), answer(200, "", GET_200), ok()]).await;
    run(&exchange).await.unwrap();
    // As if the hour were over.
    let past = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    exchange.fallback(|fallback| fallback.make_due(&identity(), past));
    run(&exchange).await.unwrap();
    assert_eq!(methods(&server), ["POST", "GET", "POST"]);
    assert_eq!(exchange.metrics.short_lived_identities.get(), 0);
}

#[tokio::test]
async fn a_refusal_by_both_names_the_grant_and_is_asked_anew_with_post() {
    let (server, exchange) = scripted([
        error(403, "permission denied"),
        error(404, "not found"),
        error(404, "no such method"),
        error(401, "unknown issuer"),
    ])
    .await;
    let Err(ExchangeError::Refused { status, message }) = run(&exchange).await else {
        panic!("not refused");
    };
    assert_eq!(status, 403);
    for part in [
        "permission denied (HTTP 403)",
        "`role/https://iss.example:system:serviceaccount:ns:sa` (audience `aud`)",
        "cwobject:CreateAccessKeyOIDC",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let Err(ExchangeError::Refused { status, message }) = run(&exchange).await else {
        panic!("not refused");
    };
    assert_eq!(status, 401);
    assert!(message.contains("unknown issuer"), "{message}");
    assert_eq!(methods(&server), ["POST", "GET", "POST", "GET"]);
    assert_eq!(exchange.metrics.short_lived_identities.get(), 0);
}

#[tokio::test]
async fn a_get_that_is_refused_later_leads_back_to_post() {
    let (server, exchange) = scripted([
        error(403, "no"),
        answer(200, "", GET_200),
        error(403, "no"),
        ok(),
    ])
    .await;
    run(&exchange).await.unwrap();
    assert!(matches!(
        run(&exchange).await,
        Err(ExchangeError::Refused { status: 403, .. })
    ));
    run(&exchange).await.unwrap();
    assert_eq!(methods(&server), ["POST", "GET", "GET", "POST"]);
    assert_eq!(exchange.metrics.short_lived_identities.get(), 0);
}

#[tokio::test]
async fn a_get_that_fails_for_now_is_no_fallback_yet() {
    let (server, exchange) = scripted([error(403, "no"), error(503, "busy"), ok()]).await;
    assert_unavailable(run(&exchange).await, "busy");
    run(&exchange).await.unwrap();
    assert_eq!(methods(&server), ["POST", "GET", "POST"]);
}

#[tokio::test]
async fn refusals_that_get_cannot_cure_are_final() {
    for (status, advice) in [(400, "21600 s"), (401, "OIDC configuration")] {
        let (server, exchange) = scripted([error(status, "the words")]).await;
        match run(&exchange).await {
            Err(ExchangeError::Refused {
                status: got,
                message,
            }) => {
                assert_eq!(got, status);
                assert!(
                    message.contains("the words") && message.contains(advice),
                    "{message}"
                );
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(methods(&server), ["POST"]);
        assert_eq!(
            counted(&exchange, Method::Post, ExchangeOutcome::Refused),
            1
        );
    }
}
