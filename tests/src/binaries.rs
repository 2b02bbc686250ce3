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

/// `caios-enroll` as it is shipped, whatever the tests were built in.
pub fn shipped_enroll() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let shipped = ["--profile", "tiny", "--no-default-features"];
            cargo_build("enroll", "caios-enroll", &shipped);
            own_directory().with_file_name("tiny").join("caios-enroll")
        })
        .clone()
}

/// The client made of `aws-config` and `aws-sigv4`.
pub fn rust_client() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| build("rust-client", "rust-client"))
        .clone()
}

/// Builds one binary in the profile of the running one, and says where it is.
fn build(package: &str, binary: &str) -> PathBuf {
    let directory = own_directory();
    let profile: &[&str] = if directory.ends_with("release") {
        &["--release"]
    } else {
        &[]
    };
    cargo_build(package, binary, profile);
    directory.join(binary)
}

/// Where cargo put the running binary: `target/<triple>/<profile>`.
#[expect(clippy::expect_used, reason = "without the binary no test can go on")]
fn own_directory() -> PathBuf {
    let running = std::env::current_exe().expect("a test knows its own path");
    // …/target/<triple>/<profile>/deps/suite-… or …/<profile>/demo
    let directory = running
        .ancestors()
        .skip(1)
        .find(|directory| !directory.ends_with("deps"));
    directory
        .expect("a binary stands in a directory")
        .to_owned()
}

/// Has cargo build a binary: `cargo test` builds those of other packages for nobody.
fn cargo_build(package: &str, binary: &str, further: &[&str]) {
    let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    cargo.args(["build", "--quiet", "--locked"]);
    cargo.args(["--package", package, "--bin", binary]);
    cargo.args(further).current_dir(env!("CARGO_MANIFEST_DIR"));
    let built = cargo.status().is_ok_and(|status| status.success());
    assert!(
        built,
        "failed to build `{binary}`: see cargo's message above"
    );
}
