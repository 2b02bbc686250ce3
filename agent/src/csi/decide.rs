//! Decides on what the kubelet asks for: a pure function of the request and the settings.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use shared::contract::{ANNOTATION_PREFIX, MAX_TOKEN_BYTES};
use zeroize::Zeroizing;

use super::message::PublishRequest;

/// The longest volume id, in bytes (`csi.proto`: 128).
const MAX_ID_BYTES: usize = 128;
/// The longest label of DNS, as which the kubelet accepts the name of a volume.
const MAX_LABEL_BYTES: usize = 63;
/// What the kubelet puts beside what the Pod's volume says; the Pod cannot set these
/// (`pkg/volume/csi`: the kubelet's own entries win).
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";
const POD_UID: &str = "csi.storage.k8s.io/pod.uid";
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
/// The last directories of every target.
const VOLUMES: &str = "volumes";
const PLUGIN: &str = "kubernetes.io~csi";
const MOUNT: &str = "mount";

/// Where a volume is: `<pods>/<pod>/volumes/kubernetes.io~csi/<name>/mount`. Both parts are single
/// names: no slash, no dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The Pod's uid.
    pub(crate) pod: String,
    /// What the Pod calls the volume.
    pub(crate) name: String,
}

/// A volume that is to be published.
pub(crate) struct Plan {
    /// Its id.
    pub(crate) volume: String,
    /// Where it is to be.
    pub(crate) place: Place,
    /// The Pod's token.
    pub(crate) token: Zeroizing<String>,
    /// Whether the Pod may not start without credentials.
    pub(crate) wait: bool,
}

/// Why a request is refused. The text ends in an Event of the Pod; it holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

fn refused<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(why.into()))
}

/// The names of the directories that lead from the kubelet's `pods` to the parent of the volume, and
/// that of the volume in it.
pub(super) fn path(place: &Place) -> ([&str; 4], &'static str) {
    ([&place.pod, VOLUMES, PLUGIN, &place.name], MOUNT)
}

/// Decides on a request to publish. `pods` is the kubelet's directory of Pods, and `wait` what holds
/// where the volume does not say whether its Pod waits for credentials.
///
/// # Errors
/// When the request is not one that a kubelet makes for an inline volume of a Pod, or comes without
/// a token.
pub(crate) fn publish(request: PublishRequest, pods: &Path, wait: bool) -> Result<Plan, Refusal> {
    let PublishRequest {
        volume_id,
        target_path,
        volume_capability,
        readonly,
        secrets,
        volume_context: context,
    } = request;
    let tokens = secrets.into_iter().chain(context.clone());
    let tokens = tokens.filter(|(key, _)| key == TOKENS);
    let tokens = tokens.map(|(_, text)| Zeroizing::new(text)).next();
    let of_volume = |name: &str| context.get(&format!("{ANNOTATION_PREFIX}{name}"));

    check_id(&volume_id)?;
    if context.get(EPHEMERAL).map(String::as_str) != Some("true") {
        return refused("the volume must be an inline volume of a Pod, not a PersistentVolume");
    }
    if volume_capability.is_some_and(|capability| capability.block.is_some()) {
        return refused("the volume is a directory and cannot be had as a block device");
    }
    if !readonly {
        return refused("the volume must be read-only: add `readOnly: true` to it in the Pod");
    }
    let place = place(&target_path, pods)?;
    if context.get(POD_UID) != Some(&place.pod) {
        return refused(
            "the path is not that of the Pod which the request names: see that the CSIDriver \
             object has `podInfoOnMount: true`",
        );
    }
    let wait = match of_volume("wait-for-credentials").map(String::as_str) {
        None => wait,
        Some("true") => true,
        Some("false") => false,
        Some(_) => {
            return refused(
                "the volume's attribute caios.coreweave.com/wait-for-credentials must be \
                 \"true\" or \"false\"",
            );
        }
    };
    let Some(tokens) = tokens else {
        return refused(
            "the kubelet sent no token: see that the CSIDriver object has `tokenRequests`",
        );
    };
    let token = choose(&tokens, of_volume("audience").map(String::as_str))?;
    Ok(Plan {
        volume: volume_id,
        place,
        token,
        wait,
    })
}

/// Decides on a request to unpublish: where the volume is.
///
/// # Errors
/// When the path is none of a volume.
pub(crate) fn unpublish(volume_id: &str, target_path: &str, pods: &Path) -> Result<Place, Refusal> {
    check_id(volume_id)?;
    place(target_path, pods)
}

fn check_id(id: &str) -> Result<(), Refusal> {
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
        return refused("the volume's id must have 1 to 128 bytes and no control characters");
    }
    Ok(())
}

