//! What an agent must know of a Pod to serve listeners that the keeper has held meanwhile.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Mode;
use crate::workload::{Pod, PodUid};

/// The form of [`About`]. A reader refuses a newer one: it must not guess whose listener it has.
const VERSION: u8 = 1;

/// An enrolled Pod as the keeper's entry describes it. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) pod: Pod,
    /// The port of its listeners.
    pub(super) port: u16,
    pub(super) mode: Mode,
    /// The interfaces by which it was known to live when it enrolled: those that it has later may
    /// be none because it has ended.
    pub(super) interfaces: Vec<u32>,
    /// It is known to share the node's network namespace, and may share its listeners.
    pub(super) host_network: bool,
    /// When it enrolled. Of two entries for one Pod the later one counts.
    pub(super) since: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Written {
    v: u8,
    uid: String,
    name: String,
    namespace: String,
    service_account: String,
    port: u16,
    plain: bool,
    interfaces: Vec<u32>,
    #[serde(default)]
    host_network: bool,
    since: Timestamp,
}

impl About {
    /// Renders the entry.
    pub(super) fn write(&self) -> Vec<u8> {
        let written = Written {
            v: VERSION,
            uid: self.pod.uid.as_str().to_owned(),
            name: self.pod.name.clone(),
            namespace: self.pod.namespace.clone(),
            service_account: self.pod.service_account.clone(),
            port: self.port,
            plain: self.mode == Mode::Plain,
            interfaces: self.interfaces.clone(),
            host_network: self.host_network,
            since: self.since,
        };
        // Strings and numbers: nothing that could fail.
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// Reads an entry; `None` for one of a version that is not known here.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        (written.v == VERSION).then(|| Self {
            pod: Pod {
                uid: PodUid::new(&written.uid),
                name: written.name,
                namespace: written.namespace,
                service_account: written.service_account,
            },
            port: written.port,
            mode: if written.plain {
                Mode::Plain
            } else {
                Mode::Reown
            },
            interfaces: written.interfaces,
            host_network: written.host_network,
            since: written.since,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written_and_one_of_another_version_is_not() {
        let about = About {
            pod: Pod {
                uid: PodUid::new("uid"),
                name: "train-0".to_owned(),
                namespace: "team".to_owned(),
                service_account: "trainer".to_owned(),
            },
            port: 27169,
            mode: Mode::Plain,
            interfaces: vec![2],
            host_network: true,
            since: "2026-11-25T15:00:00Z".parse().unwrap(),
        };
        let written = about.write();
        assert_eq!(About::read(&written), Some(about));
        let newer = String::from_utf8(written)
            .unwrap()
            .replace("\"v\":1", "\"v\":2");
        assert_eq!(About::read(newer.as_bytes()), None);
    }
}
