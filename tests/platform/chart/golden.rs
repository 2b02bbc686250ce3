//! Three shapes of the chart, as files to read in a review.
//!
//! `UPDATE_GOLDEN=1 cargo test -p tests --test platform chart::golden` writes them anew.

use std::fs;
use std::process::Command;

use tests::control_plane::Helm;
use tests::tools;

use super::rendered::{BOTH, LEAST, SHAPES, beside, helm, path, shape, template};

#[test]
fn both_versions_of_helm_find_nothing_to_complain_about() {
    for version in BOTH {
        let chart = path("helm");
        let linted = helm(version, &["lint", "--strict", &chart, "--set", LEAST]).unwrap();
        assert!(
            linted.contains("1 chart(s) linted, 0 chart(s) failed"),
            "{linted}"
        );
        for name in SHAPES {
            helm(version, &["lint", "--strict", &chart, &shape(name)]).unwrap();
        }
    }
}

#[test]
fn both_versions_of_helm_render_what_the_golden_files_show() {
    for name in SHAPES {
        let file = beside(&format!("golden/{name}.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, template(Helm::V3, &[&shape(name)]).unwrap()).unwrap();
        }
        let golden = fs::read_to_string(&file).unwrap();
        for version in BOTH {
            let rendered = template(version, &[&shape(name)]).unwrap();
            for (kept, now) in objects(&golden).into_iter().zip(objects(&rendered)) {
                assert_eq!(
                    kept, now,
                    "{version:?} renders `{name}` differently: if that is meant, run this test with \
                     UPDATE_GOLDEN=1"
                );
            }
            assert_eq!(objects(&golden).len(), objects(&rendered).len());
        }
    }
}

/// The objects of a rendered chart, each as its lines. The versions of Helm differ in the empty lines
/// between objects, and in the order of kinds that they do not know.
fn objects(rendered: &str) -> Vec<Vec<&str>> {
    let objects = rendered.split("---\n# Source");
    let lines = objects.map(|object| object.lines().filter(|line| !line.is_empty()).collect());
    let mut objects: Vec<_> = lines.collect();
    objects.sort();
    objects
}

#[test]
fn the_schemas_of_every_supported_version_of_kubernetes_know_every_field() {
    let validate = tools::program("schemas", "kubernetes-validate").unwrap();
    for minor in 30..=37 {
        for name in SHAPES {
            let output = Command::new(&validate)
                .args(["--strict", "--quiet", "--kubernetes-version"])
                .arg(format!("1.{minor}"))
                .arg(beside(&format!("golden/{name}.yaml")))
                .output()
                .unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            // Of the kinds of cert-manager and of the Prometheus operator it has no schema.
            let complaints = printed.lines().filter(|line| {
                line.contains("ERROR")
                    && !line.contains("cert-manager.io")
                    && !line.contains("monitoring.coreos.com")
            });
            let complaints: Vec<_> = complaints.collect();
            assert!(complaints.is_empty(), "1.{minor}, {name}: {complaints:?}");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(errors.is_empty(), "1.{minor}, {name}: {errors}");
        }
    }
}
