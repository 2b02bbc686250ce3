//! Keeps a container's calls to the agent away from its proxy: several SDKs ask the proxy even for
//! a loopback address, and would show it the Pod's token.

use super::container::{Container, Setting};

const PROXIES: [&str; 3] = ["http_proxy", "https_proxy", "all_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];
const AGENT: &str = "127.0.0.1";

/// What is to change so that a proxy is not asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Exceptions {
    /// Variables that get another value, by their place in the list.
    pub(super) changed: Vec<(usize, String)>,
    /// Variables that are added.
    pub(super) added: Vec<(&'static str, String)>,
    /// Whether a list comes from elsewhere, so that nobody can tell what it says.
    pub(super) elsewhere: bool,
}

impl Exceptions {
    /// Where one of the two spellings is set, the other one gets the same list: alone, it would
    /// hide the user's list from programs that prefer it.
    pub(super) fn for_container(container: &Container<'_>) -> Self {
        let mut exceptions = Self::default();
        if !has_proxy(container) {
            return exceptions;
        }
        let settings = EXCEPTIONS.map(|name| container.variable(name));
        exceptions.elsewhere = settings.contains(&Some(Setting::Elsewhere));
        let mut list = None;
        for setting in settings.into_iter().flatten() {
            if let Setting::Text(place, text) = setting {
                let extended = extend(text);
                if extended != text {
                    exceptions.changed.push((place, extended.clone()));
                }
                list = Some(extended);
            }
        }
        if !exceptions.elsewhere {
            let list = list.unwrap_or_else(|| AGENT.to_owned());
            for (name, setting) in EXCEPTIONS.into_iter().zip(settings) {
                if setting.is_none() {
                    exceptions.added.push((name, list.clone()));
                }
            }
        }
        exceptions
    }
}

fn has_proxy(container: &Container<'_>) -> bool {
    container.variables().any(|(name, setting)| {
        setting.says_something() && PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
    })
}

/// Appends the agent's address to a list that does not have it. A range that has it does not count:
/// not every program knows ranges.
fn extend(list: &str) -> String {
    let mut entries = list
        .split(|character: char| character == ',' || character.is_whitespace())
        .filter(|entry| !entry.is_empty())
        .peekable();
    if entries.peek().is_none() {
        AGENT.to_owned()
    } else if entries.any(|entry| entry == AGENT || entry == "*") {
        list.to_owned()
    } else {
        format!("{list},{AGENT}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn exceptions(env: &Value) -> Exceptions {
        let value = json!({"env": env});
        let container = Container::read(&value, "/spec/containers/0".to_owned()).unwrap();
        Exceptions::for_container(&container)
    }

    fn proxy(name: &str) -> Value {
        json!({"name": name, "value": "http://proxy:3128"})
    }

    #[test]
    fn without_a_proxy_nothing_changes() {
        for env in [
            json!([]),
            json!([{"name": "NO_PROXY", "value": "a"}]),
            json!([{"name": "HTTP_PROXY", "value": ""}]),
        ] {
            assert_eq!(exceptions(&env), Exceptions::default());
        }
    }

    #[test]
    fn every_spelling_of_a_proxy_counts() {
        for name in ["HTTP_PROXY", "https_proxy", "All_Proxy"] {
            assert_eq!(
                exceptions(&json!([proxy(name)])).added,
                [
                    ("NO_PROXY", AGENT.to_owned()),
                    ("no_proxy", AGENT.to_owned())
                ]
            );
        }
    }

    #[test]
    fn a_list_is_extended_and_repeated_under_the_other_name() {
        let found = exceptions(&json!([
            proxy("HTTPS_PROXY"),
            {"name": "no_proxy", "value": ".svc,10.0.0.0/8"},
        ]));
        let list = ".svc,10.0.0.0/8,127.0.0.1".to_owned();
        assert_eq!(found.changed, [(1, list.clone())]);
        assert_eq!(found.added, [("NO_PROXY", list)]);
    }

    #[test]
    fn a_list_that_has_the_agent_stays() {
        for list in ["127.0.0.1", "a, 127.0.0.1 ,b", "*", "a 127.0.0.1"] {
            let found = exceptions(&json!([
                proxy("HTTPS_PROXY"),
                {"name": "NO_PROXY", "value": list},
                {"name": "no_proxy", "value": list},
            ]));
            assert_eq!(found, Exceptions::default(), "{list}");
        }
        assert_eq!(
            extend("127.0.0.0/8,localhost"),
            "127.0.0.0/8,localhost,127.0.0.1"
        );
        assert_eq!(extend(" "), "127.0.0.1");
    }

    #[test]
    fn a_list_from_elsewhere_is_not_hidden_by_one_of_ours() {
        let found = exceptions(&json!([
            proxy("HTTPS_PROXY"),
            {"name": "NO_PROXY", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
        ]));
        assert_eq!(
            found,
            Exceptions {
                elsewhere: true,
                ..Exceptions::default()
            }
        );
    }
}