/// Reads where a volume is, by text alone: whoever opens it follows no link.
fn place(target: &str, pods: &Path) -> Result<Place, Refusal> {
    let wrong = || {
        Refusal(format!(
            "the path must be {}/<uid>/{VOLUMES}/{PLUGIN}/<volume>/{MOUNT}: see that \
             `--kubelet-directory` is the kubelet's `--root-dir`",
            pods.display()
        ))
    };
    let pods = pods.to_str().ok_or_else(wrong)?;
    let rest = target.strip_prefix(pods).ok_or_else(wrong)?;
    let rest = rest.strip_prefix('/').ok_or_else(wrong)?;
    let names: Vec<_> = rest.split('/').collect();
    match names.as_slice() {
        [pod, VOLUMES, PLUGIN, name, MOUNT] if is_label(pod) && is_label(name) => Ok(Place {
            pod: (*pod).to_owned(),
            name: (*name).to_owned(),
        }),
        _ => Err(wrong()),
    }
}

/// Whether this is a uid or a volume's name: letters, digits and `-`.
fn is_label(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=MAX_LABEL_BYTES).contains(&text.len()) && text.bytes().all(known)
}

#[derive(Deserialize)]
struct Given {
    #[serde(deserialize_with = "wiped")]
    token: Zeroizing<String>,
}

fn wiped<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

