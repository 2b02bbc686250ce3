//! What is restarted, away, slow or lost while clients ask: none of their requests may fail, but for
//! those that a killed container had been given at that very moment.
//!
//! [`rows`](rows::ROWS) has a line for each event; `make survive` lets it happen as often as that says,
//! `make test` a tenth as often, at least once. Variables of the environment:
//!
//! | variable | what it does |
//! | --- | --- |
//! | `NODE_SURVIVE=full` | full counts, and outages of minutes |
//! | `ROWS=OOM,etcd` | only rows whose name has one of these in it |
//! | `SEED=17` | repeats the random events of the run that printed this number |
//! | `SOAK=2h` | random events alone, for so long |

mod loss;
mod node;
mod random;
mod rows;
mod scene;
mod table;
mod upstream;

use std::time::Duration;

use anyhow::ensure;
use tests::cluster::{Cluster, Demand, Load};

use self::table::Table;

/// Whether this is the full run: `NODE_SURVIVE=full`.
fn full() -> bool {
    std::env::var("NODE_SURVIVE").is_ok_and(|value| value == "full")
}

/// Whether a row is to run: `ROWS` has a part of its name, or is not set.
fn is_chosen(row: &str) -> bool {
    let chosen = std::env::var("ROWS");
    chosen.map_or(true, |parts| {
        parts.split(',').any(|part| row.contains(part))
    })
}

pub(crate) fn no_request_fails_whatever_is_restarted_or_away(
    cluster: &Cluster,
) -> anyhow::Result<()> {
    let namespace = cluster.workload_namespace("load")?;
    cluster.until_injected(&namespace, "trainer")?;
    let demand = Demand {
        pods: 20,
        with_sessions: 3,
        with_others: true,
        raw_interval: Duration::from_millis(if full() { 20 } else { 100 }),
        session_interval: Duration::from_millis(500),
    };
    let load = cluster.load(&namespace, demand)?;
    let mut table = Table::new(cluster, &load, &namespace);
    let soak = random::soak()?;
    if soak.is_none() {
        for row in rows::ROWS.iter().filter(|row| is_chosen(row.name)) {
            table.run(row)?;
        }
    }
    random::run(&mut table, soak)?;
    let failed = table.end();
    ensure!(failed.is_empty(), "{failed:#?}");
    one_exchange_for_all(cluster, &load, &namespace)?;
    load.end()?;
    // Its listeners are the only ones that are lost: no other clients may be there.
    if soak.is_none() && is_chosen(loss::NAME) {
        loss::run(cluster)?;
    }
    Ok(())
}

/// All clients are of one identity, whose key was never renewed.
fn one_exchange_for_all(cluster: &Cluster, load: &Load<'_>, namespace: &str) -> anyhow::Result<()> {
    let keys = load.counts()?.keys;
    ensure!(keys.len() == 1, "the clients have seen the keys {keys:?}");
    let exchanges = cluster.coreweave().exchanges(namespace);
    ensure!(exchanges == 1, "{exchanges} exchanges of one identity");
    Ok(())
}
