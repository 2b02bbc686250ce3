//! AWS Signature Version 4 for a request without a body. Pure.
//!
//! The canonical request, the string to sign and the derived key are those of AWS's documentation
//! ("Authenticating Requests: Using the Authorization Header", Amazon S3 API reference).

use aws_lc_rs::{digest, hmac};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::credentials::Credentials;

/// SHA-256 of no bytes.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A GET request to S3 that is to be signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    /// As in the `Host` header: with the port where that is not the scheme's.
    pub(super) host: &'a str,
    /// Percent-encoded; `/` at least.
    pub(super) path: &'a str,
    /// Sorted, percent-encoded, each name with its `=`; empty for none.
    pub(super) query: &'a str,
    pub(super) region: &'a str,
    pub(super) at: Timestamp,
}

/// Headers that are sent beside `Host`. Their values are secret.
pub(super) type Headers = Vec<(&'static str, Zeroizing<String>)>;

/// Signs a request: gives the headers that it must be sent with.
pub(super) fn sign(request: &Request<'_>, credentials: &Credentials) -> Headers {
    let time = request.at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = request.at.strftime("%Y%m%d").to_string();
    let mut headers: Headers = vec![
        ("x-amz-content-sha256", Zeroizing::new(EMPTY.to_owned())),
        ("x-amz-date", Zeroizing::new(time.clone())),
    ];
    let session_token = credentials.session_token.expose_secret();
    if !session_token.is_empty() {
        let session_token = Zeroizing::new(session_token.to_owned());
        headers.push(("x-amz-security-token", session_token));
    }
    // `host` comes before all others in the alphabet, and they are in its order.
    let mut names = "host".to_owned();
    let mut canonical = Zeroizing::new(format!(
        "GET\n{}\n{}\nhost:{}\n",
        request.path, request.query, request.host
    ));
    for (name, value) in &headers {
        names.push(';');
        names.push_str(name);
        for part in [name, ":", value.as_str(), "\n"] {
            canonical.push_str(part);
        }
    }
    for part in ["\n", &names, "\n", EMPTY] {
        canonical.push_str(part);
    }
    let scope = [date.as_str(), request.region, "s3", "aws4_request"];
    let secret = credentials.secret_access_key.expose_secret();
    let first = Zeroizing::new(format!("AWS4{secret}").into_bytes());
    let key = scope
        .iter()
        .fold(first, |key, part| Zeroizing::new(mac(&key, part)));
    let scope = scope.join("/");
    let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let signature = hex(&mac(
        &key,
        &format!("{ALGORITHM}\n{time}\n{scope}\n{hashed}"),
    ));
    let id = credentials.access_key_id.expose_secret();
    headers.push((
        "authorization",
        Zeroizing::new(format!(
            "{ALGORITHM} Credential={id}/{scope},SignedHeaders={names},Signature={signature}"
        )),
    ));
    headers
}

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| {
        DIGITS
            .get(usize::from(nibble))
            .copied()
            .map_or('?', char::from)
    };
    let pairs = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn signed(session_token: &str) -> Headers {
        let credentials = Credentials {
            access_key_id: SecretString::from("AKIAIOSFODNN7EXAMPLE"),
            secret_access_key: SecretString::from("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: SecretString::from(session_token),
        };
        let request = Request {
            host: "examplebucket.s3.amazonaws.com",
            path: "/",
            query: "lifecycle=",
            region: "us-east-1",
            at: "2013-05-24T00:00:00Z".parse().unwrap(),
        };
        sign(&request, &credentials)
    }

    #[test]
    fn the_signature_is_that_of_awss_example() {
        let headers = signed("");
        let (name, authorization) = headers.last().unwrap();
        assert_eq!(*name, "authorization");
        assert_eq!(
            authorization.as_str(),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;x-amz-content-sha256;x-amz-date,\
             Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
    }

    #[test]
    fn a_session_token_is_sent_and_signed_and_an_empty_one_is_neither() {
        let names = |headers: &Headers| headers.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert!(!names(&signed("")).contains(&"x-amz-security-token"));
        let headers = signed("token");
        assert!(names(&headers).contains(&"x-amz-security-token"));
        assert!(headers.last().unwrap().1.contains(";x-amz-security-token,"));
    }
}
