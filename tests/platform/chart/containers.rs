//! The rendered containers: their flags are the binaries', their paths the contract's, and they may
//! do nothing.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use shared::contract;
use tests::{binaries, wait};

use super::rendered::{LEAST, Rendered, SHAPES, shape, texts};

/// Runs a container's command line with another subcommand.
fn run(binary: PathBuf, container: &Value, given: &str, subcommand: &str) -> String {
    let arguments = texts(&container["args"]);
    let (first, flags) = arguments.split_first().unwrap();
    assert_eq!(*first, given);
    let mut command = Command::new(binary);
    command.env_clear().arg(subcommand);
    for flag in flags {
        // As the kubelet replaces it.
        let flag = flag.replace("$(NODE_NAME)", "node-1");
        command.arg(flag.replace("$(POD_UID)", "pod-1"));
    }
    command.env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    for variable in container["env"].as_array().unwrap_or(&Vec::new()) {
        let value = variable["value"].as_str().unwrap_or("node-1");
        command.env(variable["name"].as_str().unwrap(), value);
    }
    let output = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{command:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_binaries_understand_every_flag_that_the_chart_gives_them() {
    for name in SHAPES {
        let rendered = Rendered::new(&[&shape(name)]);
        let agent = &rendered.agent()["containers"][0];
        assert_eq!(agent["command"], json!(["/caios-agent"]));
        let in_force = run(binaries::agent(), agent, "supervise", "check-config");
        assert!(in_force.contains("node-1"), "{in_force}");
        assert!(in_force.contains("pod-1"), "{in_force}");

        let injector = &rendered.injector()["containers"][0];
        assert_eq!(injector["command"], json!(["/caios-injector"]));
        let in_force = run(binaries::injector(), injector, "run", "check-config");
        assert!(in_force.contains("/run/caios-agent/public"), "{in_force}");
    }
}

#[test]
fn the_keeper_understands_the_flags_of_its_container_and_is_where_the_agent_looks_for_it() {
    let rendered = Rendered::new(&["--set", LEAST]);
    let [agent, keeper] = [0, 1].map(|at| &rendered.agent()["containers"][at]);
    assert_eq!(keeper["command"], json!(["/caios-keeper"]));
    let socket = format!("--keeper-socket={}", contract::KEEPER_SOCKET_PATH);
    let instance = "--instance=$(POD_UID)";
    let flags = texts(&agent["args"]);
    assert!(flags.contains(&socket.as_str()) && flags.contains(&instance));
    assert!(texts(&keeper["args"]).contains(&instance));
    let node = tempfile::tempdir().unwrap();
    let own = node.path().join("keeper.sock");
    let mut command = Command::new(binaries::keeper());
    for flag in texts(&keeper["args"]) {
        command.arg(flag.replace(contract::KEEPER_SOCKET_PATH, &own.display().to_string()));
    }
    let mut running = command.env_clear().spawn().unwrap();
    let published = wait::until("the keeper is there", Duration::from_secs(10), || {
        own.exists()
    });
    running.kill().unwrap();
    running.wait().unwrap();
    published.unwrap();
}

#[test]
fn the_agents_prepare_understands_the_flags_of_its_init_container() {
    let rendered = Rendered::new(&["--set", LEAST]);
    let container = &rendered.agent()["initContainers"][0];
    assert_eq!(container["command"], json!(["/caios-agent"]));
    let node = tempfile::tempdir().unwrap();
    let directory = node.path().join("caios-agent");
    let mut command = Command::new(binaries::agent());
    for argument in texts(&container["args"]) {
        command.arg(argument.replace(contract::NODE_DIRECTORY, &directory.display().to_string()));
    }
    // Not every test runs as a user who may give files to group 65532.
    command.arg(format!("--group={}", nix::unistd::getegid()));
    let output = command.env_clear().output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(directory.join(contract::PUBLIC_NAME).is_dir());
}

#[test]
fn the_agents_check_understands_the_flags_of_the_charts_test() {
    let rendered = Rendered::new(&[&shape("everything")]);
    for (name, volume) in [
        ("caios-helm-test", Value::Null),
        ("caios-helm-test-csi", json!("csi")),
    ] {
        let pod = rendered.object("Pod", name);
        let annotation = format!("{}volume", contract::ANNOTATION_PREFIX);
        assert_eq!(pod["metadata"]["annotations"][annotation], volume);
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["command"], json!(["/caios-agent"]));
        // Nothing but the injector tells it where the agent is.
        assert!(container["env"].is_null() && pod["spec"]["volumes"].is_null());
        let mut command = Command::new(binaries::agent());
        command.args(texts(&container["args"])).env_clear();
        let output = command.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(78), "{printed}");
        assert!(
            printed.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI is not set"),
            "{printed}"
        );
    }
}

