//! Bytes that make no sense.

use proptest::prelude::*;

use super::*;

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
