//! A node's directories and the agent on it, without any privilege: `caios-agent prepare` as root
//! with no capability, then the agent as its own user with a read-only root.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::unistd::Pid;
use shared::contract::{AGENT_ID, NODE_DIRECTORY};
use tests::agent::Agent;
use tests::binaries;
use tests::container::Container;
use tests::node::Node;
use tests::supervised::children;

/// The directory of the node as the kubelet makes it for a hostPath volume.
fn host_path(node: &Node) -> PathBuf {
    let directory = node.directory().join("run");
    make(&directory, 0o755);
    directory
}

fn make(directory: &Path, mode: u32) {
    fs::create_dir(directory).unwrap();
    fs::set_permissions(directory, Permissions::from_mode(mode)).unwrap();
}

/// Runs `caios-agent prepare` as the init container of the DaemonSet does, in these groups.
fn prepare_in(node: &Node, directory: &Path, groups: &[u32]) -> Output {
    let container = Container::new(node.directory(), 0, groups)
        .sees(binaries::agent(), "/caios-agent")
        .writes(directory, NODE_DIRECTORY);
    let mut command = Command::new("/caios-agent");
    command.arg("prepare").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = container.spawn(node.namespace(), command).unwrap();
    child.wait_with_output().unwrap()
}

fn prepared(node: &Node, directory: &Path) {
    let output = prepare_in(node, directory, &[AGENT_ID]);
    assert!(output.status.success(), "{}", said(&output));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Owner, group and mode.
fn ownership(path: &Path) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

/// An agent as the DaemonSet runs it.
fn agent(node: &Node, directory: &Path) -> Agent {
    let certificates = node.directory().join("ca.pem");
    let container = Container::new(node.directory(), AGENT_ID, &[])
        .sees(&certificates, "/ca.pem")
        .writes(directory, NODE_DIRECTORY);
    let arguments: Vec<_> = node
        .agent_arguments()
        .into_iter()
        .map(|argument| {
            argument
                .replace(certificates.to_str().unwrap(), "/ca.pem")
                .replace(
                    node.public_directory().to_str().unwrap(),
                    shared::contract::PUBLIC_DIRECTORY,
                )
                .replace(
                    node.private_directory().to_str().unwrap(),
                    shared::contract::PRIVATE_DIRECTORY,
                )
        })
        .collect();
    let log = node.agent_log();
    Agent::contained(node.namespace(), &container, &arguments, &log)
        .unwrap()
        .ready()
        .unwrap()
}

/// Puts the directory of the node in the place where the node's Pods look for it.
fn mount_for_pods(node: &Node, directory: &Path) {
    fs::remove_dir(node.public_directory()).unwrap();
    symlink(directory.join("public"), node.public_directory()).unwrap();
}

#[test]
fn an_agent_without_any_privilege_serves_pods_of_a_node_that_was_prepared_without_any() {
    let node = Node::new().unwrap();
    let directory = host_path(&node);
    prepared(&node, &directory);
    assert_eq!(ownership(&directory.join("public")), (0, AGENT_ID, 0o775));
    assert_eq!(ownership(&directory.join("private")), (0, AGENT_ID, 0o770));

    mount_for_pods(&node, &directory);
    let agent = agent(&node, &directory);
    let supervisor = Pid::from_raw(i32::try_from(agent.id()).unwrap());
    let worker = children(supervisor);
    assert_eq!(worker.len(), 1);
    for process in [supervisor, worker[0]] {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            let line = status.lines().find(|line| line.starts_with(set)).unwrap();
            assert!(line.ends_with("\t0000000000000000"), "{line}");
        }
    }
    let socket = ownership(&directory.join("public/agent.sock"));
    assert_eq!(socket, (AGENT_ID, AGENT_ID, 0o666));
    let socket = ownership(&directory.join("private/admin.sock"));
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
    let directory = host_path(&node);
    let public = directory.join("public");
    make(&public, 0o755);
    let mounted = fs::metadata(&public).unwrap().ino();
    for _ in 0..2 {
        prepared(&node, &directory);
        assert_eq!(ownership(&public), (0, AGENT_ID, 0o775));
        assert_eq!(fs::metadata(&public).unwrap().ino(), mounted);
    }
    mount_for_pods(&node, &directory);
    let mut first = agent(&node, &directory);
    let socket = fs::metadata(public.join("agent.sock")).unwrap().ino();
    assert_eq!(
        first.terminate().unwrap().code(),
        Some(0),
        "{}",
        first.log()
    );
    // The next Pod of the DaemonSet prepares again, with the old sockets in place.
    prepared(&node, &directory);
    assert_eq!(
        fs::metadata(public.join("agent.sock")).unwrap().ino(),
        socket
    );
    let _second = agent(&node, &directory);
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    assert_eq!(pod.credentials().unwrap().status, 200);
}

#[test]
fn sockets_of_an_agent_that_ran_as_root_are_no_obstacle() {
    let node = Node::new().unwrap();
    let directory = host_path(&node);
    prepared(&node, &directory);
    for name in ["agent.sock", "enroll.sock"] {
        drop(std::os::unix::net::UnixListener::bind(directory.join("public").join(name)).unwrap());
    }
    mount_for_pods(&node, &directory);
    let _agent = agent(&node, &directory);
    let pod = node.enrolled_pod("trainer", "train-0").unwrap();
    assert_eq!(pod.credentials().unwrap().status, 200);
}

#[test]
fn what_cannot_be_trusted_is_refused_with_what_to_do_and_nothing_is_changed() {
    let node = Node::new().unwrap();
    let directory = host_path(&node);
    let public = directory.join("public");

    let output = prepare_in(&node, &directory, &[]);
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
    let output = prepare_in(&node, &directory, &[AGENT_ID]);
    assert_eq!(output.status.code(), Some(1));
    let advice = format!("chown 0 {NODE_DIRECTORY}/public");
    assert!(said(&output).contains(&advice), "{}", said(&output));

    fs::remove_dir(&public).unwrap();
    symlink("/etc", &public).unwrap();
    let output = prepare_in(&node, &directory, &[AGENT_ID]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("no directory"), "{}", said(&output));
    assert!(!directory.join("private").exists());
}
