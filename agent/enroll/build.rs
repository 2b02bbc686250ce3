//! Decides whether `caios-enroll` stands on the kernel alone (cfg `freestanding`): in the profile
//! `tiny`, where panics abort. All other profiles link std, because tests need unwinding.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(freestanding)");
    // Cargo tells a build script of the panic strategy of the target, not of the profile; the
    // profile's own name is only in the path.
    let out = env::var_os("OUT_DIR").unwrap_or_default();
    if Path::new(&out).iter().any(|part| part == "tiny") {
        println!("cargo::rustc-cfg=freestanding");
        for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