/// The driver's container, where there is one.
fn driver(rendered: &Rendered) -> Option<&Value> {
    let containers = rendered.agent()["containers"].as_array().unwrap();
    containers.iter().find(|it| it["name"] == "csi")
}

#[test]
fn the_driver_understands_the_flags_of_its_container_and_is_where_the_kubelet_looks_for_it() {
    let enabled = Rendered::new(&["--set", LEAST, "--set", "csi.enabled=true"]);
    let container = driver(&enabled).unwrap();
    assert_eq!(container["command"], json!(["/caios-agent"]));
    let node = tempfile::tempdir().unwrap();
    let own = node.path().display().to_string();
    let kubelet = node.path().join("kubelet");
    // What its volumes make sure of.
    for volume in enabled.agent()["volumes"].as_array().unwrap() {
        let path = volume["hostPath"]["path"].as_str().unwrap_or_default();
        if let Some(path) = path.strip_prefix("/var/lib/kubelet/") {
            std::fs::create_dir_all(kubelet.join(path)).unwrap();
        }
    }
    let mut command = Command::new(binaries::agent());
    for flag in texts(&container["args"]) {
        let flag = flag.replace("/var/lib/kubelet", &kubelet.display().to_string());
        command.arg(flag.replace(contract::NODE_DIRECTORY, &own));
    }
    command.env_clear();
    let mut running = command.spawn().unwrap();
    let name = contract::CSI_DRIVER;
    let sockets = [
        kubelet.join(format!("plugins_registry/{name}-reg.sock")),
        kubelet.join(format!("plugins/{name}/csi.sock")),
    ];
    let published = wait::until("the driver is there", Duration::from_secs(10), || {
        sockets.iter().all(|socket| socket.exists())
    });
    running.kill().unwrap();
    running.wait().unwrap();
    published.unwrap();
    assert_eq!(driver(&Rendered::new(&["--set", LEAST])), None);
}

#[test]
fn the_driver_sees_what_it_needs_of_the_node_and_no_more() {
    let rendered = Rendered::new(&[&shape("everything")]);
    let container = driver(&rendered).unwrap();
    let mounts = json!([
        { "name": "node", "mountPath": contract::NODE_DIRECTORY, "readOnly": true },
        { "name": "kubelet-pods", "mountPath": "/data/kubelet/pods" },
        { "name": "kubelet-plugin", "mountPath": "/data/kubelet/plugins/csi.caios.coreweave.com" },
        { "name": "kubelet-registry", "mountPath": "/data/kubelet/plugins_registry" },
    ]);
    assert_eq!(container["volumeMounts"], mounts);
    // Root, and nothing else: what it may do is checked with that of all others.
    let security = &container["securityContext"];
    assert_eq!(
        (&security["runAsUser"], &security["runAsGroup"]),
        (&json!(0), &json!(0))
    );
    for volume in rendered.agent()["volumes"].as_array().unwrap() {
        let name = volume["name"].as_str().unwrap();
        if name.starts_with("kubelet-") {
            let mount = mounts
                .as_array()
                .unwrap()
                .iter()
                .find(|it| it["name"] == name);
            assert_eq!(volume["hostPath"]["path"], mount.unwrap()["mountPath"]);
        }
    }
    for other in rendered.agent()["containers"].as_array().unwrap() {
        let sees = other["volumeMounts"].to_string().contains("kubelet");
        assert_eq!(sees, other["name"] == "csi", "{}", other["name"]);
    }
}

