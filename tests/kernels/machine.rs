//! A virtual machine that boots a kernel, plays the scenarios and ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tests::guest::{INIT, Report};
use tests::wait;

use crate::image::Kernel;

/// For one machine, by the real clock. A quiet core computes it in a minute.
const LIMIT: Duration = Duration::from_mins(8);
/// Lines of the console that a failure shows.
const SHOWN_LINES: usize = 300;

/// A machine that has ended, and what it left in files.
pub(crate) struct Machine {
    place: PathBuf,
}

impl Machine {
    /// Boots `kernel` in `place` and waits until the machine has ended.
    pub(crate) fn run(kernel: &Kernel, place: &Path) -> anyhow::Result<Self> {
        let machine = Self {
            place: place.to_owned(),
        };
        fs::create_dir_all(place)?;
        for file in [machine.console_log(), machine.reports_log()] {
            fs::write(file, "")?;
        }
        let image = place.join("initramfs");
        kernel.pack(&image)?;
        let ended = Qemu::start(machine.command(kernel, &image), &machine.qemu_log())?.ended();
        let _ = fs::remove_file(&image);
        ended.with_context(|| machine.console())?;
        Ok(machine)
    }

    /// What it reported, in order.
    pub(crate) fn reports(&self) -> anyhow::Result<Vec<Report>> {
        fs::read_to_string(self.reports_log())?
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("no report: {line}")))
            .collect()
    }

    /// The end of what the kernel and all programs wrote, and what qemu had to say.
    pub(crate) fn console(&self) -> String {
        let text = fs::read(self.console_log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(SHOWN_LINES);
        format!(
            "the end of {}:\n{}\n{}",
            self.console_log().display(),
            lines.get(first..).unwrap_or_default().join("\n"),
            fs::read_to_string(self.qemu_log()).unwrap_or_default()
        )
    }

    /// A machine that is computed, its time included: each instruction takes a nanosecond, and idle
    /// time none. So nothing in it comes late because this machine is busy with something else.
    /// What virtualisation there is, if any, is often that of a virtual machine; kernels did not
    /// boot on such.
    fn command(&self, kernel: &Kernel, image: &Path) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", "tcg,thread=single", "-cpu", "max"]);
        command.args(["-icount", "shift=0,sleep=off", "-rtc", "clock=vm"]);
        // Kernels before 6.12 wait for a second processor in vain where time is computed.
        command.args(["-smp", "1", "-m", "1024"]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        // In the order of the machine's serial ports.
        for log in [self.console_log(), self.reports_log()] {
            let port = format!("file:{}", log.display());
            command.args(["-serial", &port]);
        }
        command.arg("-kernel").arg(&kernel.image);
        command.arg("-initrd").arg(image);
        let line = format!("console=ttyS0 quiet panic=-1 rdinit={INIT}");
        command.args(["-append", &line]);
        command
    }

    fn console_log(&self) -> PathBuf {
        self.place.join("console.log")
    }

    fn reports_log(&self) -> PathBuf {
        self.place.join("reports.log")
    }

    fn qemu_log(&self) -> PathBuf {
        self.place.join("qemu.log")
    }
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
