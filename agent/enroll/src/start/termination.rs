//! Ends the process at SIGTERM and SIGINT, at once or when its work is done.
//!
//! The kernel drops a signal to the first process of a PID namespace, which an init container is,
//! unless that process has a handler (kill(2), "Notes"): without this one, the kubelet would wait
//! out the grace period of a Pod that is deleted while it waits. rustix has no public form of
//! `rt_sigaction`.

use core::ffi::c_int;
use core::sync::atomic::{AtomicI32, Ordering};

use enroll::Exit;
use rustix::fd::{AsRawFd as _, BorrowedFd};

use super::{end, streams};

const SIGINT: usize = 2;
const SIGTERM: usize = 15;
/// x86-64 delivers no signal to a handler without a restorer.
const SA_RESTORER: u64 = 0x0400_0000;

/// The kernel's `struct sigaction`, the same on x86-64 and aarch64.
#[repr(C)]
struct Action {
    handler: extern "C" fn(c_int),
    flags: u64,
    restorer: extern "C" fn() -> !,
    mask: u64,
}

/// The eventfd that signals are written to, or [`NOBODY`].
static LISTENER: AtomicI32 = AtomicI32::new(NOBODY);
const NOBODY: i32 = -1;

/// Has signals written to `listener`, which must stay open as long as the process.
pub(super) fn write_to(listener: BorrowedFd<'_>) {
    LISTENER.store(listener.as_raw_fd(), Ordering::Release);
}

/// Lets SIGTERM and SIGINT end the process at once, with [`Exit::Terminated`], unless somebody
/// [listens](write_to) for them.
pub(super) fn take_over() {
    let action = Action {
        handler: terminated,
        flags: SA_RESTORER,
        restorer: restore,
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
    // action is not asked for), and has a signal set of 8 bytes. The handler only reads an atomic
    // and makes system calls, so it may interrupt anything.
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

extern "C" fn terminated(_signal: c_int) {
    let listener = LISTENER.load(Ordering::Acquire);
    if listener != NOBODY {
        // SAFETY: `write_to` is given a descriptor that stays open.
        let listener = unsafe { BorrowedFd::borrow_raw(listener) };
        let _ = rustix::io::write(listener, &1u64.to_ne_bytes());
        return;
    }
    let _ = rustix::io::write(
        streams().errors,
        b"caios-enroll: told to end before this Pod was enrolled\n",
    );
    end(Exit::Terminated)
}

/// Where a handler returns to: `rt_sigreturn` restores what it interrupted.
#[unsafe(naked)]
extern "C" fn restore() -> ! {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!("mov eax, 15", "syscall", "ud2");
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!("mov x8, #139", "svc #0", "brk #1");
}