/// Takes the token for `audience` out of what the kubelet sent. The API server's own audience is the
/// empty one in a CSIDriver.
fn choose(tokens: &str, audience: Option<&str>) -> Result<Zeroizing<String>, Refusal> {
    let Ok(mut given) = serde_json::from_str::<BTreeMap<String, Given>>(tokens) else {
        return refused("what the kubelet sent as tokens makes no sense");
    };
    let chosen = match audience {
        Some(audience) => given.remove(audience).or_else(|| given.remove("")),
        None if given.len() == 1 => given.pop_first().map(|(_, token)| token),
        None => None,
    };
    let Some(Given { token }) = chosen else {
        return refused(match audience {
            Some(audience) => format!(
                "the kubelet sent no token for the audience {audience:?}: the admin must add it to \
                 `tokenRequests` of the CSIDriver object"
            ),
            None => "the kubelet sent tokens for several audiences: name one in the volume's \
                     attribute caios.coreweave.com/audience"
                .to_owned(),
        });
    };
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return refused(format!("a token must have 1 to {MAX_TOKEN_BYTES} bytes"));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::super::message::Empty;
    use super::super::message::VolumeCapability;
    use super::*;

    const PODS: &str = "/var/lib/kubelet/pods";
    const TARGET: &str =
        "/var/lib/kubelet/pods/0f1e-22/volumes/kubernetes.io~csi/caios-agent/mount";
    const CANARY: &str = "canary.token.text";

    fn request() -> PublishRequest {
        let tokens =
            format!("{{\"aud\": {{\"token\": \"{CANARY}\", \"expirationTimestamp\": \"t\"}}}}");
        PublishRequest {
            volume_id: "csi-1".to_owned(),
            target_path: TARGET.to_owned(),
            volume_capability: Some(VolumeCapability::default()),
            readonly: true,
            secrets: [(TOKENS.to_owned(), tokens)].into(),
            volume_context: [(EPHEMERAL, "true"), (POD_UID, "0f1e-22")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        }
    }

    fn set(request: &mut PublishRequest, key: &str, value: &str) {
        request
            .volume_context
            .insert(key.to_owned(), value.to_owned());
    }

    fn decided(request: PublishRequest) -> Result<Plan, Refusal> {
        publish(request, Path::new(PODS), false)
    }

    #[test]
    fn a_request_of_a_kubelet_is_a_plan_with_its_token_from_either_field() {
        let plan = decided(request()).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(plan.token.as_str(), CANARY);
        assert!(!plan.wait);
        let place = Place {
            pod: "0f1e-22".to_owned(),
            name: "caios-agent".to_owned(),
        };
        assert_eq!(plan.place, place);
        let mut older = request();
        older
            .volume_context
            .extend(std::mem::take(&mut older.secrets));
        assert_eq!(
            decided(older)
                .unwrap_or_else(|why| panic!("{why}"))
                .token
                .as_str(),
            CANARY
        );
        assert_eq!(unpublish("csi-1", TARGET, Path::new(PODS)), Ok(place));
    }

    #[test]
    fn no_path_but_that_of_a_volume_of_that_pod_is_taken() {
        for hostile in [
            "",
            "/",
            "/etc",
            "mount",
            "/var/lib/kubelet/pods",
            "/var/lib/kubelet/pods/",
            "/var/lib/kubelet/pods/0f1e-22/volumes/kubernetes.io~csi/caios-agent",
            "/var/lib/kubelet/pods/0f1e-22/volumes/kubernetes.io~csi/caios-agent/mount/",
            "/var/lib/kubelet/pods/0f1e-22/volumes/kubernetes.io~csi/caios-agent/mount/x",
            "/var/lib/kubelet/pods/0f1e-22/volumes/kubernetes.io~csi/../mount",
            "/var/lib/kubelet/pods/0f1e-22/volumes/kubernetes.io~csi/./mount",
            "/var/lib/kubelet/pods/0f1e-22/volumes/kubernetes.io~csi//mount",
            "/var/lib/kubelet/pods/0f1e-22/volumes/kubernetes.io~secret/caios-agent/mount",
            "/var/lib/kubelet/pods/../pods/0f1e-22/volumes/kubernetes.io~csi/caios-agent/mount",
            "/var/lib/kubelet/pods/../volumes/kubernetes.io~csi/caios-agent/mount",
            "/var/lib/kubelet/pods/other/volumes/kubernetes.io~csi/caios-agent/mount",
            "/var/lib/kubelet/podsx/0f1e-22/volumes/kubernetes.io~csi/caios-agent/mount",
            "/var/lib/kubelet/pods/0f1e-22\0/volumes/kubernetes.io~csi/caios-agent/mount",
            "/var/lib/kubelet/pods/0f1e-22/volumes/kubernetes.io~csi/a\nb/mount",
            "/run/kubelet/pods/0f1e-22/volumes/kubernetes.io~csi/caios-agent/mount",
        ] {
            let mut request = request();
            request.target_path = hostile.to_owned();
            assert!(decided(request).is_err(), "{hostile}");
        }
    }

    type Change = fn(&mut PublishRequest);

    #[test]
    fn what_is_no_inline_read_only_directory_is_refused_with_what_to_do() {
        let changes: [(Change, &str); 9] = [
            (|it| it.readonly = false, "readOnly: true"),
            (|it| set(it, EPHEMERAL, "false"), "inline volume"),
            (
                |it| drop(it.volume_context.remove(EPHEMERAL)),
                "inline volume",
            ),
            (
                |it| drop(it.volume_context.remove(POD_UID)),
                "podInfoOnMount",
            ),
            (|it| set(it, POD_UID, "another"), "not that of the Pod"),
            (|it| it.volume_id.clear(), "the volume's id"),
            (|it| it.volume_id = "a\nb".to_owned(), "the volume's id"),
            (
                |it| {
                    it.volume_capability = Some(VolumeCapability {
                        block: Some(Empty {}),
                    });
                },
                "block device",
            ),
            (
                |it| set(it, "caios.coreweave.com/wait-for-credentials", "yes"),
                "wait-for-credentials",
            ),
        ];
        for (change, named) in changes {
            let mut request = request();
            change(&mut request);
            let Err(Refusal(why)) = decided(request) else {
                panic!("not refused: {named}")
            };
            assert!(why.contains(named), "{why}");
            assert!(!why.contains(CANARY), "{why}");
        }
    }

    #[test]
    fn the_volume_says_whether_its_pod_waits() {
        for (says, by_default, waits) in [
            (None, true, true),
            (Some("false"), true, false),
            (Some("true"), false, true),
        ] {
            let mut request = request();
            if let Some(says) = says {
                set(
                    &mut request,
                    "caios.coreweave.com/wait-for-credentials",
                    says,
                );
            }
            let plan = publish(request, Path::new(PODS), by_default);
            assert_eq!(plan.unwrap_or_else(|why| panic!("{why}")).wait, waits);
        }
    }

    #[test]
    fn the_token_of_the_named_audience_is_taken_and_a_lack_is_said() {
        let two = "{\"a\": {\"token\": \"of a\"}, \"\": {\"token\": \"of the API server\"}}";
        let chosen = |audience| choose(two, audience).map(|token| token.to_string());
        assert_eq!(chosen(Some("a")), Ok("of a".to_owned()));
        assert_eq!(chosen(Some("other")), Ok("of the API server".to_owned()));
        let several = chosen(None).unwrap_err().to_string();
        assert!(
            several.contains("caios.coreweave.com/audience"),
            "{several}"
        );
        let one = "{\"a\": {\"token\": \"of a\"}}";
        assert!(choose(one, None).is_ok());
        let lacking = choose(one, Some("b")).unwrap_err().to_string();
        assert!(lacking.contains("tokenRequests"), "{lacking}");
        for senseless in ["", "[]", "{\"a\": 1}", "{\"a\": {\"token\": \"\"}}"] {
            assert!(choose(senseless, Some("a")).is_err(), "{senseless}");
        }
        let mut without = request();
        without.secrets.clear();
        let Err(Refusal(why)) = decided(without) else {
            panic!("not refused")
        };
        assert!(why.contains("tokenRequests"), "{why}");
    }
}
