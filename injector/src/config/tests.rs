use clap::{Args as _, Command, FromArgMatches as _};

use super::*;
use crate::mutate::{Delivery, EnrolmentMode, PullPolicy, VolumeChoice};

/// What managed certificates need besides the image.
const LEAST: &str =
    "--image i --namespace n --certificate-secret s --webhook-configuration w --service v";

fn config(flags: &str) -> Result<Config, Problems> {
    let words = std::iter::once("run").chain(flags.split_ascii_whitespace());
    let matches = RunArgs::augment_args(Command::new("run")).get_matches_from(words);
    Config::new(&RunArgs::from_arg_matches(&matches).unwrap())
}

/// What is wrong with these flags, one problem a line.
fn problems(flags: &str) -> Vec<String> {
    match config(flags) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = config(LEAST).unwrap();
    let own = ["api".to_owned(), "other".to_owned()];
    let settings = config.injection.complete("https://iss.example", &own);
    assert_eq!(settings.audience, "https://iss.example");
    assert_eq!(settings.api_audiences, own.into());
    assert_eq!(settings.pull_policy, PullPolicy::IfNotPresent);
    assert_eq!(settings.delivery, Delivery::Handoff);
    assert_eq!((settings.volume, settings.csi), (VolumeChoice::Auto, false));
    assert_eq!(settings.enrolment_mode, EnrolmentMode::Reown);
    assert_eq!(settings.port, shared::contract::DEFAULT_PORT);
    assert_eq!(
        settings.public_directory,
        shared::contract::PUBLIC_DIRECTORY
    );
    assert_eq!(settings.token_expiration, 86_400);
    assert_eq!((settings.region, settings.s3_endpoint), (None, None));
    let Certificates::Managed(managed) = config.certificates else {
        panic!("{:?}", config.certificates);
    };
    assert_eq!(managed.names()[2], "v.n.svc");
}

#[test]
fn what_flags_give_is_not_taken_from_the_token() {
    let given = config(&format!("{LEAST} --audience a --api-audience b,c")).unwrap();
    assert!(!given.injection.needs_own_token());
    let settings = given.injection.complete("", &[]);
    assert_eq!(settings.audience, "a");
    assert_eq!(settings.api_audiences.len(), 2);
    let half = config(&format!("{LEAST} --audience a")).unwrap();
    assert!(half.injection.needs_own_token());
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let wrong = [
        "--audience=",
        "--s3-endpoint ftp://s3.example",
        "--enroll-cpu lots",
        "--enroll-memory 0Mi",
        "--token-expiration 1m",
        "--port 80",
        "--public-directory ../run",
        "--volume csi",
        "--relay-runtime-class kata",
        "--unsupported-runtime-class Kata!",
        "--listen nowhere",
        "--review-timeout 1m",
        "--certificate-lifetime 1y",
        "--ca-lifetime 1y",
        "--certificate-directory /tls",
        "--service a/b",
        "--log no=such=level",
    ];
    let found = problems(&wrong.join(" "));
    let flags = wrong.map(|wrong| wrong.split([' ', '=']).next().unwrap());
    let missing = [
        "--image",
        "--namespace",
        "--certificate-secret",
        "--webhook-configuration",
    ];
    for flag in flags.into_iter().chain(missing) {
        // A class of both lists is named once, by the other list.
        let named = found.iter().any(|p| p.contains(&format!("`{flag}`")))
            || flag == "--relay-runtime-class";
        assert!(named, "`{flag}` is not named in {found:#?}");
    }
    let both = "--relay-runtime-class kata --unsupported-runtime-class kata";
    assert_eq!(problems(&format!("{LEAST} {both}")).len(), 1);
}

#[test]
fn every_number_has_a_range_and_both_its_ends_are_accepted() {
    for (flag, below, least, most, above) in [
        ("--token-expiration", "599s", "10m", "24h", "86401s"),
        ("--port", "1023", "1024", "65535", "65536"),
        ("--review-timeout", "499ms", "500ms", "29s", "30s"),
        ("--max-reviews", "0", "1", "10000", "10001"),
        (
            "--max-review-bytes",
            "65535",
            "65536",
            "33554432",
            "33554433",
        ),
        ("--max-connections", "15", "16", "100000", "100001"),
        ("--max-service-accounts", "99", "100", "1000000", "1000001"),
        ("--shutdown-delay", "", "0s", "1m", "61s"),
        ("--drain-timeout", "", "0s", "5m", "301s"),
        ("--certificate-lifetime", "9s", "10s", "366d", "367d"),
        ("--ca-lifetime", "19s", "20s", "7305d", "7306d"),
    ] {
        // The longest certificate needs a longer authority, the shortest authority a shorter one.
        let fitting = match flag {
            "--certificate-lifetime" => "--ca-lifetime 7305d",
            "--ca-lifetime" => "--certificate-lifetime 10s",
            _ => "",
        };
        for good in [least, most] {
            let found = problems(&format!("{LEAST} {fitting} {flag} {good}"));
            assert_eq!(found, [""; 0], "{flag} {good}");
        }
        for bad in [below, above, "much"]
            .into_iter()
            .filter(|bad| !bad.is_empty())
        {
            let found = problems(&format!("{LEAST} {fitting} {flag} {bad}"));
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
        let named = format!("CAIOS_INJECTOR_{}", flag.replace('-', "_").to_uppercase());
        if argument.get_value_delimiter().is_some() {
            let plural = [format!("{named}S"), format!("{named}ES")];
            assert!(plural.contains(&variable.to_owned()), "{variable}");
        } else {
            assert_eq!(variable, named);
        }
    }
}

#[test]
fn a_directory_needs_nothing_that_managed_certificates_need() {
    let found = problems("--image i --certificates directory --certificate-directory /tls");
    assert_eq!(found, [""; 0]);
    let found = problems("--image i --certificates directory");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("`--certificate-directory`"), "{found:?}");
}
