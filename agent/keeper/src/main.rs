//! `caios-keeper`: see the library for what it keeps.

use std::io::{Write as _, stderr};
use std::process::ExitCode;

use clap::Parser as _;
use keeper::Arguments;
use shared::process;

/// `EX_USAGE` of sysexits(3).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(instead) => {
            // Nobody is left to tell that it cannot be printed.
            let _ = instead.print();
            return if instead.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    // It holds what leads to secrets, though it never reads them.
    if let Err(errno) = process::keep_memory_private() {
        say(&format!("failed to turn core dumps off: {errno}"));
        return ExitCode::FAILURE;
    }
    if let Err(errno) = process::raise_descriptor_limit() {
        say(&format!("failed to raise the descriptor limit: {errno}"));
        return ExitCode::FAILURE;
    }
    match keeper::run_until_asked(arguments.into(), &|line| say(line)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            say(&problem.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Writes one line to standard error.
fn say(what: &str) {
    let _ = writeln!(stderr(), "caios-keeper: {what}");
}
