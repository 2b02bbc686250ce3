//! A virtual machine that boots a kernel, plays the scenarios and ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tests::guest::Report;
use tests::wait;

use crate::image::Kernel;

/// In one machine, boot included. Several times what an idle core needs.
const LIMIT: Duration = Duration::from_secs(240);
/// Lines of the console that a failure shows.
const SHOWN_LINES: usize = 300;

/// A machine that has ended.
pub(crate) struct Machine {
    console: PathBuf,
    pub(crate) reports: Vec<Report>,
}

impl Machine {
    /// Boots `kernel` in `place` and waits until the machine has ended.
    pub(crate) fn run(kernel: &Kernel, place: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(place)?;
        let (image, console, reports) = (
            place.join("initramfs"),
            place.join("console.log"),
            place.join("reports.log"),
        );
        kernel.pack(&image)?;
        fs::write(&reports, "")?;
        let command = command(kernel, &image, &console, &reports);
        let mut qemu = Qemu::start(command, &place.join("qemu.log"))?;
        let ended = qemu.ended();
        let _ = fs::remove_file(&image);
        let machine = Self {
            console,
            reports: read(&reports)?,
        };
        ended.with_context(|| machine.console())?;
        Ok(machine)
    }

    /// The end of what the kernel and all programs wrote.
    pub(crate) fn console(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(SHOWN_LINES);
        format!(
            "the end of {}:\n{}",
            self.console.display(),
            lines[first..].join("\n")
        )
    }
}

fn read(reports: &Path) -> anyhow::Result<Vec<Report>> {
    let text = fs::read_to_string(reports)?;
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("no report: {line}")))
        .collect()
}

/// Two processors that are computed: where a machine has virtualisation at all, it is often that of another
/// virtual machine and not to be relied on.
fn command(kernel: &Kernel, image: &Path, console: &Path, reports: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args([
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "1024",
    ]);
    command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
    for port in [console, reports] {
        command
            .arg("-serial")
            .arg(format!("file:{}", port.display()));
    }
    command.arg("-kernel").arg(&kernel.image);
    command.arg("-initrd").arg(image);
    let init = tests::guest::INIT;
    command
        .arg("-append")
        .arg(format!("console=ttyS0 quiet panic=-1 rdinit={init}"));
    command
}

/// The running machine. Killed when dropped.
struct Qemu(Child);

impl Qemu {
    fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log)?;
        command.stdin(Stdio::null());
        command.stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().context(
            "failed to start qemu-system-x86_64: install it with `tests/tools/fetch.sh qemu`",
        )?;
        Ok(Self(child))
    }

    fn ended(&mut self) -> anyhow::Result<()> {
        let mut status = None;
        wait::until("the machine has ended", LIMIT, || {
            status = self.0.try_wait().ok().flatten();
            status.is_some()
        })?;
        match status {
            Some(status) if status.success() => Ok(()),
            _ => bail!("qemu ended with {status:?}"),
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
