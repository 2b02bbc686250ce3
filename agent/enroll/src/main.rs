//! `caios-enroll`: the init container that connects a Pod to its node's agent, or the sidecar that
//! relays to it.
//!
//! Shipped, it stands on the kernel alone (without the feature `std`): static libc and std would
//! be twice its size limit. For development it is an ordinary program around the same library.

#![cfg_attr(not(feature = "std"), no_std, no_main)]

#[cfg(not(feature = "std"))]
mod start;

#[cfg(feature = "std")]
fn main() -> std::process::ExitCode {
    use std::ffi::CString;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStringExt;

    let arguments: Vec<CString> = std::env::args_os()
        .skip(1)
        .filter_map(|argument| CString::new(argument.into_vec()).ok())
        .collect();
    let environment: Vec<(String, CString)> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            Some((name, CString::new(value.into_vec()).ok()?))
        })
        .collect();
    let (output, errors) = (std::io::stdout(), std::io::stderr());
    let mut memory = vec![0; enroll::MEMORY_BYTES];
    let exit = enroll::run(
        arguments.iter().map(CString::as_c_str),
        |name| {
            let found = environment.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_c_str())
        },
        enroll::Process {
            streams: enroll::Streams {
                output: output.as_fd(),
                errors: errors.as_fd(),
            },
            memory: &mut memory,
            // Outside of a container SIGTERM ends it by itself.
            on_signal: |_| {},
        },
    );
    std::process::ExitCode::from(exit as u8)
}
