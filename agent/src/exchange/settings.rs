//! What the exchange has to be told, and which of it cannot work.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;

/// CoreWeave's API accepts `durationSeconds` from 0 to 43,200 (CoreWeave's API reference).
const LONGEST_DURATION: Duration = Duration::from_hours(12);

/// How to reach CoreWeave's API and what to ask it for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the API is; `https`, or `http` on a loopback host. A path is kept as a prefix.
    pub api: Url,
    /// The CoreWeave organisation that mints the keys.
    pub org_id: String,
    /// The lifetime to ask for, at most 12 h. Whole seconds; 0 leaves it to CoreWeave.
    pub duration: Duration,
    /// What SDKs get as session token where CoreWeave gives none.
    pub session_token_placeholder: SecretString,
    /// Free attributes that CoreWeave's audit trail shows beside each key.
    pub attributes: BTreeMap<String, String>,
    /// CA certificates in PEM that are trusted besides the system's. Read again when it changes.
    pub ca_file: Option<PathBuf>,
    /// How long to wait for a connection: name, TCP, proxy and TLS together.
    pub connect_timeout: Duration,
    /// How long one call may take in all.
    pub timeout: Duration,
}

impl Settings {
    /// The defaults for one organisation: keys of 6 h from CoreWeave's public API.
    #[expect(clippy::expect_used, reason = "a constant that a test parses")]
    pub fn new(org_id: &str) -> Self {
        Self {
            api: Url::parse("https://api.coreweave.com").expect("the URL is valid"),
            org_id: org_id.to_owned(),
            duration: Duration::from_hours(6),
            session_token_placeholder: SecretString::default(),
            attributes: BTreeMap::new(),
            ca_file: None,
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(6),
        }
    }

    /// Everything that is wrong with these settings; empty when they may work. Reads no file.
    pub fn problems(&self) -> Vec<BuildError> {
        let mut problems = Vec::new();
        let host = self.api.host_str().unwrap_or_default();
        if host.starts_with("oidc.") && host.ends_with(".coreweave.com") {
            problems.push(BuildError::IssuerHost(host.to_owned()));
        }
        if self.api.scheme() != "https" && !self.is_plain_loopback() {
            problems.push(BuildError::NotHttps);
        }
        if !self.api.username().is_empty()
            || self.api.password().is_some()
            || self.api.query().is_some()
            || self.api.fragment().is_some()
        {
            problems.push(BuildError::NotAnAddress);
        }
        if self.duration > LONGEST_DURATION {
            problems.push(BuildError::Duration(self.duration));
        }
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        // Dots alone would be a step in the path.
        if !self.org_id.bytes().all(unreserved) || self.org_id.bytes().all(|b| b == b'.') {
            problems.push(BuildError::OrgId(self.org_id.clone()));
        }
        if self.attributes.keys().any(String::is_empty) {
            problems.push(BuildError::EmptyAttribute);
        }
        if self.timeout.is_zero() || self.connect_timeout.is_zero() {
            problems.push(BuildError::NoTime);
        }
        problems
    }

    /// Whether the API is `http` on this very host, as in tests: no proxy may get between.
    pub(super) fn is_plain_loopback(&self) -> bool {
        let host = self.api.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse();
        self.api.scheme() == "http"
            && (host == "localhost" || address.is_ok_and(|ip: IpAddr| ip.is_loopback()))
    }

    /// `POST`'s URL, and with an organisation `GET`'s. The API's own path stays in front.
    pub(super) fn endpoint(&self, org_id: Option<&str>) -> Url {
        let mut url = self.api.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty()
                .extend(["v1", "cwobject", "temporary-credentials", "oidc"])
                .extend(org_id);
        }
        url
    }
}

/// Why the exchange cannot be set up. Each message names the flag to change.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The host is an issuer of tokens, not the API: people mix them up.
    #[error(
        "`--api-url`: `{0}` is an OIDC issuer, which the exchange is not part of; the API is https://api.coreweave.com"
    )]
    IssuerHost(String),
    /// Tokens and keys would cross the network in the clear.
    #[error("`--api-url` must be https; http is for loopback hosts only")]
    NotHttps,
    /// The URL has parts that an API's address does not have.
    #[error("`--api-url` must have no user, password, query or fragment")]
    NotAnAddress,
    /// CoreWeave mints for 12 h at most.
    #[error("`--credential-duration` ({0:?}) must be at most 12 h (43200 s)")]
    Duration(Duration),
    /// Empty, or not safe in a URL.
    #[error("`--org-id` (`{0}`) must be letters, digits, `-`, `_`, `.` or `~`, and not be empty")]
    OrgId(String),
    /// An attribute without a name.
    #[error("`--attribute`: a name is empty")]
    EmptyAttribute,
    /// Every call would fail.
    #[error("`--exchange-timeout` and `--exchange-connect-timeout` must be more than 0 s")]
    NoTime,
    /// The CA file cannot be read.
    #[error("failed to read `--ca-file` `{}`", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The CA file has no certificates that can be used.
    #[error("`--ca-file` `{}` holds no CA certificates in PEM", .0.display())]
    NoCertificates(PathBuf),
    /// The HTTPS client cannot be built, most often because there are no CA certificates at all.
    #[error(
        "failed to build the HTTPS client; if the system has no CA certificates, give them by `--ca-file` or the variable SSL_CERT_FILE"
    )]
    Client(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let mut settings = Settings::new("org-1_a.b~c");
        change(&mut settings);
        settings
            .problems()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn the_defaults_and_loopback_addresses_are_accepted() {
        assert_eq!(problems(|_| ()), [""; 0]);
        for api in [
            "http://127.0.0.1:80",
            "http://[::1]:80/",
            "http://localhost",
            "https://x/p/",
        ] {
            assert_eq!(problems(|s| s.api = api.parse().unwrap()), [""; 0], "{api}");
        }
    }

    #[test]
    fn every_problem_is_reported_and_names_its_flag() {
        let all = problems(|s| {
            s.api = "http://oidc.cks.coreweave.com/id/1?q".parse().unwrap();
            s.org_id = "..".to_owned();
            s.duration = Duration::from_secs(43_201);
            s.attributes = [(String::new(), String::new())].into();
            s.timeout = Duration::ZERO;
        });
        assert_eq!(all.len(), 7, "{all:#?}");
        for (problem, part) in all.iter().zip([
            "`oidc.cks.coreweave.com` is an OIDC issuer",
            "https",
            "query",
            "`--credential-duration` (43201s)",
            "`--org-id` (`..`)",
            "`--attribute`",
            "timeout",
        ]) {
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn an_org_id_that_would_change_the_path_is_refused() {
        for org in ["", ".", "a/b", "a?b", "a%2fb", "ä", "a b"] {
            assert_eq!(problems(|s| s.org_id = org.to_owned()).len(), 1, "{org}");
        }
    }

    #[test]
    fn http_is_refused_for_every_other_host() {
        for api in [
            "http://10.0.0.1",
            "http://localhost.example",
            "http://127.0.0.1.example",
        ] {
            assert_eq!(problems(|s| s.api = api.parse().unwrap()).len(), 1, "{api}");
        }
    }

    #[test]
    fn endpoints_keep_the_prefix_of_the_api() {
        let mut settings = Settings::new("org");
        settings.api = "https://proxy.example/coreweave/".parse().unwrap();
        let base = "https://proxy.example/coreweave/v1/cwobject/temporary-credentials/oidc";
        assert_eq!(settings.endpoint(None).as_str(), base);
        assert_eq!(
            settings.endpoint(Some("org")).as_str(),
            format!("{base}/org")
        );
    }
}
