//! How a Pod is to be injected: annotations, and the settings where they are silent or invalid.

use shared::contract::{ENROLL_CONTAINER, RELAY_CONTAINER};

use super::pod::{Metadata, Pod};
use super::settings::{Delivery, Settings};
use super::subject::Subject;
use super::volume::{Volume, VolumeChoice};
use super::warnings::{Warnings, quote};

/// The API server's own minimum for the life of a projected token, in seconds.
const MIN_TOKEN_EXPIRATION: u32 = 600;

/// Below it, listening needs a privilege on some nodes.
const MIN_PORT: u16 = 1024;

/// The longest audience that is taken, in bytes: each token carries it.
const MAX_AUDIENCE_BYTES: usize = 1024;

/// How a Pod is to be injected.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wishes<'a> {
    /// Whom the token is for.
    pub(super) audience: &'a str,
    /// The token's life, in seconds.
    pub(super) token_expiration: u32,
    /// How the Pod reaches its agent.
    pub(super) delivery: Delivery,
    /// The volume with the agent's sockets.
    pub(super) volume: Volume,
    /// Where the agent listens in the Pod.
    pub(super) port: u16,
    /// The names of containers that are left as they are.
    pub(super) skipped: Vec<&'a str>,
}

impl<'a> Wishes<'a> {
    /// Reads the annotations; what makes no sense is warned of and counts as absent.
    pub(super) fn read(
        subject: &Subject<'a>,
        pod: &Pod<'a>,
        settings: &'a Settings,
        warnings: &mut Warnings<'_>,
    ) -> Self {
        let on_pod = |name: &str| {
            let given = Metadata::of(subject.pod).annotation(name);
            given.map(|given| ("Pod", given))
        };
        let on_account = |name: &str| {
            let given = subject.service_account.get(name);
            given.map(|given| ("ServiceAccount", given.as_str()))
        };

        let expected = "text without spaces, of at most 1024 bytes";
        let audience = read(
            on_account("audience"),
            "audience",
            expected,
            audience,
            warnings,
        );
        let audience = audience.unwrap_or(&settings.audience);

        let on_both = |name: &str| [on_pod(name), on_account(name)];
        let name = "token-expiration";
        let expected = "a number of seconds, 600 or more";
        let token_expiration = first(on_both(name), name, expected, seconds, warnings)
            .unwrap_or_else(|| spread(settings.token_expiration, subject.draw));

        let expected = "a port from 1024 to 65535";
        let port = read(on_pod("port"), "port", expected, port, warnings);
        let expected = "`handoff`, `relay` or `direct`";
        let delivery = read(on_pod("delivery"), "delivery", expected, delivery, warnings);

        let (name, expected) = ("volume", "`hostPath`, `csi` or `auto`");
        let asked = first(on_both(name), name, expected, volume, warnings);
        let (name, expected) = ("wait-for-credentials", "`true` or `false`");
        let waits = first(on_both(name), name, expected, switch, warnings);
        let volume = Volume::decide(asked, waits, subject, settings, warnings);

        let skipped = on_pod("skip-containers").map_or("", |(_, list)| list);
        let skipped = self::skipped(skipped, pod, warnings);

        let wishes = Self {
            audience,
            token_expiration,
            delivery: delivery.unwrap_or_else(|| usual_delivery(pod, settings)),
            volume,
            port: port.unwrap_or(settings.port),
            skipped,
        };
        wishes.warn(pod, settings, warnings);
        wishes
    }

    /// Warns of wishes that can be granted and may surprise.
    fn warn(&self, pod: &Pod<'_>, settings: &Settings, warnings: &mut Warnings<'_>) {
        if settings.api_audiences.contains(self.audience) {
            warnings.say(&format!(
                "the token's audience {} is also the API server's: who has the token can use the \
                 cluster; name another in the ServiceAccount's caios.coreweave.com/audience",
                quote(self.audience)
            ));
        }
        if self.audience != settings.audience
            && !settings.additional_audiences.contains(self.audience)
        {
            warnings.say(&format!(
                "the agents do not accept the audience {} of this ServiceAccount, so the Pod will \
                 not start: the admin must add it to config.additionalAudiences of the chart",
                quote(self.audience)
            ));
        }
        match self.delivery {
            Delivery::Handoff => {
                let class = runtime_class(pod);
                if class.is_some_and(|class| settings.relay_runtime_classes.contains(class)) {
                    warnings.say(&format!(
                        "runtime class {} cannot hand a listener over: remove the annotation \
                         caios.coreweave.com/delivery, or caios-enroll will fail",
                        quote(class.unwrap_or(""))
                    ));
                }
            }
            Delivery::Relay | Delivery::Direct => {}
        }
        if self.delivery == Delivery::Relay && pod.at("/hostNetwork") == Some(&true.into()) {
            warnings.say(&format!(
                "with hostNetwork its relay listens on port {} of the node, where one Pod can: if \
                 several run on a node, give each a caios.coreweave.com/port of its own",
                self.port
            ));
        }
    }
}

