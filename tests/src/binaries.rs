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

/// Builds one binary: `cargo test` builds those of other packages for nobody. What runs outside of
/// cargo, as the demo does, finds its binaries built beside it.
#[expect(clippy::expect_used, reason = "without the binary no test can go on")]
fn build(package: &str, binary: &str) -> PathBuf {
    let running = std::env::current_exe().expect("a test knows its own path");
    // …/target/<triple>/<profile>/deps/suite-… or …/<profile>/demo
    let profile = running
        .ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps"))
        .expect("a binary stands in a directory");
    let path = profile.join(binary);
    let Some(cargo) = std::env::var_os("CARGO") else {
        assert!(
            path.exists(),
            "`{}` is missing: build it first",
            path.display()
        );
        return path;
    };
    let mut build = Command::new(cargo);
    build.args([
        "build",
        "--quiet",
        "--locked",
        "--package",
        package,
        "--bin",
        binary,
    ]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let done = build.status().is_ok_and(|status| status.success());
    assert!(
        done,
        "failed to build `{binary}`: see cargo's message above"
    );
    path
}
