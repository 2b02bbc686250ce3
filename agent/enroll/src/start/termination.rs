//! Ends the process at SIGTERM and SIGINT.
//!
//! The kernel drops a signal to the first process of a PID namespace, which an init container is,
//! unless that process has a handler (kill(2), "Notes"): without this one, the kubelet would wait
//! out the grace period of a Pod that is deleted while it waits. rustix has no public form of
//! `rt_sigaction`.

use core::ffi::c_int;

use enroll::Exit;

use super::{end, streams};

const SIGINT: usize = 2;
const SIGTERM: usize = 15;
/// x86-64 delivers no signal to a handler without a restorer, even if it never returns.
const SA_RESTORER: u64 = 0x0400_0000;

/// The kernel's `struct sigaction`, the same on x86-64 and aarch64.
#[repr(C)]
struct Action {
    handler: extern "C" fn(c_int) -> !,
    flags: u64,
    restorer: extern "C" fn(c_int) -> !,
    mask: u64,
}

/// Lets SIGTERM and SIGINT end the process at once, with [`Exit::Terminated`].
pub(super) fn take_over() {
    let action = Action {
        handler: terminated,
        flags: SA_RESTORER,
        restorer: terminated,
        mask: 0,
    };
    for signal in [SIGTERM, SIGINT] {
        // A refusal leaves the process as it was: it ends when it is done, or is killed.
        set(signal, &action);
    }
}

/// Calls `rt_sigaction`.
fn set(signal: usize, action: &Action) {
    // SAFETY: the kernel reads one `Action`, which lives through the call, writes nothing (the old
    // action is not asked for), and has a signal set of 8 bytes. The handler only makes system
    // calls and never returns, so it may interrupt anything.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!(
            "syscall",
            inlateout("rax") 13usize => _,
            in("rdi") signal,
            in("rsi") action,
            in("rdx") 0usize,
            in("r10") 8usize,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!(
            "svc 0",
            in("x8") 134usize,
            inlateout("x0") signal => _,
            in("x1") action,
            in("x2") 0usize,
            in("x3") 8usize,
            options(nostack),
        );
    }
}

extern "C" fn terminated(_signal: c_int) -> ! {
    let _ = rustix::io::write(
        streams().errors,
        b"caios-enroll: told to end before this Pod was enrolled\n",
    );
    end(Exit::Terminated)
}
