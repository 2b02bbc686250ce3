//! The real binaries, built when they are needed.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The agent: `target/…/caios-agent` in the profile that the tests were built in.
pub fn agent() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("agent", "caios-agent")).clone()
}

/// `caios-enroll`, in the same profile.
pub fn enroll() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| build("enroll", "caios-enroll"))
        .clone()
}

/// The client made of `aws-config` and `aws-sigv4`.
pub fn rust_client() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| build("rust-client", "rust-client"))
        .clone()
}

/// Builds one binary: `cargo test` builds those of other packages for nobody.
#[expect(clippy::expect_used, reason = "without the binary no test can go on")]
fn build(package: &str, binary: &str) -> PathBuf {
    let running = std::env::current_exe().expect("a test knows its own path");
    // …/target/<triple>/<profile>/deps/suite-… or …/<profile>/demo
    let profile = running
        .ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps"))
        .expect("a binary stands in a directory");
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        package,
        "--bin",
        binary,
    ]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.status().is_ok_and(|status| status.success());
    assert!(
        built,
        "failed to build `{binary}`: see cargo's message above"
    );
    profile.join(binary)
}