#[test]
fn after_a_boot_an_agent_needs_nothing_that_other_pods_make() {
    let rendered = Rendered::new(&[&shape("everything")]);
    let mut paths = Vec::new();
    for volume in rendered.agent()["volumes"].as_array().unwrap() {
        let Some(path) = volume["hostPath"]["path"].as_str() else {
            continue;
        };
        // The kubelet makes both itself, before it starts a Pod.
        let is_there = ["pods", "plugins_registry"].map(|name| format!("/data/kubelet/{name}"));
        if !is_there.contains(&path.to_owned()) {
            assert_eq!(volume["hostPath"]["type"], "DirectoryOrCreate", "{path}");
        }
        paths.push(path);
    }
    assert!(paths.contains(&"/run/netns"), "{paths:?}");
}

#[test]
fn the_kubelet_brings_a_token_of_each_audience_that_the_agent_accepts() {
    let of = |values: &[&str], version: &str| {
        let mut arguments = vec!["--set", LEAST, "--set", "csi.enabled=true"];
        arguments.extend(values);
        arguments.extend(["--kube-version", version]);
        let rendered = Rendered::new(&arguments);
        rendered.object("CSIDriver", contract::CSI_DRIVER)["spec"].clone()
    };
    for (values, audiences) in [
        (&[][..], &[""][..]),
        (&["--set", "config.issuer=https://i"], &["https://i"]),
        (
            &[
                "--set",
                "config.audience=a,config.additionalAudiences={b,a}",
            ],
            &["a", "b"],
        ),
    ] {
        let requests = of(values, "1.34.0")["tokenRequests"].clone();
        let expected: Vec<_> = audiences
            .iter()
            .map(|audience| json!({ "audience": audience, "expirationSeconds": 86_400 }))
            .collect();
        assert_eq!(requests, json!(expected));
    }
    // A field of 1.35, which kubelets of before do not know.
    assert_eq!(
        of(&[], "1.34.9")["serviceAccountTokenInSecrets"],
        Value::Null
    );
    assert_eq!(
        of(&[], "1.35.0-eks-1")["serviceAccountTokenInSecrets"],
        true
    );
}

#[test]
fn paths_names_and_numbers_are_those_of_the_contract() {
    let rendered = Rendered::new(&["--set", LEAST]);
    let agent = rendered.agent();
    let node = json!({
        "name": "node",
        "hostPath": { "path": contract::NODE_DIRECTORY, "type": "DirectoryOrCreate" },
    });
    assert_eq!(agent["volumes"][0], node);
    for container in [
        &agent["initContainers"][0],
        &agent["containers"][0],
        &agent["containers"][1],
    ] {
        let mount = json!({ "name": "node", "mountPath": contract::NODE_DIRECTORY });
        assert_eq!(container["volumeMounts"][0], mount);
    }
    let private = &agent["containers"][0]["env"][2];
    let expected =
        json!({ "name": "CAIOS_AGENT_PRIVATE_DIRECTORY", "value": contract::PRIVATE_DIRECTORY });
    assert_eq!(*private, expected);
    let public = format!("--public-directory={}", contract::PUBLIC_DIRECTORY);
    let injector = &rendered.injector()["containers"][0];
    assert!(texts(&agent["containers"][0]["args"]).contains(&public.as_str()));
    assert!(texts(&injector["args"]).contains(&public.as_str()));
    let port = format!("--port={}", contract::DEFAULT_PORT);
    assert!(texts(&injector["args"]).contains(&port.as_str()));

    assert_eq!(
        agent["securityContext"]["supplementalGroups"],
        json!([contract::AGENT_ID])
    );
    for security in [
        &agent["containers"][0]["securityContext"],
        &agent["containers"][1]["securityContext"],
        &rendered.injector()["securityContext"],
    ] {
        assert_eq!(security["runAsUser"], contract::AGENT_ID);
        assert_eq!(security["runAsGroup"], contract::AGENT_ID);
        assert_eq!(security["runAsNonRoot"], true);
    }

    let webhooks = &rendered.object("MutatingWebhookConfiguration", "caios-injector")["webhooks"];
    let label = json!({ contract::REQUIRED_LABEL: "true" });
    assert_eq!(webhooks[0]["objectSelector"]["matchLabels"], label);
    let other = &webhooks[1]["objectSelector"]["matchExpressions"][0];
    let expected =
        json!({ "key": contract::REQUIRED_LABEL, "operator": "NotIn", "values": ["true"] });
    assert_eq!(*other, expected);
}