/// The Pod's runtime class.
pub(super) fn runtime_class<'a>(pod: &Pod<'a>) -> Option<&'a str> {
    pod.text("/runtimeClassName")
}

/// Draws a life between eleven twelfths of `longest` and all of it, both in seconds.
fn spread(longest: u32, draw: u32) -> u32 {
    let widths = u64::from(longest / 12) + 1;
    let less = u32::try_from((u64::from(draw) * widths) >> u32::BITS).unwrap_or(0);
    longest.saturating_sub(less).max(MIN_TOKEN_EXPIRATION)
}

/// Reads an annotation, given with the kind of object that has it; one that makes no sense is warned of
/// and counts as absent.
fn read<'a, T>(
    given: Option<(&str, &'a str)>,
    name: &str,
    expected: &str,
    read: impl Fn(&'a str) -> Option<T>,
    warnings: &mut Warnings<'_>,
) -> Option<T> {
    let (whose, value) = given?;
    let valid = read(value.trim());
    if valid.is_none() {
        warnings.say(&format!(
            "the {whose}'s annotation caios.coreweave.com/{name} is {} and is ignored: it must be \
             {expected}",
            quote(value)
        ));
    }
    valid
}

/// Reads an annotation that several objects may have: the first that makes sense counts, and each that
/// makes none is warned of.
fn first<'a, T>(
    given: [Option<(&str, &'a str)>; 2],
    name: &str,
    expected: &str,
    parse: impl Fn(&'a str) -> Option<T>,
    warnings: &mut Warnings<'_>,
) -> Option<T> {
    let [first, second] = given.map(|given| read(given, name, expected, &parse, warnings));
    first.or(second)
}

fn seconds(given: &str) -> Option<u32> {
    let seconds = given.parse().ok();
    seconds.filter(|seconds| *seconds >= MIN_TOKEN_EXPIRATION)
}

fn port(given: &str) -> Option<u16> {
    given.parse().ok().filter(|port| *port >= MIN_PORT)
}

fn switch(given: &str) -> Option<bool> {
    given.parse().ok()
}

fn volume(name: &str) -> Option<VolumeChoice> {
    match name {
        "hostPath" => Some(VolumeChoice::HostPath),
        "csi" => Some(VolumeChoice::Csi),
        "auto" => Some(VolumeChoice::Auto),
        _ => None,
    }
}

fn audience(given: &str) -> Option<&str> {
    let audience = given.trim();
    let is_text = !audience.is_empty()
        && audience.len() <= MAX_AUDIENCE_BYTES
        && !audience
            .contains(|character: char| character.is_whitespace() || character.is_control());
    is_text.then_some(audience)
}

fn delivery(name: &str) -> Option<Delivery> {
    match name {
        "handoff" => Some(Delivery::Handoff),
        "relay" => Some(Delivery::Relay),
        "direct" => Some(Delivery::Direct),
        _ => None,
    }
}

fn usual_delivery(pod: &Pod<'_>, settings: &Settings) -> Delivery {
    match runtime_class(pod) {
        Some(class) if settings.relay_runtime_classes.contains(class) => Delivery::Relay,
        _ => settings.delivery,
    }
}

fn skipped<'a>(list: &'a str, pod: &Pod<'_>, warnings: &mut Warnings<'_>) -> Vec<&'a str> {
    let named: Vec<_> = list
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let is_container = |name: &str| pod.containers.iter().any(|it| it.name == name);
    let is_ours = |name: &str| [ENROLL_CONTAINER, RELAY_CONTAINER].contains(&name);
    let mut unknown = named
        .iter()
        .filter(|name| is_ours(name) || !is_container(name));
    if let Some(first) = unknown.next() {
        let more = match unknown.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        warnings.say(&format!(
            "the Pod's annotation caios.coreweave.com/skip-containers names {}{more}, and the Pod \
             has no such container",
            quote(first)
        ));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_drawn_from_the_last_twelfth() {
        let (mut least, mut most) = (u32::MAX, 0);
        for step in 0..=1000 {
            let life = spread(86_400, step * (u32::MAX / 1000));
            (least, most) = (least.min(life), most.max(life));
        }
        assert_eq!((least, most), (79_200, 86_400));
    }

    #[test]
    fn no_draw_goes_below_what_the_api_server_takes() {
        for draw in [0, 1, u32::MAX / 2, u32::MAX] {
            assert_eq!(spread(600, draw), 600);
            assert!(spread(u32::MAX, draw) >= u32::MAX - u32::MAX / 12);
        }
    }

    #[test]
    fn an_audience_is_one_word_of_a_sensible_length() {
        assert_eq!(
            audience(" https://coreweave.com/iam "),
            Some("https://coreweave.com/iam")
        );
        for given in ["", "  ", "a b", "a\nb", "a\u{7f}", &"a".repeat(1025)] {
            assert_eq!(audience(given), None, "{given:?}");
        }
    }
}
