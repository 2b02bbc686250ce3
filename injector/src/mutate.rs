//! Decides what a Pod gets: a pure function of the Pod, its ServiceAccount's annotations, its
//! namespace and the settings.
//!
//! The Pod is only read. What it gets is a list of `add` operations, so that whatever else is in it,
//! known or not, stays as it is.

mod choice;
mod container;
mod injection;
mod list;
mod obstacle;
mod parts;
mod patch;
mod pod;
#[cfg(test)]
mod properties;
mod proxy;
mod settings;
mod subject;
mod system;
mod user;
mod verdict;
mod volume;
mod warnings;
mod wishes;

use shared::contract::{AGENT_VOLUME, ENROLL_CONTAINER, RELAY_CONTAINER, TOKEN_VOLUME};

pub use settings::{Delivery, EnrolmentMode, PullPolicy, Resources, Settings};
pub use subject::{PodSecurity, Subject};
pub use verdict::{Decision, Verdict};
pub use volume::VolumeChoice;

use choice::{Choice, choose};
use container::Container;
use injection::Injection;
use obstacle::Obstacle;
use parts::Connector;
use patch::Patch;
use pod::{Metadata, Pod};
use warnings::Warnings;
use wishes::Wishes;

/// Decides what a Pod gets. Whatever the Pod is, this ends and does not panic.
///
/// Applied to a Pod that has it all it adds nothing, and to one that another webhook has changed
/// meanwhile, what is missing.
pub fn mutate(subject: &Subject<'_>, settings: &Settings) -> Verdict {
    let mut warnings = Warnings::default();
    let mut refusal = None;
    let (decision, patch) = match choose_and_inject(subject, settings, &mut warnings) {
        Ok(decided) => decided,
        Err(obstacle) if subject.required => {
            refusal = Some(format!(
                "the Pod must not start without CAIOS credentials, as its label \
                 caios.coreweave.com/inject says, and cannot be given any: {obstacle}"
            ));
            (Decision::Refused, Patch::default())
        }
        Err(obstacle) => {
            warnings.say(&format!("no CAIOS credentials for this Pod: {obstacle}"));
            (Decision::Skipped, Patch::default())
        }
    };
    Verdict {
        decision,
        patch: patch.into_operations(),
        warnings: warnings.into_sentences(),
        refusal,
    }
}

fn choose_and_inject<'a>(
    subject: &Subject<'a>,
    settings: &Settings,
    warnings: &mut Warnings<'a>,
) -> Result<(Decision, Patch), Obstacle<'a>> {
    if Metadata::of(subject.pod).is_mirror() {
        if subject.required {
            return Err(Obstacle::Mirror);
        }
        return Ok((Decision::NotAsked, Patch::default()));
    }
    match choose(subject, warnings) {
        Choice::NotAsked => Ok((Decision::NotAsked, Patch::default())),
        Choice::OptedOut(whose) if subject.required => Err(Obstacle::OptedOut(whose)),
        Choice::OptedOut(_) => Ok((Decision::OptedOut, Patch::default())),
        Choice::Asked => {
            let patch = inject(subject, settings, warnings)?;
            let decision = if patch.is_empty() {
                Decision::Unchanged
            } else {
                Decision::Injected
            };
            Ok((decision, patch))
        }
    }
}

fn inject<'a>(
    subject: &Subject<'a>,
    settings: &Settings,
    warnings: &mut Warnings<'a>,
) -> Result<Patch, Obstacle<'a>> {
    let pod = Pod::read(subject.pod)?;
    if system::is_windows(&pod) {
        return Err(Obstacle::Windows);
    }
    if let Some(class) = wishes::runtime_class(&pod)
        && settings.unsupported_runtime_classes.contains(class)
    {
        return Err(Obstacle::RuntimeClass(class));
    }
    let wishes = Wishes::read(subject, &pod, settings, warnings);
    let connector = Connector::new(&wishes, settings);
    let missing_volumes = missing_volumes(&pod, &wishes, settings)?;
    let connected = has_connector(&pod, connector.as_ref())?;

    let injection = Injection::new(&wishes, settings);
    let mut patch = Patch::default();
    let mut injected = false;
    for container in &pod.containers {
        if is_ours(container) || wishes.skipped.contains(&container.name) {
            continue;
        }
        if let Some(note) = injection.conflict(container) {
            warnings.note(note, container.name);
            continue;
        }
        injection.warn(container, warnings);
        injection.add(container, &mut patch);
        injected = true;
    }
    if !injected {
        return Err(Obstacle::NoContainer);
    }
    patch.append("/spec/volumes", pod.volumes, missing_volumes);
    if let Some(connector) = connector
        && !connected
    {
        // Last, for it moves the init containers that the other paths count.
        let container = connector.container(&pod, user::user(&pod), settings);
        patch.prepend("/spec/initContainers", pod.init_containers, container);
    }
    wishes.volume.warn(subject.pod_security, settings, warnings);
    Ok(patch)
}

fn is_ours(container: &Container<'_>) -> bool {
    [ENROLL_CONTAINER, RELAY_CONTAINER].contains(&container.name)
}

/// The volumes that the Pod does not have yet.
fn missing_volumes(
    pod: &Pod<'_>,
    wishes: &Wishes<'_>,
    settings: &Settings,
) -> Result<Vec<serde_json::Value>, Obstacle<'static>> {
    let named = |name: &str| {
        let mut volumes = pod.volumes.unwrap_or_default().iter();
        volumes.find(|volume| volume.get("name").is_some_and(|it| it == name))
    };
    let mut missing = Vec::new();
    match named(TOKEN_VOLUME) {
        None => missing.push(parts::token_volume(wishes)),
        Some(volume) if parts::is_token_volume(volume, wishes) => {}
        Some(_) => return Err(Obstacle::Volume(TOKEN_VOLUME)),
    }
    match named(AGENT_VOLUME) {
        None => missing.push(wishes.volume.render(wishes.audience, settings)),
        Some(volume) if wishes.volume.is(volume, wishes.audience, settings) => {}
        Some(_) => return Err(Obstacle::Volume(AGENT_VOLUME)),
    }
    Ok(missing)
}

/// Whether the Pod has the container that connects it, and none that only has its name.
fn has_connector<'a>(
    pod: &Pod<'a>,
    connector: Option<&Connector<'_>>,
) -> Result<bool, Obstacle<'a>> {
    let mut found = false;
    for container in pod.containers.iter().filter(|it| is_ours(it)) {
        let is_it = connector.is_some_and(|it| it.name == container.name && it.is(container));
        if !is_it {
            return Err(Obstacle::Container(container.name));
        }
        found = true;
    }
    Ok(found)
}
