//! The variables that lead an SDK to the agent, and those that lead it elsewhere. Pure.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use reqwest::Url;
use shared::contract::{CREDENTIALS_URI_VARIABLE, TOKEN_FILE_VARIABLE};

use super::report::{Fails, Works};

/// What most SDKs sign for where no region is set.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

const NOT_INJECTED: &str = "this container was not given credentials when its Pod was created: \
    annotate its ServiceAccount with `caios.coreweave.com/inject: \"true\"`, see that neither the Pod \
    nor `skip-containers` opts out and that the injector runs, and create the Pod again";

/// Variables that come before the agent in every SDK, or instead of it.
const HINDRANCES: [(&str, &str); 6] = [
    ("AWS_ACCESS_KEY_ID", "static keys win over the agent's"),
    ("AWS_SECRET_ACCESS_KEY", "static keys win over the agent's"),
    (
        "AWS_PROFILE",
        "the credentials of a profile win over the agent's",
    ),
    (
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "a web identity wins over the agent",
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "many SDKs prefer it to the agent's URL",
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "some SDKs send it in place of the Pod's token",
    ),
];
const PROXIES: [&str; 3] = ["http_proxy", "HTTP_PROXY", "ALL_PROXY"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Where credentials are asked for.
pub(super) fn url(given: Option<&str>) -> Result<Works<Url>, Fails> {
    let Some(given) = given.filter(|given| !given.is_empty()) else {
        let said = format!("{CREDENTIALS_URI_VARIABLE} is not set");
        let remedy = format!(
            "{NOT_INJECTED}. With the delivery `direct` there is none: clients dial the agent's socket, \
             and this check is not for them"
        );
        return Err(Fails::new(said, remedy));
    };
    let url = Url::parse(given).map_err(|error| {
        let said = format!("{CREDENTIALS_URI_VARIABLE} is no URL: {error}");
        Fails::new(said, "remove it, and create the Pod again")
    })?;
    // It may carry what is nobody's business here.
    let mut shown = url.clone();
    let _ = (shown.set_username(""), shown.set_password(None));
    shown.set_query(None);
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = host
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    if url.scheme() != "http" || !is_loopback {
        return Err(Fails::new(
            format!("{CREDENTIALS_URI_VARIABLE} is {shown}, which is not this node's agent"),
            "something else has set it, such as the Pod itself or the earlier pod-identity-webhook: \
             remove that, and create the Pod again",
        ));
    }
    let said = format!("{CREDENTIALS_URI_VARIABLE} is {shown}");
    Ok(Works::new(said, url))
}

/// Where the token is.
pub(super) fn token_file(given: Option<&Path>) -> Result<Works<PathBuf>, Fails> {
    let Some(path) = given.filter(|given| !given.as_os_str().is_empty()) else {
        let said = format!("{TOKEN_FILE_VARIABLE} is not set");
        return Err(Fails::new(said, NOT_INJECTED));
    };
    let said = format!("{TOKEN_FILE_VARIABLE} is {}", path.display());
    Ok(Works::new(said, path.to_owned()))
}

/// The region to sign for.
pub(super) fn region(given: Option<&str>) -> Result<Works<String>, Fails> {
    let Some(region) = given.filter(|given| !given.is_empty()) else {
        return Err(Fails::new(
            "neither AWS_REGION nor AWS_DEFAULT_REGION is set",
            "set one to the availability zone of the buckets: several SDKs send nothing without; the \
             injector sets both where `config.region` says it",
        ));
    };
    let said = format!("the region is {region}");
    Ok(Works::new(said, region.to_owned()))
}

/// Variables that keep SDKs from the agent, or show the token to somebody else.
pub(super) fn hindrances(variable: impl Fn(&str) -> Option<String>) -> Vec<Fails> {
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let set = HINDRANCES.iter().filter(|(name, _)| is_set(name));
    let mut found: Vec<_> = set
        .map(|(name, why)| {
            let said = format!("{name} is set: {why}");
            Fails::new(said, format!("remove {name} from this container"))
        })
        .collect();
    if let Some(proxy) = PROXIES.iter().find(|name| is_set(name)) {
        for name in EXCEPTIONS {
            let list = variable(name).unwrap_or_default();
            let mut entries = list.split(|c: char| c == ',' || c.is_whitespace());
            if !entries.any(|entry| entry == "127.0.0.1" || entry == "*") {
                found.push(Fails::new(
                    format!("{proxy} is set and {name} does not have 127.0.0.1: some SDKs send the Pod's token to the proxy"),
                    format!("add 127.0.0.1 to {name} in this container"),
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hindering(set: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &str| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        hindrances(variable)
            .into_iter()
            .map(|fails| fails.said)
            .collect()
    }

    #[test]
    fn only_a_loopback_url_is_the_agents() {
        for good in [
            "http://127.0.0.1:27169/v1/credentials",
            "http://[::1]:1024/",
        ] {
            assert_eq!(url(Some(good)).unwrap().value.as_str(), good);
        }
        for bad in [
            "https://api.coreweave.com/v1/cwobject/temporary-credentials/oidc/org",
            "http://169.254.170.23/v1/credentials",
            "https://127.0.0.1/",
            "http://localhost.example/",
        ] {
            let said = url(Some(bad)).unwrap_err().said;
            assert!(said.contains("not this node's agent"), "{said}");
        }
        let said = url(Some("http://user:canary@host/?canary"))
            .unwrap_err()
            .said;
        assert!(!said.contains("canary"), "{said}");
        assert!(url(Some("nonsense")).unwrap_err().said.contains("no URL"));
    }

    #[test]
    fn what_is_missing_leads_to_the_annotation() {
        let missing = [
            url(None).unwrap_err(),
            url(Some("")).unwrap_err(),
            token_file(None).unwrap_err(),
        ];
        for fails in missing {
            assert!(fails.said.ends_with("is not set"), "{fails:?}");
            assert!(
                fails.remedy.contains("caios.coreweave.com/inject"),
                "{fails:?}"
            );
        }
        assert!(region(None).unwrap_err().remedy.contains("config.region"));
    }

    #[test]
    fn what_wins_over_the_agent_is_named_and_empty_variables_are_not_set() {
        assert!(hindering(&[("AWS_PROFILE", ""), ("HOME", "/")]).is_empty());
        let said = hindering(&[("AWS_PROFILE", "x"), ("AWS_ACCESS_KEY_ID", "canary")]);
        assert_eq!(said.len(), 2);
        assert!(said.iter().all(|said| !said.contains("canary")), "{said:?}");
    }

    #[test]
    fn a_proxy_needs_an_exception_in_both_spellings() {
        let proxy = ("HTTP_PROXY", "http://proxy:3128");
        assert_eq!(hindering(&[proxy]).len(), 2);
        let one = hindering(&[proxy, ("NO_PROXY", ".svc,127.0.0.1")]);
        assert_eq!(one.len(), 1);
        assert!(one[0].contains("no_proxy"), "{one:?}");
        let both = [
            proxy,
            ("NO_PROXY", "127.0.0.1"),
            ("no_proxy", "a, 127.0.0.1"),
        ];
        assert!(hindering(&both).is_empty());
    }
}
