//! The machine's clock, set as an administrator or NTP sets it.

use anyhow::ensure;
use nix::sys::time::{TimeSpec, TimeValLike as _};
use nix::time::{ClockId, clock_gettime, clock_settime};
use tests::node::Node;

const HOUR: i64 = 3600;

/// Sets the clock forth, or back.
fn jump(hours: i64) -> anyhow::Result<()> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
    let then = now + TimeSpec::seconds(hours * HOUR);
    Ok(clock_settime(ClockId::CLOCK_REALTIME, then)?)
}

/// A Pod's keys are served over jumps of an hour in both directions, and nothing is exchanged.
pub(crate) fn jumps() -> anyhow::Result<()> {
    let node = Node::new()?;
    let agent = node.agent(&[])?;
    let pod = node.pod("trainer", "train-0")?;
    // A Pod of some hours' age, whose token the kubelet has not yet had to replace.
    let mut token = node.token(&pod);
    token.expires_in = 24 * HOUR;
    pod.put_token(&node.mint(&token))?;
    jump(2)?;
    let enrolled = pod.enroll("30s")?;
    let said = String::from_utf8_lossy(&enrolled.stderr);
    ensure!(enrolled.status.success(), "caios-enroll failed: {said}");
    let keys = pod.credentials()?;
    ensure!(keys.status == 200, "{keys:?}");
    for hours in [1, -1, -1, 1] {
        jump(hours)?;
        let served = pod.credentials()?;
        ensure!(
            (served.status, &served.body) == (200, &keys.body),
            "after a jump of {hours} h: {} {}",
            served.status,
            served.body
        );
    }
    let exchanges = node.standin().calls().exchanges();
    ensure!(exchanges == 1, "{exchanges} exchanges");
    let problems = agent.count("caios_agent_panics_total");
    ensure!(problems == 0, "{problems} panics");
    jump(-2)
}
