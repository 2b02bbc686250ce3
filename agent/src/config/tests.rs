use clap::{Args as _, Command, FromArgMatches as _};

use super::*;

fn parse(flags: &str) -> RunArgs {
    let words = std::iter::once("run").chain(flags.split_ascii_whitespace());
    let matches = RunArgs::augment_args(Command::new("run")).get_matches_from(words);
    RunArgs::from_arg_matches(&matches).unwrap()
}

/// What is wrong with these flags, one problem a line; `in_cluster` as in a Pod.
fn problems(flags: &str) -> Vec<String> {
    match Config::new(parse(flags), true) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn an_organisation_is_all_that_a_cluster_has_to_be_told() {
    let config = Config::new(parse("--org-id org-1"), true).unwrap();
    assert_eq!(config.keys.to_string(), "https://kubernetes.default.svc/");
    // The parts and the flags have the same defaults.
    let shown = |part: &dyn std::fmt::Debug| format!("{part:?}");
    assert_eq!(shown(&config.cache), shown(&cache::Policy::default()));
    let exchange = ExchangeSettings::new("org-1");
    assert_eq!(shown(&config.exchange), shown(&exchange));
    let identity = IdentitySettings::default();
    assert_eq!(shown(&config.identity), shown(&identity));
    let enrolment = enrolment::Settings::new(config.enrolment.socket.clone());
    assert_eq!(shown(&config.enrolment), shown(&enrolment));
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let wrong = [
        "--api-url ftp://api.example",
        "--credential-duration forever",
        "--attribute unnamed",
        "--exchange-timeout 1ms",
        "--jwks-url keys.json",
        "--max-identities few",
        "--admin-listen nowhere",
        "--hold-limit 2m",
        "--log no=such=level",
    ];
    let found = problems(&wrong.join(" "));
    let flags = wrong.map(|wrong| wrong.split_once(' ').unwrap().0);
    for flag in flags.into_iter().chain(["--org-id", "--issuer"]) {
        let named = found.iter().any(|p| p.contains(&format!("`{flag}`")));
        assert!(named, "`{flag}` is not named in {found:#?}");
    }
}

#[test]
fn every_number_has_a_range_and_both_its_ends_are_accepted() {
    for (flag, below, least, most, above) in [
        ("--credential-duration", "14m", "15m", "12h", "12h1s"),
        ("--exchange-connect-timeout", "99ms", "100ms", "30s", "31s"),
        ("--exchange-timeout", "499ms", "500ms", "60s", "61s"),
        ("--clock-skew", "", "0s", "5m", "301s"),
        ("--pod-grace", "999ms", "1s", "10m", "601s"),
        ("--max-remembered-tokens", "15", "16", "1000000", "1000001"),
        ("--hold-limit", "999ms", "1s", "60s", "61s"),
        ("--min-remaining", "", "0s", "6h", "361m"),
        ("--max-identities", "0", "1", "100000", "100001"),
        ("--max-pods-per-identity", "0", "1", "100000", "100001"),
        ("--max-held-requests", "0", "1", "100000", "100001"),
        ("--max-exchanges", "0", "1", "1000", "1001"),
        ("--refusal-memory", "999ms", "1s", "5m", "301s"),
        ("--max-connections", "15", "16", "1000000", "1000001"),
        (
            "--max-connections-per-listener",
            "0",
            "1",
            "100000",
            "100001",
        ),
        ("--header-timeout", "99ms", "100ms", "60s", "61s"),
        ("--idle-timeout", "999ms", "1s", "1h", "3601s"),
        ("--drain-timeout", "", "0s", "5m", "301s"),
        ("--handover-timeout", "", "0s", "5m", "301s"),
        ("--max-enrolments", "0", "1", "64", "65"),
        ("--max-pods", "0", "1", "100000", "100001"),
        ("--poll-interval", "999ms", "1s", "10m", "601s"),
    ] {
        for good in [least, most] {
            let found = problems(&format!("--org-id org-1 {flag} {good}"));
            assert_eq!(found, [""; 0], "{flag} {good}");
        }
        for bad in [below, above, "much"]
            .into_iter()
            .filter(|bad| !bad.is_empty())
        {
            let found = problems(&format!("--org-id org-1 {flag} {bad}"));
            assert_eq!(found.len(), 1, "{flag} {bad}: {found:?}");
            assert!(found[0].starts_with(&format!("`{flag}` is `")), "{found:?}");
        }
        let help = help(flag);
        assert!(
            help.contains(&format!("{least} to {most}")),
            "{flag}: {help}"
        );
    }
}

fn help(flag: &str) -> String {
    let command = RunArgs::augment_args(Command::new("run"));
    let found = command
        .get_arguments()
        .find(|argument| argument.get_long() == flag.strip_prefix("--"));
    found.unwrap().get_help().unwrap().to_string()
}

#[test]
fn every_flag_has_an_environment_variable_of_its_name() {
    let command = RunArgs::augment_args(Command::new("run"));
    for argument in command.get_arguments() {
        let flag = argument.get_long().unwrap();
        let variable = argument.get_env().unwrap().to_str().unwrap();
        let singular = variable.strip_suffix('S').unwrap_or(variable);
        let named = format!("CAIOS_AGENT_{}", flag.replace('-', "_").to_uppercase());
        let is_list = argument.get_value_delimiter().is_some();
        let expected = if is_list { singular } else { variable };
        assert_eq!(expected, named);
    }
}

#[test]
fn a_value_that_is_set_to_nothing_is_a_problem() {
    for (flags, empty) in [
        ("--org-id=", "--org-id"),
        ("--org-id=o --issuer=", "--issuer"),
        ("--org-id=o --audience=", "--audience"),
        ("--org-id=o --node-name=", "--node-name"),
    ] {
        let found = problems(flags);
        assert_eq!(found.len(), 1, "{flags}: {found:?}");
        let says = found[0].contains(empty) && found[0].contains("empty");
        assert!(says, "{found:?}");
    }
}

#[test]
fn attributes_are_names_with_values_and_each_comes_once() {
    let config = Config::new(parse("--org-id o --attribute a=b=c,d="), true).unwrap();
    let shown = format!("{:?}", config.exchange.attributes);
    assert_eq!(shown, r#"{"a": "b=c", "d": ""}"#);
    assert_eq!(problems("--org-id o --attribute a=1,a=2").len(), 1);
    assert_eq!(problems("--org-id o --attribute =1").len(), 1);
}

#[test]
fn keys_come_from_what_is_given_and_else_from_where_the_process_runs() {
    let keys = |flags: &str, in_cluster| {
        let flags = format!("--org-id o {flags}");
        Config::new(parse(&flags), in_cluster).map(|config| config.keys.to_string())
    };
    let issuer = "--issuer https://iss.example";
    assert_eq!(keys(issuer, false).unwrap(), "https://iss.example");
    assert_eq!(
        keys(issuer, true).unwrap(),
        "https://kubernetes.default.svc/"
    );
    let file = format!("{issuer} --jwks-file keys.json");
    assert_eq!(keys(&file, true).unwrap(), "keys.json");
    let url = format!("{issuer} --jwks-url https://iss.example/keys?a=b");
    assert_eq!(keys(&url, true).unwrap(), "https://iss.example/keys");
    for wrong in [
        "",
        "--issuer not-a-url",
        "--issuer unix:/socket",
        "--jwks-file keys.json",
        "--issuer https://iss.example --keys-from file",
        "--issuer https://iss.example --keys-from url",
        "--issuer https://iss.example --keys-from issuer --jwks-file keys.json",
    ] {
        let error = keys(wrong, false).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{wrong}: {error}");
    }
}

#[test]
fn pods_are_watched_in_a_cluster_where_the_node_is_known_unless_it_is_switched_off() {
    let watch = |flags: &str, in_cluster| {
        let config = Config::new(parse(flags), in_cluster).unwrap();
        config.watch.map(|watch| (watch.node, watch.events))
    };
    let here = "--org-id o --node-name node-a";
    let outside = format!("{here} --issuer https://issuer.example");
    let on = Some(("node-a".to_owned(), true));
    assert_eq!(watch(here, true), on);
    assert_eq!(watch("--org-id o", true), None);
    assert_eq!(watch(&format!("{here} --watch-pods false"), true), None);
    assert_eq!(watch(&outside, false), None);
    assert_eq!(watch(&format!("{outside} --watch-pods true"), false), on);
    let silent = watch(&format!("{here} --events false"), true);
    assert_eq!(silent, Some(("node-a".to_owned(), false)));

    let found = problems("--org-id o --watch-pods true");
    assert!(
        found.len() == 1 && found[0].contains("`--node-name`"),
        "{found:?}"
    );
    let found = problems("--org-id o --watch-pods yes --api-server-url ftp://a");
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn what_a_url_of_the_api_server_may_hide_is_not_shown() {
    let flags = "--org-id o --node-name n --api-server-url https://user:canary@api.example";
    let config = Config::new(parse(flags), true).unwrap();
    let shown = format!("{config:?}");
    assert!(
        shown.contains("api.example") && !shown.contains("canary"),
        "{shown}"
    );
}
