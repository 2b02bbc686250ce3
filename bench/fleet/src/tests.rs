use std::time::Duration;

use clap::Parser as _;

use crate::day;
use crate::plan::Plan;
use crate::report;

fn plan(further: &[&str]) -> Plan {
    let small = ["fleet", "--nodes=4", "--identities=5", "--start-within=5m"];
    Plan::parse_from(small.into_iter().chain(further.iter().copied()))
}

#[tokio::test(start_paused = true)]
async fn a_day_without_an_outage_costs_one_exchange_for_each_half_life_and_no_error() {
    let plan = plan(&["--time=12h", "--outage=0s", "--upgrade-at=0s"]);
    let course = day::run(&plan).await.unwrap();
    assert_eq!((course.running.failed, course.starting.failed), (0, 0));
    let figures = report::figures(&plan, &course);
    // Jitter makes it a little more or less than one.
    assert!((0.9..1.2).contains(&figures.per_half_life), "{figures:?}");
    assert!(report::plot(&plan, &course).ends_with("</svg>\n"));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_exchanges_nothing() {
    // Before the first renewal is due: whatever is exchanged then is the upgrade's.
    let plan = plan(&["--time=2h", "--outage=0s", "--upgrade-at=1h"]);
    let course = day::run(&plan).await.unwrap();
    assert_eq!(course.running.failed, 0);
    assert!(course.running.answered > 50);
    assert_eq!(course.around_upgrade, (0, 0));
    assert_eq!(course.minted, 20);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_seen_by_no_pod() {
    let plan = plan(&[
        "--time=14h",
        "--outage-at=5h",
        "--outage=2h",
        "--upgrade-at=0s",
    ]);
    let course = day::run(&plan).await.unwrap();
    assert_eq!(course.running.failed, 0);
    assert!(course.running.answered > 100);
    // As long as the outage was, and jitter.
    assert!(course.fresh_after.unwrap() < Duration::from_hours(3));
    assert!(report::figures(&plan, &course).unreached > 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_all_nodes_exchanges_everything_anew() {
    let plan = plan(&[
        "--time=4h",
        "--outage=0s",
        "--upgrade-at=0s",
        "--restart-at=1h",
    ]);
    let course = day::run(&plan).await.unwrap();
    assert!(course.minted >= 40, "{}", course.minted);
    assert!(course.back_after.is_some());
}
