//! The machine's clock, set as an administrator or NTP sets it.

use anyhow::{Context as _, ensure};
use nix::sys::time::{TimeSpec, TimeValLike as _};
use nix::time::{ClockId, clock_gettime, clock_settime};
use tests::daemon::Daemon;

use crate::scenario::{exchanges, served, succeeded};

const HOUR: i64 = 3600;

/// Sets the clock forth, or back.
fn jump(hours: i64) -> anyhow::Result<()> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
    let then = now + TimeSpec::seconds(hours * HOUR);
    Ok(clock_settime(ClockId::CLOCK_REALTIME, then)?)
}

/// A Pod's keys are served over jumps of an hour in both directions, and nothing is exchanged.
pub(crate) fn jumps(daemon: Daemon<'_>) -> anyhow::Result<()> {
    let node = daemon.node();
    let agent = daemon.agent(&[])?;
    let pod = node.pod("clock", "clock-0")?;
    let mut token = node.token(&pod);
    // The injector's default. One that ends within the jump would have ended for the kubelet too.
    token.expires_in = 24 * HOUR;
    pod.put_token(&node.mint(&token))?;
    succeeded(&pod.enroll("30s")?)?;
    let keys = served(&pod)?;
    for hours in [1, -1, -1, 1] {
        jump(hours)?;
        let now = served(&pod).with_context(|| format!("after a jump of {hours} h"))?;
        ensure!(now == keys, "after a jump of {hours} h the keys are others");
    }
    let exchanges = exchanges(node, &pod);
    ensure!(exchanges == 1, "{exchanges} exchanges");
    ensure!(
        agent.count("caios_agent_panics_total") == 0,
        "the agent panicked"
    );
    Ok(())
}