#[test]
fn no_container_has_a_privilege_but_one_that_is_asked_for_or_can_write_to_its_root() {
    for name in SHAPES {
        let rendered = Rendered::new(&[&shape(name)]);
        let test = rendered
            .find("Pod", "caios-helm-test")
            .map(|pod| &pod["spec"]);
        let csi = rendered.find("Pod", "caios-helm-test-csi");
        for pod in [rendered.agent(), rendered.injector()]
            .into_iter()
            .chain(test)
            .chain(csi.map(|pod| &pod["spec"]))
        {
            for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod[forbidden].is_null(), "{name}: {forbidden}");
            }
            assert_eq!(pod["automountServiceAccountToken"], false);
            assert_eq!(
                pod["securityContext"]["seccompProfile"]["type"],
                "RuntimeDefault"
            );
            let lists = [&pod["initContainers"], &pod["containers"]];
            for container in lists.iter().filter_map(|list| list.as_array()).flatten() {
                let security = &container["securityContext"];
                if container["name"] == "reattach" {
                    // The one exception, and only for who has asked for it.
                    assert_eq!(name, "everything");
                    let one = json!({ "drop": ["ALL"], "add": ["SYS_ADMIN"] });
                    assert_eq!(security["capabilities"], one);
                } else {
                    assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }));
                    assert_eq!(security["allowPrivilegeEscalation"], false);
                }
                assert_eq!(security["readOnlyRootFilesystem"], true);
                assert!(container["resources"]["requests"]["memory"].is_string());
                assert!(container["resources"]["limits"]["memory"].is_string());
            }
        }
    }
}

#[test]
fn only_containers_that_ask_the_api_server_have_a_token_for_it() {
    let has_token = |holder: &Value, list: &str| holder[list].to_string().contains("api-access");
    let usual = Rendered::new(&["--set", LEAST]);
    assert!(has_token(&usual.agent()["containers"][0], "volumeMounts"));
    for other in [
        &usual.agent()["initContainers"][0],
        &usual.agent()["containers"][1],
    ] {
        assert!(!has_token(other, "volumeMounts"));
    }
    assert!(has_token(
        &usual.injector()["containers"][0],
        "volumeMounts"
    ));

    // Keys from the issuer itself: nothing of the agent asks the API server.
    let without = Rendered::new(&[&shape("cert-manager")]);
    assert!(!has_token(without.agent(), "volumes"));
    assert!(!has_token(without.agent(), "containers"));
}

#[test]
fn the_grace_of_a_pod_is_longer_than_its_drain() {
    let values = "agent.handoverTimeout=30s,agent.drainTimeout=60s,injector.shutdownDelay=20s,injector.drainTimeout=30s";
    let rendered = Rendered::new(&["--set", LEAST, "--set", values]);
    assert_eq!(rendered.agent()["terminationGracePeriodSeconds"], 100);
    assert_eq!(rendered.injector()["terminationGracePeriodSeconds"], 55);
}
