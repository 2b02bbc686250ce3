//! What the watch has shown.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;
use tokio::time::Instant;

use super::kind::{Key, Kind};

/// Longer than the pause between two tries of an interrupted watch: while those fail, each renews
/// this time.
const RECOVERY: Duration = Duration::from_mins(2);

/// What is kept of one object.
#[derive(Clone, Debug)]
pub(super) struct Known<V> {
    pub(super) value: V,
    /// When the API server made it, by its clock.
    pub(super) created: Option<Timestamp>,
}

/// Objects by name, up to a bound. What does not fit is simply not known.
pub(super) struct Memory<K: Kind> {
    objects: RwLock<HashMap<Key, Known<K::Value>>>,
    /// A new listing grows beside the old one, which answers until the listing is complete.
    listing: RwLock<Option<HashMap<Key, Known<K::Value>>>>,
    capacity: usize,
    synced: AtomicBool,
    failed: RwLock<Option<Instant>>,
}

impl<K: Kind> Memory<K> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            objects: RwLock::default(),
            listing: RwLock::default(),
            capacity,
            synced: AtomicBool::new(false),
            failed: RwLock::default(),
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Known<K::Value>> {
        read(&self.objects).get(key).cloned()
    }

    pub(super) fn len(&self) -> usize {
        read(&self.objects).len()
    }

    /// Whether a listing was complete once.
    pub(super) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Relaxed)
    }

    /// Whether the watch has failed lately and may still be interrupted: that it runs again shows
    /// only by what it brings, which may be nothing for hours.
    pub(super) fn is_interrupted(&self) -> bool {
        read(&self.failed).is_some_and(|failed| failed.elapsed() < RECOVERY)
    }

    /// The watch has failed.
    pub(super) fn interrupted(&self) {
        *write(&self.failed) = Some(Instant::now());
    }

    /// Takes over what the watch shows.
    pub(super) fn apply(&self, event: Event<kube::api::PartialObjectMeta<K::Object>>) {
        match event {
            Event::Init => *write(&self.listing) = Some(HashMap::new()),
            Event::InitApply(object) => {
                if let Some(listing) = write(&self.listing).as_mut() {
                    self.remember(listing, &object.metadata);
                }
            }
            Event::InitDone => {
                if let Some(mut listing) = write(&self.listing).take() {
                    listing.shrink_to_fit();
                    *write(&self.objects) = listing;
                }
                self.synced.store(true, Ordering::Relaxed);
                *write(&self.failed) = None;
            }
            Event::Apply(object) => {
                self.remember(&mut write(&self.objects), &object.metadata);
            }
            Event::Delete(object) => {
                if let Some(key) = key(&object.metadata) {
                    write(&self.objects).remove(&key);
                }
            }
        }
    }

    fn remember(&self, objects: &mut HashMap<Key, Known<K::Value>>, metadata: &ObjectMeta) {
        let Some(key) = key(metadata) else { return };
        if objects.len() < self.capacity || objects.contains_key(&key) {
            let known = Known {
                value: K::value(metadata),
                created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            };
            objects.insert(key, known);
        }
    }
}

fn key(metadata: &ObjectMeta) -> Option<Key> {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    Some(Key::new(namespace, metadata.name.as_deref()?))
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
