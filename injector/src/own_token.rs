//! What the injector's own service account token says of the cluster.

use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

/// The cluster's issuer, and the audiences of its API server.
///
/// They are taken from a file that the kubelet has written, so no signature is checked.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct OwnToken {
    /// The cluster's issuer.
    #[serde(rename = "iss")]
    pub issuer: String,
    /// What the API server takes tokens for.
    #[serde(rename = "aud")]
    pub audiences: Vec<String>,
}

impl OwnToken {
    /// Reads the file `token` in `directory`.
    ///
    /// # Errors
    /// When there is none or it makes no sense; the error shows none of it.
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("token");
        let token = std::fs::read_to_string(&path).map(Zeroizing::new);
        let token = token.with_context(|| format!("failed to read `{}`", path.display()))?;
        parse(&token).with_context(|| {
            format!(
                "`{}` is no service account token with `iss` and `aud`",
                path.display()
            )
        })
    }
}

fn parse(token: &str) -> Option<OwnToken> {
    let claims = token.trim().split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).map(Zeroizing::new).ok()?;
    serde_json::from_slice(&claims).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_and_audiences_are_those_of_the_token() {
        let directory = tempfile::tempdir().unwrap();
        let claims = r#"{"iss":"https://iss.example","aud":["a","b"],"sub":"x"}"#;
        let token = format!("e30.{}.c2ln\n", URL_SAFE_NO_PAD.encode(claims));
        std::fs::write(directory.path().join("token"), token).unwrap();
        let read = OwnToken::read(directory.path()).unwrap();
        assert_eq!(read.issuer, "https://iss.example");
        assert_eq!(read.audiences, ["a", "b"]);
    }

    #[test]
    fn an_error_names_the_file_and_shows_no_token() {
        let directory = tempfile::tempdir().unwrap();
        let missing = format!("{:#}", OwnToken::read(directory.path()).unwrap_err());
        assert!(missing.contains("/token`"), "{missing}");
        std::fs::write(directory.path().join("token"), "canary.canary.canary").unwrap();
        let useless = format!("{:#}", OwnToken::read(directory.path()).unwrap_err());
        assert!(!useless.contains("canary"), "{useless}");
    }
}
