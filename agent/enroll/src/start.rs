//! What libc would do before and around `main`: the entry point, the memory functions that the
//! compiler calls, and the end of the process.

#![expect(
    unsafe_code,
    reason = "the kernel's entry protocol, signals and the exit system call have no safe form"
)]

mod termination;

use core::ffi::{CStr, c_char};
use core::panic::PanicInfo;

use enroll::{Exit, MEMORY_BYTES, Process, Streams};

/// Where the kernel enters. The stack pointer is at `argc`, as the psABI says; nothing to return
/// to is marked by a zero frame.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    #[cfg(target_arch = "x86_64")]
    core::arch::naked_asm!(
        "xor ebp, ebp",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {main}",
        "ud2",
        main = sym main,
    );
    #[cfg(target_arch = "aarch64")]
    core::arch::naked_asm!(
        "mov x29, xzr",
        "mov x30, xzr",
        "mov x0, sp",
        "b {main}",
        main = sym main,
    );
}

/// Reads the stack as the kernel laid it out: `argc`, the arguments, a null, the environment, a
/// null.
///
/// # Safety
/// `stack` is the initial stack pointer.
unsafe extern "C" fn main(stack: *const usize) -> ! {
    termination::take_over();
    // SAFETY: the caller passes the initial stack, which starts with `argc`.
    let count = unsafe { stack.read() };
    // SAFETY: `argc` pointers and their null follow, then the environment's.
    let (arguments, environment) = unsafe {
        let arguments = stack.add(1).cast::<*const c_char>();
        (Strings(arguments), Strings(arguments.add(count + 1)))
    };
    let variable = |name: &str| {
        environment.clone().find_map(|variable| {
            let value = variable
                .to_bytes_with_nul()
                .strip_prefix(name.as_bytes())?
                .strip_prefix(b"=")?;
            CStr::from_bytes_with_nul(value).ok()
        })
    };
    let process = Process {
        streams: streams(),
        memory: memory(),
        on_signal: termination::write_to,
    };
    end(enroll::run(arguments.skip(1), variable, process))
}

/// The relay's memory. The kernel gives pages of it when they are used.
fn memory() -> &'static mut [u8] {
    static mut MEMORY: [u8; MEMORY_BYTES] = [0; MEMORY_BYTES];
    // SAFETY: called once, by `main`; nothing else knows the memory.
    unsafe { (&raw mut MEMORY).as_mut() }.map_or(&mut [], |memory| memory)
}

/// The strings of an array that a null ends; made in [`main`] only, of what the kernel wrote.
#[derive(Clone)]
struct Strings(*const *const c_char);

impl Iterator for Strings {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the pointer is at an entry or at the null that ends the array, never behind it.
        let string = unsafe { self.0.read() };
        if string.is_null() {
            return None;
        }
        // SAFETY: the null is not passed, and strings of the initial stack are NUL-terminated and
        // live, unchanged, as long as the process.
        unsafe {
            self.0 = self.0.add(1);
            Some(CStr::from_ptr(string))
        }
    }
}

fn streams() -> Streams<'static> {
    // SAFETY: nothing in this process closes these descriptors. If one was closed from the start,
    // writing to it fails or reaches a socket of ours; both are harmless.
    unsafe {
        Streams {
            output: rustix::stdio::stdout(),
            errors: rustix::stdio::stderr(),
        }
    }
}

/// Ends the process.
fn end(exit: Exit) -> ! {
    // SAFETY: `exit_group` takes one number and does not return.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!("syscall", in("rax") 231, in("rdi") exit as u64, options(noreturn));
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!("svc 0", in("x8") 94, in("x0") exit as u64, options(noreturn));
    }
}

#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    let _ = rustix::io::write(
        streams().errors,
        b"caios-enroll: internal error, please report it\n",
    );
    end(Exit::Internal)
}

/// The memory functions. Volatile access keeps the compiler from turning a loop into a call of
/// the function that it is in; the longest copy here is a token.
mod memory {
    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        for i in 0..length {
            // SAFETY: the caller says that both have `length` bytes.
            unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
        }
        to
    }

    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        if (to as usize).wrapping_sub(from as usize) >= length {
            // SAFETY: `to` does not begin inside `from`, so going forwards reads before it writes.
            return unsafe { memcpy(to, from, length) };
        }
        for i in (0..length).rev() {
            // SAFETY: the caller says that both have `length` bytes.
            unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
        }
        to
    }

    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
        for i in 0..length {
            // SAFETY: the caller says that it has `length` bytes. C takes the lowest byte.
            unsafe { to.add(i).write_volatile(value.to_le_bytes()[0]) };
        }
        to
    }

    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
        for i in 0..length {
            // SAFETY: the caller says that both have `length` bytes.
            let (a, b) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
            if a != b {
                return i32::from(a) - i32::from(b);
            }
        }
        0
    }

    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
        // SAFETY: the caller's promise is the same.
        unsafe { memcmp(a, b, length) }
    }

    /// # Safety
    /// As in C.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const u8) -> usize {
        let mut length = 0;
        // SAFETY: the caller says that a NUL ends it.
        while unsafe { text.add(length).read_volatile() } != 0 {
            length += 1;
        }
        length
    }
}
