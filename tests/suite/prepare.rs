//! A node's directories and the agent on it, without any privilege: `caios-agent prepare` as root
//! with no capability, then the agent as its own user with a read-only root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Output;

use nix::unistd::Pid;
use shared::contract::{AGENT_ID, NODE_DIRECTORY};
use tests::daemon::{Daemon, ensure_without_capability};
use tests::family::children;
use tests::node::Node;

fn make(directory: &Path, mode: u32) {
    fs::create_dir(directory).unwrap();
    fs::set_permissions(directory, Permissions::from_mode(mode)).unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Owner, group and mode.
fn ownership(path: &Path) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

#[test]
fn an_agent_without_any_privilege_serves_pods_of_a_node_that_was_prepared_without_any() {
    let node = Node::new().unwrap();
    let daemon = Daemon::new(&node).unwrap();
    daemon.prepare().unwrap();
    assert_eq!(ownership(&daemon.public_directory()), (0, AGENT_ID, 0o775));
    assert_eq!(
        ownership(&daemon.directory().join("private")),
        (0, AGENT_ID, 0o770)
    );

    daemon.mount_for_pods().unwrap();
    let agent = daemon.agent(&[]).unwrap();
    let supervisor = Pid::from_raw(i32::try_from(agent.id()).unwrap());
    let workers = children(supervisor);
    assert_eq!(workers.len(), 1);
    for process in [supervisor, workers[0]] {
        let process = u32::try_from(process.as_raw()).unwrap();
        ensure_without_capability(process).unwrap();
    }
    let socket = ownership(&daemon.directory().join("public/agent.sock"));
    assert_eq!(socket, (AGENT_ID, AGENT_ID, 0o666));
    let socket = ownership(&daemon.directory().join("private/admin.sock"));
    assert_eq!(socket, (AGENT_ID, AGENT_ID, 0o600));
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    assert_eq!(pod.credentials().unwrap().status, 200);
    assert_eq!(agent.count("caios_agent_panics_total"), 0);
    assert!(
        !agent.log().contains("\"level\":\"ERROR\""),
        "{}",
        agent.log()
    );
}

#[test]
fn directories_that_the_kubelet_made_first_are_given_to_the_agent_and_stay_the_same() {
    let node = Node::new().unwrap();
    let daemon = Daemon::new(&node).unwrap();
    let public = daemon.public_directory();
    make(&public, 0o755);
    let mounted = fs::metadata(&public).unwrap().ino();
    for _ in 0..2 {
        daemon.prepare().unwrap();
        assert_eq!(ownership(&public), (0, AGENT_ID, 0o775));
        assert_eq!(fs::metadata(&public).unwrap().ino(), mounted);
    }
    daemon.mount_for_pods().unwrap();
    let mut first = daemon.agent(&[]).unwrap();
    let socket = fs::metadata(public.join("agent.sock")).unwrap().ino();
    assert_eq!(
        first.terminate().unwrap().code(),
        Some(0),
        "{}",
        first.log()
    );
    // The next Pod of the DaemonSet prepares again, with the old sockets in place.
    daemon.prepare().unwrap();
    assert_eq!(
        fs::metadata(public.join("agent.sock")).unwrap().ino(),
        socket
    );
    let _second = daemon.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    assert_eq!(pod.credentials().unwrap().status, 200);
}

#[test]
fn sockets_of_an_agent_that_ran_as_root_are_no_obstacle() {
    let node = Node::new().unwrap();
    let daemon = Daemon::new(&node).unwrap();
    daemon.prepare().unwrap();
    for name in ["agent.sock", "enroll.sock"] {
        drop(std::os::unix::net::UnixListener::bind(daemon.public_directory().join(name)).unwrap());
    }
    daemon.mount_for_pods().unwrap();
    let _agent = daemon.agent(&[]).unwrap();
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    assert_eq!(pod.credentials().unwrap().status, 200);
}

#[test]
fn what_cannot_be_trusted_is_refused_with_what_to_do_and_nothing_is_changed() {
    let node = Node::new().unwrap();
    let daemon = Daemon::new(&node).unwrap();
    let public = daemon.public_directory();

    let output = daemon.prepare_in(&[]).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("supplementalGroups"),
        "{}",
        said(&output)
    );
    assert_eq!(
        ownership(&public),
        (0, 0, 0o700),
        "it is open without its group"
    );

    chown(&public, Some(AGENT_ID), Some(AGENT_ID)).unwrap();
    let output = daemon.prepare_in(&[AGENT_ID]).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let advice = format!("chown 0 {NODE_DIRECTORY}/public");
    assert!(said(&output).contains(&advice), "{}", said(&output));

    fs::remove_dir(&public).unwrap();
    symlink("/etc", &public).unwrap();
    let output = daemon.prepare_in(&[AGENT_ID]).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("no directory"), "{}", said(&output));
    assert!(!daemon.directory().join("private").exists());
}
