//! Programs that are not ours, as `tests/tools/fetch.sh` installs them.

use std::env;
use std::path::PathBuf;

use anyhow::bail;

/// The path of `program`, which the group `group` of `tests/tools/groups` installs. One in
/// `KUBERNETES_BIN_DIR` goes before it.
///
/// # Errors
/// When it is not there; the error has the line that installs it.
pub fn program(group: &str, program: &str) -> anyhow::Result<PathBuf> {
    let given = env::var_os("KUBERNETES_BIN_DIR").map(|given| PathBuf::from(given).join(program));
    if let Some(given) = given.filter(|given| given.exists()) {
        return Ok(given);
    }
    let installed = directory().join(group).join("bin").join(program);
    if !installed.exists() {
        bail!(
            "no `{}`: install it with `tests/tools/fetch.sh {group}`",
            installed.display()
        );
    }
    Ok(installed)
}

/// The directory that a group of `tests/tools/groups` installs.
///
/// # Errors
/// When it is not there; the error has the line that installs it.
pub fn installed(group: &str) -> anyhow::Result<PathBuf> {
    let installed = directory().join(group);
    if !installed.exists() {
        bail!(
            "no `{}`: install it with `tests/tools/fetch.sh {group}`",
            installed.display()
        );
    }
    Ok(installed)
}

/// Where the tools are: `TOOLS_DIR`, otherwise `target/tools`.
pub(crate) fn directory() -> PathBuf {
    let given = env::var_os("TOOLS_DIR").map(PathBuf::from);
    given.unwrap_or_else(|| target().join("tools"))
}

/// Where cargo and the tests put what they make.
pub(crate) fn target() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.set_file_name("target");
    root
}
