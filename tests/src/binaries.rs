//! The real binaries, built when they are needed.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The agent: `target/…/caios-agent` in the profile that the tests were built in.
pub fn agent() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("agent", "caios-agent")).clone()
}

/// The keeper, in the profile that the tests were built in.
pub fn keeper() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| build("keeper", "caios-keeper"))
        .clone()
}

/// The injector, in the profile that the tests were built in.
pub fn injector() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| build("injector", "caios-injector"))
        .clone()
}

/// `caios-enroll` as it is shipped, whatever the tests were built in.
pub fn enroll() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let shipped = ["--profile", "tiny", "--no-default-features"];
            let path = own_directory().with_file_name("tiny").join("caios-enroll");
            made(path, "enroll", "caios-enroll", &shipped)
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
    made(directory.join(binary), package, binary, profile)
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

/// Has cargo build a binary: `cargo test` builds those of other packages for nobody. What runs
/// outside of cargo, as the demo does, finds its binaries built before it; its own call of cargo
/// could name another toolchain and build everything again.
fn made(path: PathBuf, package: &str, binary: &str, further: &[&str]) -> PathBuf {
    let Some(cargo) = std::env::var_os("CARGO") else {
        let shown = path.display();
        assert!(path.exists(), "`{shown}` is missing: build it first");
        return path;
    };
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--locked"]);
    build.args(["--package", package, "--bin", binary]);
    build.args(further).current_dir(env!("CARGO_MANIFEST_DIR"));
    let done = build.status().is_ok_and(|status| status.success());
    assert!(
        done,
        "failed to build `{binary}`: see cargo's message above"
    );
    path
}
