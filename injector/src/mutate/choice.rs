//! Whether a Pod is to be injected.

use super::pod::Metadata;
use super::subject::Subject;
use super::warnings::{Warnings, quote};

/// Whether a Pod is to be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The Pod's label, or its ServiceAccount, asks for it.
    Asked,
    /// Nobody asks for it.
    NotAsked,
    /// This says no, which wins over whoever says yes.
    OptedOut(&'static str),
}

/// Decides by label and annotations alone.
pub(super) fn choose(subject: &Subject<'_>, warnings: &mut Warnings<'_>) -> Choice {
    let metadata = Metadata::of(subject.pod);
    let account = |name: &str| subject.service_account.get(name).map(String::as_str);
    let mut read = |given: Option<&str>, whose: &str| {
        let switched = given.map(|text| match text.trim() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(text),
        });
        match switched {
            Some(Err(text)) => {
                warnings.say(&format!(
                    "{whose} caios.coreweave.com/inject is {}, which is neither \"true\" nor \
                     \"false\", and is ignored",
                    quote(text)
                ));
                None
            }
            Some(Ok(switch)) => Some(switch),
            None => None,
        }
    };
    let by_pod = read(metadata.annotation("inject"), "the Pod's annotation");
    let by_label = read(metadata.label(), "the Pod's label");
    let by_account = read(account("inject"), "the ServiceAccount's annotation");

    if by_pod == Some(false) {
        return Choice::OptedOut("the Pod's annotation");
    }
    if by_label == Some(false) {
        return Choice::OptedOut("the Pod's label");
    }
    if by_account == Some(false) {
        return Choice::OptedOut("its ServiceAccount's annotation");
    }
    let names_audience = account("audience").is_some_and(|audience| !audience.trim().is_empty());
    if subject.required || by_label == Some(true) || by_account == Some(true) || names_audience {
        return Choice::Asked;
    }
    if by_pod == Some(true) {
        warnings.say(
            "caios.coreweave.com/inject has no effect as an annotation of a Pod: make it a label \
             of the Pod, or an annotation of its ServiceAccount",
        );
    }
    Choice::NotAsked
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::mutate::PodSecurity;

    fn chosen(
        account: &[(&str, &str)],
        annotation: Option<&str>,
        label: Option<&str>,
    ) -> (Choice, Vec<String>) {
        let service_account: BTreeMap<String, String> = account
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let pod = json!({"metadata": {
            "annotations": annotation.map(|value| json!({"caios.coreweave.com/inject": value})),
            "labels": label.map(|value| json!({"caios.coreweave.com/inject": value})),
        }});
        let subject = Subject {
            pod: &pod,
            service_account: &service_account,
            pod_security: PodSecurity::Privileged,
            required: label == Some("true"),
            draw: 0,
        };
        let mut warnings = Warnings::default();
        let choice = choose(&subject, &mut warnings);
        (choice, warnings.into_sentences())
    }

    #[test]
    fn a_no_wins_over_every_yes() {
        const YES: &[(&str, &str)] = &[("inject", "true")];
        const NO: &[(&str, &str)] = &[("inject", "false"), ("audience", "a")];
        const AUDIENCE: &[(&str, &str)] = &[("audience", "a")];
        let by_account = Choice::OptedOut("its ServiceAccount's annotation");
        let by_annotation = Choice::OptedOut("the Pod's annotation");
        let by_label = Choice::OptedOut("the Pod's label");
        for (account, annotation, label, expected) in [
            (&[][..], None, None, Choice::NotAsked),
            (YES, None, None, Choice::Asked),
            (AUDIENCE, None, None, Choice::Asked),
            (&[], None, Some("true"), Choice::Asked),
            (&[("audience", " ")], None, None, Choice::NotAsked),
            (NO, None, None, by_account),
            (NO, Some("true"), Some("true"), by_account),
            (YES, Some("false"), None, by_annotation),
            (YES, Some("false"), Some("true"), by_annotation),
            (YES, None, Some("false"), by_label),
        ] {
            assert_eq!(
                chosen(account, annotation, label),
                (expected, Vec::new()),
                "{account:?} {annotation:?} {label:?}"
            );
        }
    }

    #[test]
    fn a_value_that_is_neither_yes_nor_no_is_named_and_ignored() {
        let (choice, warnings) = chosen(&[("inject", "yes")], Some("no"), Some("1"));
        assert_eq!(choice, Choice::NotAsked);
        for (warning, (whose, value)) in warnings.iter().zip([
            ("the Pod's annotation", "`no`"),
            ("the Pod's label", "`1`"),
            ("the ServiceAccount's annotation", "`yes`"),
        ]) {
            assert!(
                warning.starts_with(whose) && warning.contains(value),
                "{warning}"
            );
        }
        assert_eq!(warnings.len(), 3);
    }

    #[test]
    fn a_pod_that_asks_by_an_annotation_is_told_how_to_ask() {
        let (choice, warnings) = chosen(&[], Some("true"), None);
        assert_eq!(choice, Choice::NotAsked);
        assert!(
            warnings[0].contains("make it a label of the Pod"),
            "{warnings:?}"
        );
    }
}
