//! What the person who applies the Pod is told: each warning short, and not one per container.

use std::collections::BTreeMap;

/// The longest warning, in bytes. The API server cuts each at 256 once they are many.
const MAX_BYTES: usize = 250;

/// How much of a name or value is repeated, in bytes: names of containers have up to 63.
const MAX_QUOTED_BYTES: usize = 63;

/// Something about containers that their owner should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Note {
    DirectExchange,
    OtherProvider,
    OtherTokenFile,
    OccupiedPath,
    StaticKeys,
    Profile,
    WebIdentity,
    AuthorizationToken,
    ProxyExceptionsElsewhere,
    TakenPort,
}

impl Note {
    /// What stands behind the containers' names, and what to do. The first four are why a container
    /// is left as it is.
    const fn text(self) -> &'static str {
        match self {
            Self::DirectExchange => {
                "not injected: its credentials URI calls CoreWeave directly, as the earlier \
                 pod-identity-webhook sets it; uninstall that or remove the variable, then \
                 recreate the Pod"
            }
            Self::OtherProvider => {
                "not injected: it sets AWS_CONTAINER_CREDENTIALS_FULL_URI or ..._RELATIVE_URI \
                 itself; remove the variable to use the agent"
            }
            Self::OtherTokenFile => {
                "not injected: it sets AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE to another file; \
                 remove the variable to use the agent"
            }
            Self::OccupiedPath => {
                "not injected: it mounts something of its own at or below the directory of the \
                 agent's token or socket; mount that elsewhere"
            }
            Self::StaticKeys => {
                "AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is set and wins over the agent's \
                 credentials; remove both to use the agent"
            }
            Self::Profile => {
                "AWS_PROFILE is set, and credentials of that profile win over the agent's; \
                 remove it, or keep credentials out of the profile"
            }
            Self::WebIdentity => {
                "AWS_WEB_IDENTITY_TOKEN_FILE is set and wins over the agent's credentials; \
                 remove it and AWS_ROLE_ARN to use the agent"
            }
            Self::AuthorizationToken => {
                "AWS_CONTAINER_AUTHORIZATION_TOKEN is set, and some SDKs send it to the agent \
                 in place of the Pod's token; remove it"
            }
            Self::ProxyExceptionsElsewhere => {
                "NO_PROXY comes from elsewhere (valueFrom) and is left as it is; see that it has \
                 127.0.0.1, or some SDKs send the Pod's token to the proxy"
            }
            Self::TakenPort => {
                "it declares the port on which the agent listens in this Pod; set another one \
                 with the annotation caios.coreweave.com/port"
            }
        }
    }
}

/// The warnings so far.
#[derive(Debug, Default)]
pub(super) struct Warnings<'a> {
    sentences: Vec<String>,
    notes: BTreeMap<Note, Vec<&'a str>>,
}

impl<'a> Warnings<'a> {
    /// Adds a warning about the Pod.
    pub(super) fn say(&mut self, sentence: &str) {
        self.sentences.push(cut(sentence, MAX_BYTES).to_owned());
    }

    /// Adds a warning about a container.
    pub(super) fn note(&mut self, note: Note, container: &'a str) {
        self.notes.entry(note).or_default().push(container);
    }

    /// All warnings: those about the Pod, then one for each thing to know about containers.
    pub(super) fn into_sentences(self) -> Vec<String> {
        let grouped = self.notes.into_iter().map(|(note, names)| {
            let text = note.text();
            let mut room =
                MAX_BYTES.saturating_sub(text.len() + "containers  and 9999 more: ".len());
            let mut listed = Vec::new();
            for name in &names {
                let quoted = quote(name);
                let Some(left) = room.checked_sub(quoted.len() + ", ".len()) else {
                    break;
                };
                room = left;
                listed.push(quoted);
            }
            let subject = match (names.len(), listed.len()) {
                (1, 1) => format!("container {}", listed.concat()),
                (all, 0) => format!("{all} containers"),
                (all, some) if all == some => format!("containers {}", listed.join(", ")),
                (all, some) => format!("containers {} and {} more", listed.join(", "), all - some),
            };
            format!("{subject}: {text}")
        });
        self.sentences.into_iter().chain(grouped).collect()
    }
}

/// A name or value of the user's, short and on one line, in backticks. Warnings travel in HTTP
/// headers, and the API server drops those with control characters.
pub(super) fn quote(text: &str) -> String {
    let short = cut(text, MAX_QUOTED_BYTES);
    let more = if short.len() < text.len() { "…" } else { "" };
    let escaped: String = short.chars().flat_map(char::escape_debug).collect();
    let shown = cut(&escaped, MAX_QUOTED_BYTES);
    format!("`{shown}{more}`")
}

/// The beginning of a text, of at most `bytes` bytes and whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTES: [Note; 10] = [
        Note::DirectExchange,
        Note::OtherProvider,
        Note::OtherTokenFile,
        Note::OccupiedPath,
        Note::StaticKeys,
        Note::Profile,
        Note::WebIdentity,
        Note::AuthorizationToken,
        Note::ProxyExceptionsElsewhere,
        Note::TakenPort,
    ];

    #[test]
    fn containers_with_the_same_trouble_share_a_warning() {
        let mut warnings = Warnings::default();
        warnings.note(Note::Profile, "a");
        warnings.note(Note::StaticKeys, "a");
        warnings.note(Note::Profile, "b");
        let sentences = warnings.into_sentences();
        assert_eq!(sentences.len(), 2);
        assert!(sentences[0].starts_with("container `a`: AWS_ACCESS_KEY_ID"));
        assert!(sentences[1].starts_with("containers `a`, `b`: AWS_PROFILE"));
    }

    #[test]
    fn fifty_containers_fit_into_one_warning_whatever_their_names() {
        let long = "n".repeat(63);
        let names: Vec<String> = (0..50).map(|number| format!("worker-{number}")).collect();
        for note in NOTES {
            let mut warnings = Warnings::default();
            for name in &names {
                warnings.note(note, name);
            }
            let sentences = warnings.into_sentences();
            let [sentence] = sentences.as_slice() else {
                panic!("{sentences:?}")
            };
            assert!(sentence.contains("`worker-0`, ") && sentence.contains(" more: "));
            assert!(sentence.len() <= MAX_BYTES, "{sentence}");

            let mut warnings = Warnings::default();
            warnings.note(note, &long);
            let [sentence] = &warnings.into_sentences()[..] else {
                panic!("one note is one warning")
            };
            assert!(sentence.len() <= MAX_BYTES, "{sentence}");
        }
    }

    #[test]
    fn foreign_text_is_short_and_has_no_control_characters() {
        assert_eq!(quote("a\nb\u{7f}"), "`a\\nb\\u{7f}`");
        assert_eq!(quote("yes"), "`yes`");
        let long = quote(&"ü".repeat(100));
        assert!(long.len() < 70 && long.ends_with("…`"), "{long}");
        let escaped = quote(&"\n".repeat(60));
        assert!(escaped.len() < 70, "{escaped}");
    }
}
