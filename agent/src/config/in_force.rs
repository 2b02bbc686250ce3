//! What is in force, for people: every flag with its value and where that comes from.

use std::fmt;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, Command};
use reqwest::Url;

use super::{Config, RunArgs};

/// The flags of a good configuration, one line each, with what follows from them. Shows no secret.
#[derive(Debug)]
pub struct InForce {
    flags: Vec<Flag>,
    keys: String,
}

#[derive(Debug)]
struct Flag {
    name: String,
    value: String,
    source: &'static str,
}

impl InForce {
    /// Takes the values out of `matches`, of which `config` was made.
    pub fn new(matches: &ArgMatches, config: &Config) -> Self {
        let command = RunArgs::augment_args(Command::new("run"));
        let flags = command.get_arguments().filter_map(|argument| {
            let id = argument.get_id().as_str();
            let values = matches.try_get_raw(id).ok()??;
            let values: Vec<_> = values
                .map(|value| shown(&value.to_string_lossy()))
                .collect();
            Some(Flag {
                name: argument.get_long()?.to_owned(),
                value: values.join(","),
                source: match matches.value_source(id)? {
                    ValueSource::CommandLine => "flag",
                    ValueSource::EnvVariable => "environment",
                    _ => "default",
                },
            })
        });
        Self {
            flags: flags.collect(),
            keys: config.keys.to_string(),
        }
    }
}

/// A URL may hold a password, and its query a key.
fn shown(value: &str) -> String {
    match Url::parse(value) {
        Ok(mut url) if url.has_host() => {
            let hidden = url.password().is_some() || !url.username().is_empty();
            if !hidden && url.query().is_none() {
                return value.to_owned();
            }
            // Of a URL with a host nothing of this can fail.
            let _ = (url.set_username(""), url.set_password(None));
            url.set_query(None);
            url.to_string()
        }
        _ => value.to_owned(),
    }
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&Flag) -> &str| {
            let lengths = self.flags.iter().map(|flag| text(flag).chars().count());
            lengths.max().unwrap_or_default()
        };
        let (names, values) = (width(|flag| &flag.name), width(|flag| &flag.value));
        for Flag {
            name,
            value,
            source,
        } in &self.flags
        {
            writeln!(f, "--{name:names$}  {value:values$}  {source}")?;
        }
        writeln!(f, "the issuer's keys come from {}", self.keys)
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    fn in_force(flags: &str) -> String {
        let words = std::iter::once("run").chain(flags.split_ascii_whitespace());
        let matches = RunArgs::augment_args(Command::new("run")).get_matches_from(words);
        let args = RunArgs::from_arg_matches(&matches).unwrap();
        let config = Config::new(args, true).unwrap();
        InForce::new(&matches, &config).to_string()
    }

    fn line(text: &str, flag: &str) -> Vec<String> {
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut lines = text.lines().map(words);
        let found = lines.find(|words| words[0] == flag);
        found.unwrap_or_else(|| panic!("no line for {flag} in:\n{text}"))
    }

    #[test]
    fn every_value_in_force_is_shown_with_where_it_comes_from() {
        let text = in_force("--org-id org-1 --audience a --audience b");
        assert_eq!(line(&text, "--org-id"), ["--org-id", "org-1", "flag"]);
        assert_eq!(line(&text, "--audience"), ["--audience", "a,b", "flag"]);
        assert_eq!(
            line(&text, "--hold-limit"),
            ["--hold-limit", "8s", "default"]
        );
        assert!(
            !text.contains("--node-name"),
            "a flag without a value: {text}"
        );
        assert!(
            text.contains("keys come from https://kubernetes.default.svc"),
            "{text}"
        );
    }

    #[test]
    fn what_a_url_may_hide_is_not_shown() {
        let flags =
            "--org-id o --issuer https://i --jwks-url https://user:canary@keys.example/a?k=canary";
        let text = in_force(flags);
        assert!(!text.contains("canary"), "{text}");
        assert_eq!(line(&text, "--jwks-url")[1], "https://keys.example/a");
    }
}
